"""How the samples of a video frame lie in memory: the raw formats by FFmpeg's names, and y4m's."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serpent.errors import PictureError, UsageError


@dataclass(frozen=True)
class FrameFormat:
    """Where each sample of a frame is, and what it means.

    Attributes:
        colours: the components are RGB, YCbCr, or luma alone.
        bits: per sample; more than 8 lie in the lower bits of two bytes, the lower byte first.
        packed: the samples of a pixel stand together (of YCbCr: Cb and Cr do), else each component is a plane.
        order: where among them R, G and B stand.
        across: luma samples per chroma sample in a row.
        down: luma samples per chroma sample in a column.
        left: the first chroma sample's distance from the first luma sample, in luma samples.
        top: likewise, from above.
        full_range: black and white are the least and the greatest level; else those of ITU-R BT.709.
    """

    colours: Literal["rgb", "yuv", "gray"]
    bits: int = 8
    packed: bool = False
    order: tuple[int, int, int] = (0, 1, 2)
    across: int = 1
    down: int = 1
    left: float = 0.0
    top: float = 0.0
    full_range: bool = False

    @property
    def kind(self) -> np.dtype[Any]:
        """Of one sample."""
        return np.dtype("u1" if self.bits == 8 else "<u2")

    def samples(self, height: int, width: int) -> int:
        """How many samples a frame has; of subsampled chroma, a rest of a row or column has its own."""
        if self.colours == "yuv":
            return height * width + 2 * -(-height // self.down) * -(-width // self.across)
        return height * width * (3 if self.colours == "rgb" else 1)

    def components(self, frame: NDArray[Any], height: int, width: int) -> list[NDArray[Any]]:
        """Views of a frame's samples: R, G, B, or Y, Cb, Cr, or Y alone, each (rows, columns).

        Args:
            frame: all of its samples, (``samples(height, width)``,).
            height: of the frame, in pixels.
            width: of the frame, in pixels.
        """
        if self.colours == "gray":
            return [frame.reshape(height, width)]
        if self.colours == "rgb":
            colours = _components(frame, height, width, packed=self.packed)
            return [colours[place] for place in self.order]
        luma, chroma = np.split(frame, [height * width])
        rows, columns = -(-height // self.down), -(-width // self.across)
        return [luma.reshape(height, width), *_components(chroma, rows, columns, packed=self.packed)]


def _components(samples: NDArray[Any], rows: int, columns: int, *, packed: bool) -> list[NDArray[Any]]:
    if packed:
        return list(np.moveaxis(samples.reshape(rows, columns, -1), -1, 0))
    return list(samples.reshape(-1, rows, columns))


_DEEPER = (9, 10, 12, 14, 16)
_GRAY = FrameFormat("gray", full_range=True)  # as FFmpeg takes it, where nothing is said
_RGB = FrameFormat("rgb", packed=True)
_BGR = replace(_RGB, order=(2, 1, 0))
_GBR = FrameFormat("rgb", order=(2, 0, 1))
# Chroma lies on the left one of its luma samples, and between two rows: H.264's and H.265's default, and MPEG-2's.
_420 = FrameFormat("yuv", across=2, down=2, top=0.5)
_CENTRED = replace(_420, left=0.5)
_422 = FrameFormat("yuv", across=2)
_444 = FrameFormat("yuv")
_411 = FrameFormat("yuv", across=4)
_PLANAR = {"yuv420p": _420, "yuv422p": _422, "yuv444p": _444, "gbrp": _GBR, "gray": _GRAY}

RAW_FORMATS: dict[str, FrameFormat] = {
    "rgb24": _RGB,
    "bgr24": _BGR,
    "rgb48le": replace(_RGB, bits=16),
    "bgr48le": replace(_BGR, bits=16),
    "nv12": replace(_420, packed=True),
    "yuv411p": _411,
    "yuvj420p": replace(_CENTRED, full_range=True),
    "yuvj422p": replace(_422, left=0.5, full_range=True),
    "yuvj444p": replace(_444, full_range=True),
    **_PLANAR,
    **{f"{name}{bits}le": replace(kind, bits=bits) for name, kind in _PLANAR.items() for bits in _DEEPER},
}
"""By FFmpeg's names. Not here: samples in the upper bits (p010le), the higher byte first, palettes, transparency."""

_Y4M_DEEPER = {"420": _420, "422": _422, "444": _444}
Y4M_FORMATS: dict[str, FrameFormat] = {
    "420jpeg": _CENTRED,
    "420": _CENTRED,
    "420mpeg2": _420,
    "420paldv": replace(_420, top=0.0),
    "422": _422,
    "444": _444,
    "411": _411,
    "mono": _GRAY,
    **{f"{name}p{bits}": replace(kind, bits=bits) for name, kind in _Y4M_DEEPER.items() for bits in _DEEPER},
    **{f"mono{bits}": replace(_GRAY, bits=bits) for bits in _DEEPER},
}
"""By the header's tag C."""


def raw_format(name: str) -> FrameFormat:
    """A format of raw frames.

    Raises:
        UsageError: none that is taken.
    """
    form = RAW_FORMATS.get(name, RAW_FORMATS.get(f"{name}le"))  # FFmpeg takes yuv420p10 for the machine's own order
    if form is None:
        usual = ", ".join(name for name in RAW_FORMATS if not re.search(r"p\d+le|gray\d", name))
        hint = f"taken are {usual}; {', '.join(_PLANAR)} with 9, 10, 12, 14 and 16 bits, too (yuv420p10le)"
        raise UsageError(f"raw frames of format {name!r} are not taken", hint=hint)
    return form


def y4m_format(tag: str, colour_range: str | None) -> FrameFormat:
    """A format that a y4m header names.

    Args:
        tag: the header's C.
        colour_range: the header's XCOLORRANGE, FULL or LIMITED.

    Raises:
        PictureError: none that is taken.
    """
    if tag not in Y4M_FORMATS:
        hint = f"taken are {', '.join(f'C{name}' for name in Y4M_FORMATS)}"
        raise PictureError(f"y4m frames of format C{tag} are not taken", hint=hint)
    form = Y4M_FORMATS[tag]
    return form if colour_range is None else replace(form, full_range=colour_range == "FULL")
