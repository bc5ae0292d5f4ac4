"""A decoded picture and what its file says beyond the pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serpent.errors import PictureError

MAX_PIXELS = 300_000_000
"""Larger pictures are refused before anything is allocated, unless the caller raises the limit."""

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


def check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture by what its header says.

    Raises:
        PictureError: more than ``max_pixels`` pixels.
    """
    if width * height > max_pixels:
        raise PictureError(
            f"{path} says it has {width}x{height} pixels, {width * height / 1e6:.0f} million; "
            f"the limit is {max_pixels / 1e6:.0f} million",
            hint="if the picture is genuine, raise the limit (--max-pixels)",
        )


def split_channels(
    samples: NDArray[np.float32],
    bits: int,
    metadata: Metadata,
    jpeg: JpegCoding | None = None,
    notes: tuple[str, ...] = (),
) -> Picture:
    """Colour and alpha of (H, W, 1 to 4) samples in [0, 1], as a picture."""
    channels = samples.shape[-1]
    gray = channels < 3
    color = np.repeat(samples[..., :1], 3, axis=-1) if gray else np.ascontiguousarray(samples[..., :3])
    alpha = np.ascontiguousarray(samples[..., -1]) if channels in (2, 4) else None
    return Picture(color, alpha, gray, bits, metadata, jpeg, notes)
