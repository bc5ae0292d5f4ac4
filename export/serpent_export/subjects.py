"""Which graphs, at which sizes, the certificate of an export runs."""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx

from serpent.shapes import Range, ShapeProfile
from serpent_export.parity import ParitySubject
from serpent_export.rescale import check_same_but_shapes

MAX_PIXELS = 512 * 512
"""Pixels, batch included, up to which a static file is run as it is."""

_SMALL = (256, 256), (264, 512)
_OTHER_BATCH = 3  # a dynamic batch is traced at 2 (tracing.py): a graph stuck to 2 must not pass


def choose_subjects(
    model: onnx.ModelProto,
    profile: ShapeProfile,
    trace_at: Callable[[ShapeProfile], onnx.ModelProto],
    *,
    full_size: bool = False,
) -> tuple[list[ParitySubject], str]:
    """The certificate's subjects and their description.

    A static file of up to 512x512 pixels is run as it is. A larger one is replaced by the same graph at
    256x256 and 264x512 (in multiples of 8P, less for many pictures), proved equal but for its shape
    constants. A dynamic file runs as it is, at two sizes, one of them not square. A dynamic batch is run at
    its smallest size and at another one that it was not traced at. With ``full_size``, every file runs as it is.

    Args:
        model: the file.
        profile: its sizes.
        trace_at: exports the same network at another size.
        full_size: run no size outside the profile, however long PyTorch in f64 takes there.

    Raises:
        ParityError: the graph at another size differs in more than shape constants.
    """
    least = profile.batch.min
    other = least if profile.batch.is_static else max(least, min(_OTHER_BATCH, profile.batch.max or _OTHER_BATCH))
    if not (profile.height.is_static and profile.width.is_static):
        first, second = _dynamic_sizes(profile, full_size)
        return [ParitySubject(model, least, *first), ParitySubject(model, other, *second)], "this file"
    size = (profile.height.min, profile.width.min)
    if full_size or other * size[0] * size[1] <= MAX_PIXELS:
        batches = dict.fromkeys([least, other])
        return [ParitySubject(model, batch, *size) for batch in batches], "this file"
    shrink = math.sqrt(max(least, other))
    subjects = []
    for batch, sides in zip((least, other), _SMALL, strict=True):
        height, width = (_nearest(side / shrink, profile.multiple) for side in sides)
        small = trace_at(ShapeProfile(profile.batch, _static(height), _static(width), profile.multiple))
        check_same_but_shapes(model, small)
        subjects.append(ParitySubject(small, batch, height, width))
    return subjects, "the graph and constants of this file with the image size rewritten"


def _dynamic_sizes(profile: ShapeProfile, full_size: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two sizes near 256x256 and 264x512, the second not square where the profile allows it.

    A side with a range that begins above 512 takes a smaller size than that; a side without a range takes its own.
    """
    unit = profile.multiple
    first, (height, width) = (
        (_inside(profile.height, sides[0], unit, full_size), _inside(profile.width, sides[1], unit, full_size))
        for sides in _SMALL
    )
    if height == width or (height, width) == first:  # a narrow range: step aside within it
        steps = ((0, unit), (-unit, 0), (0, -unit), (unit, 0))
        found = [
            (height + down, width + right)
            for down, right in steps
            if _may_step(profile.height, height, down) and _may_step(profile.width, width, right)
        ]
        height, width = next((size for size in found if size[0] != size[1]), (height, width))
    return first, (height, width)


def _inside(side: Range, wanted: int, multiple: int, full_size: bool) -> int:
    if side.is_static:
        return side.min
    nearest = _nearest(wanted, multiple)
    if side.min**2 > MAX_PIXELS and not full_size:
        return nearest  # the graph takes any size; the profile's own would take too long in f64
    return min(max(nearest, side.min), side.max if side.max is not None else nearest)


def _may_step(side: Range, size: int, step: int) -> bool:
    return size + step >= side.min if step < 0 else side.max is None or size + step <= side.max


def _nearest(side: float, multiple: int) -> int:
    return max(1, round(side / multiple)) * multiple


def _static(side: int) -> Range:
    return Range(side, side, side)
