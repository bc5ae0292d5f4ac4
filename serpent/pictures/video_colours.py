"""A video frame's samples as RGB, and what was changed in RGB as samples: ITU-R BT.709 in float.

Only the change goes back into the samples. So what RGB in [0, 1] or resampled chroma cannot hold stays as it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent.pictures.video_formats import FrameFormat

_RED, _GREEN, _BLUE = 0.2126, 0.7152, 0.0722
_CB, _CR = 2 * (1 - _BLUE), 2 * (1 - _RED)


def to_rgb(components: list[NDArray[Any]], form: FrameFormat) -> NDArray[np.float32]:
    """(H, W, 3) float32 in [0, 1], clipped; subsampled chroma is interpolated linearly.

    Args:
        components: of a frame, as :meth:`FrameFormat.components` gives them.
        form: the frame's format.
    """
    if form.colours == "rgb":
        return np.stack(components, axis=-1).astype(np.float32) / np.float32(2**form.bits - 1)
    foot, luma_span, chroma_span = _levels(form)
    y = (components[0] - foot) / luma_span
    if form.colours == "gray":
        return np.clip(np.repeat(y[..., None], 3, axis=-1), 0, 1).astype(np.float32)
    middle = 2.0 ** (form.bits - 1)
    cb, cr = ((_finer(plane, form, y.shape) - middle) / chroma_span for plane in components[1:])
    red, blue = y + _CR * cr, y + _CB * cb
    green = (y - _RED * red - _BLUE * blue) / _GREEN
    return np.clip(np.stack([red, green, blue], axis=-1), 0, 1).astype(np.float32)


def add_change(components: list[NDArray[Any]], change: NDArray[np.float32], form: FrameFormat) -> None:
    """Add what was changed in RGB to a frame's samples, in place; rounded to nearest.

    Args:
        components: as for :func:`to_rgb`.
        change: (H, W, 3) float32, RGB, of :func:`to_rgb`'s unit.
        form: the frame's format.
    """
    red, green, blue = np.moveaxis(change.astype(np.float64), -1, 0)
    _, luma_span, chroma_span = _levels(form)
    if form.colours == "rgb":
        changes = [each * (2**form.bits - 1) for each in (red, green, blue)]
    else:
        y = _RED * red + _GREEN * green + _BLUE * blue
        changes = [y * luma_span]
        if form.colours == "yuv":
            changes += [_coarser(each * chroma_span, form) for each in ((blue - y) / _CB, (red - y) / _CR)]
    for samples, added in zip(components, changes, strict=True):
        samples[...] = np.rint(np.clip(samples + added, 0, 2**form.bits - 1))


def _levels(form: FrameFormat) -> tuple[float, float, float]:
    """Black, and the spans of luma and of chroma, in levels (ITU-T H.273, 8.3)."""
    if form.full_range:
        return 0.0, 2.0**form.bits - 1, 2.0**form.bits - 1
    scale = 2.0 ** (form.bits - 8)
    return 16 * scale, 219 * scale, 224 * scale


def _finer(plane: NDArray[Any], form: FrameFormat, shape: tuple[int, ...]) -> NDArray[np.float64]:
    rows = _interpolated(plane.astype(np.float64), form.across, form.left, shape[1])
    return _interpolated(rows.T, form.down, form.top, shape[0]).T


def _coarser(plane: NDArray[np.float64], form: FrameFormat) -> NDArray[np.float64]:
    return _averaged(_averaged(plane, form.across, form.left).T, form.down, form.top).T


def _interpolated(rows: NDArray[np.float64], step: int, first: float, length: int) -> NDArray[np.float64]:
    """Rows of ``length`` samples from every ``step``-th one, beginning at ``first``; the ends go on beyond."""
    if step == 1:
        return rows
    place = (np.arange(length) - first) / step
    before = np.floor(place).astype(int)
    share = place - before
    between: NDArray[np.float64] = rows.take(before, 1, mode="clip") * (1 - share)
    between += rows.take(before + 1, 1, mode="clip") * share
    return between


def _averaged(rows: NDArray[np.float64], step: int, first: float) -> NDArray[np.float64]:
    """Means under the triangles by which :func:`_interpolated` spreads every ``step``-th sample from ``first`` on."""
    if step == 1:
        return rows
    middles = step * np.arange(-(-rows.shape[1] // step))
    near = [place for place in range(-step, 2 * step) if abs(place - first) < step]
    means = np.zeros((len(rows), len(middles)))
    for place in near:
        means += (1 - abs(place - first) / step) / step * rows.take(middles + place, 1, mode="clip")
    return means
