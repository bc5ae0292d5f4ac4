"""Which graphs, at which sizes, the certificate of an export runs."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from serpent.shapes import Range, ShapeProfile
from serpent_export.parity import ParitySubject
from serpent_export.rescale import check_same_but_shapes

MAX_PIXELS = 512 * 512
_SMALL = (256, 256), (264, 512)


def choose_subjects(
    model: onnx.ModelProto, profile: ShapeProfile, trace_at: Callable[[ShapeProfile], onnx.ModelProto]
) -> tuple[list[ParitySubject], str]:
    """The certificate's subjects and their description.

    A static file up to 512x512 is run as it is. A larger one is replaced by the same graph at 256x256 and
    264x512 (in multiples of 8P), proved equal but for its shape constants. A dynamic file runs as it is, at
    two sizes other than the traced one.

    Args:
        model: the file.
        profile: its sizes.
        trace_at: exports the same network at another size.

    Raises:
        ParityError: the graph at another size differs in more than shape constants.
    """
    batch = profile.batch.min
    sides = (profile.height, profile.width)
    if all(side.is_static for side in sides):
        height, width = profile.height.min, profile.width.min
        if height * width <= MAX_PIXELS:
            return [ParitySubject(model, _second_batch(profile), height, width)], "this file"
        sizes = [tuple(_nearest(side, profile.multiple) for side in size) for size in _SMALL]
        subjects = []
        for small_height, small_width in sizes:
            small = trace_at(ShapeProfile(profile.batch, _static(small_height), _static(small_width), profile.multiple))
            check_same_but_shapes(model, small)
            subjects.append(ParitySubject(small, _second_batch(profile), small_height, small_width))
        return subjects, "the graph and constants of this file with the image size rewritten"
    # The traced sizes are 3 and 5 times 8P (tracing.py); neither pair below equals them.
    first = (
        _inside(profile.height, _SMALL[0][0], profile.multiple),
        _inside(profile.width, _SMALL[0][1], profile.multiple),
    )
    second = (
        _inside(profile.height, _SMALL[1][0], profile.multiple),
        _inside(profile.width, _SMALL[1][1], profile.multiple),
    )
    subjects = [ParitySubject(model, batch, *first)]
    if second != first or _second_batch(profile) != batch:
        subjects.append(ParitySubject(model, _second_batch(profile), *second))
    return subjects, "this file"


def _second_batch(profile: ShapeProfile) -> int:
    """Two pictures where the profile takes them: a mistake across the batch shows."""
    at_most = profile.batch.max if profile.batch.max is not None else 2
    return max(profile.batch.min, min(2, at_most))


def _static(side: int) -> Range:
    return Range(side, side, side)


def _nearest(side: int, multiple: int) -> int:
    return max(1, round(side / multiple)) * multiple


def _inside(side: Range, wanted: int, multiple: int) -> int:
    upper = side.max if side.max is not None else wanted
    return (
        min(max(_nearest(wanted, multiple), side.min), upper)
        if side.min**2 <= MAX_PIXELS
        else _nearest(wanted, multiple)
    )
