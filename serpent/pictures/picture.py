"""A decoded picture and what its file says beyond the pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

USUAL_RESOLUTION = 72.0
"""Pixels per inch that programs assume of a file that says nothing, and that are written where nothing is known."""

MILLIMETRES_PER_INCH = 25.4


@dataclass(frozen=True)
class Metadata:
    """What travels beside the pixels, byte for byte as the file had it.

    Attributes:
        icc: ICC profile of the colours.
        exif: EXIF block; its orientation is set to upright where it is written.
        xmp: XMP packet.
        resolution: pixels per inch, (horizontal, vertical); None for the usual 72.
        iptc: what an APP13 segment of JPEG holds, IPTC-IIM in most cases.
        text: (keyword, text) of PNG; a comment of JPEG or GIF has the keyword "Comment".
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    resolution: tuple[float, float] | None = None
    iptc: bytes | None = None
    text: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True)
class JpegCoding:
    """How a JPEG file was compressed.

    Attributes:
        quality: 1 to 100 on the scale of the Independent JPEG Group, estimated from its tables.
        subsampling: "4:4:4", "4:2:2", "4:2:0" and so on.
    """

    quality: int
    subsampling: str


@dataclass(frozen=True)
class Picture:
    """A picture in memory.

    Attributes:
        pixels: (H, W, 3) float32, upright, in [0, 1] of the picture's own encoding (no colour management).
        alpha: (H, W) float32 in [0, 1], 0 transparent; None where the file has no transparency.
        gray: the three channels are equal, and the file had one.
        bits: bits per sample in the file, 32 for float.
        metadata: what travels along.
        jpeg: how the file was compressed, if it was a JPEG.
        notes: one-line remarks on what of the file is not in here.
        alone: the file has no further frames or pages.
    """

    pixels: NDArray[np.float32]
    alpha: NDArray[np.float32] | None = None
    gray: bool = False
    bits: int = 8
    metadata: Metadata = field(default_factory=Metadata)
    jpeg: JpegCoding | None = None
    notes: tuple[str, ...] = ()
    alone: bool = True
