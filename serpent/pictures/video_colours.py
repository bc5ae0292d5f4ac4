"""A video frame's samples as RGB, and back: ITU-R BT.601, 709 and 2020 in float, chroma resampled by FFmpeg.

FFmpeg's own conversion to RGB is off by a level here and there; only its resampling of chroma is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import VideoFrame

# Weights of red and blue in luma, by the number of the matrix (ITU-T H.273, table 4).
_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
_UNKNOWN = 1
"""BT.709, where the stream does not say."""
_FULL_RANGE = 2


def to_rgb(frame: VideoFrame) -> NDArray[np.float32]:
    """(H, W, 3) float32 in [0, 1], clipped.

    Args:
        frame: of any planar YUV, gray or packed RGB format of up to 16 bits.
    """
    if frame.format.is_rgb:
        deep = frame.format.components[0].bits > 8
        packed = frame.reformat(format="rgb48le" if deep else "rgb24").to_ndarray()
        return packed.astype(np.float32) / np.float32(65535 if deep else 255)
    bits = frame.format.components[0].bits
    foot, luma_span, chroma_span, middle = _levels(bits, frame)
    y = (_plane(frame, 0, bits) - foot) / luma_span
    if len(frame.format.components) == 1:
        return np.clip(np.repeat(y[..., None], 3, axis=-1), 0, 1).astype(np.float32)
    whole = frame if not _is_subsampled(frame) else frame.reformat(format=_unsampled(bits))
    cb, cr = ((_plane(whole, index, bits) - middle) / chroma_span for index in (1, 2))
    kr, kb = _WEIGHTS.get(int(frame.colorspace), _WEIGHTS[_UNKNOWN])
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue], axis=-1), 0, 1).astype(np.float32)


def from_rgb(pixels: NDArray[np.float32], like: VideoFrame) -> VideoFrame:
    """A frame in the format of ``like``, rounded to nearest.

    Args:
        pixels: (H, W, 3) float32 RGB, clipped to [0, 1].
        like: a frame of the same size.
    """
    import av

    values = np.clip(pixels, 0, 1).astype(np.float64)
    if like.format.is_rgb:
        deep = like.format.components[0].bits > 8
        levels: NDArray[Any] = np.rint(values * (65535 if deep else 255)).astype(np.uint16 if deep else np.uint8)
        packed = av.VideoFrame.from_ndarray(levels, format="rgb48le" if deep else "rgb24")
        return packed.reformat(format=like.format.name)
    bits = like.format.components[0].bits
    foot, luma_span, chroma_span, middle = _levels(bits, like)
    kr, kb = _WEIGHTS.get(int(like.colorspace), _WEIGHTS[_UNKNOWN])
    red, green, blue = np.moveaxis(values, -1, 0)
    y = kr * red + (1 - kr - kb) * green + kb * blue
    luma = y * luma_span + foot
    if len(like.format.components) == 1:
        frame = av.VideoFrame(like.width, like.height, like.format.name)
        _fill(frame, 0, luma, bits)
        return frame
    frame = av.VideoFrame(like.width, like.height, _unsampled(bits) if _is_subsampled(like) else like.format.name)
    _fill(frame, 0, luma, bits)
    _fill(frame, 1, (blue - y) / (2 * (1 - kb)) * chroma_span + middle, bits)
    _fill(frame, 2, (red - y) / (2 * (1 - kr)) * chroma_span + middle, bits)
    if _is_subsampled(like):
        frame = frame.reformat(format=like.format.name)
        _fill(frame, 0, luma, bits)
    return frame


def _levels(bits: int, frame: VideoFrame) -> tuple[float, float, float, float]:
    """Black, the spans of luma and chroma, and the middle of chroma, in levels (ITU-T H.273, 8.3)."""
    scale = 2.0 ** (bits - 8)
    if frame.color_range == _FULL_RANGE:
        return 0.0, 2.0**bits - 1, 2.0**bits - 1, 2.0 ** (bits - 1)
    return 16 * scale, 219 * scale, 224 * scale, 2.0 ** (bits - 1)


def _is_subsampled(frame: VideoFrame) -> bool:
    return len(frame.planes) > 1 and (frame.planes[1].width, frame.planes[1].height) != (frame.width, frame.height)


def _unsampled(bits: int) -> str:
    return "yuv444p" if bits == 8 else f"yuv444p{bits}le"


def _kind(bits: int) -> np.dtype[Any]:
    return np.dtype("u1" if bits == 8 else "<u2")


def _plane(frame: VideoFrame, index: int, bits: int) -> NDArray[np.float64]:
    plane = frame.planes[index]
    rows = np.frombuffer(bytes(plane), _kind(bits)).reshape(plane.height, -1)
    return np.asarray(rows[:, : plane.width], dtype=np.float64)


def _fill(frame: VideoFrame, index: int, levels: NDArray[np.float64], bits: int) -> None:
    plane, kind = frame.planes[index], _kind(bits)
    rows = np.zeros((plane.height, plane.line_size // kind.itemsize), kind)
    rows[:, : plane.width] = np.rint(np.clip(levels, 0, 2**bits - 1))
    plane.update(rows.tobytes())
