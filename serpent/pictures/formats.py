"""What each picture format can hold: the one table that reading, writing and the documentation go by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Carried = Literal["ICC profile", "EXIF", "XMP", "IPTC", "text", "resolution"]
Library = Literal["vips", "oiio"]
Choice = Literal["quality", "subsampling", "lossless", "lossy"]

FLOAT_DEPTH = 32
"""Bits per sample of float pictures; smaller depths are integers."""


@dataclass(frozen=True)
class Format:
    """A format that can be written.

    Attributes:
        name: as people say it.
        suffixes: of its files, lower case, the usual one first.
        depths: bits per sample it can store, ascending; :data:`FLOAT_DEPTH` is float.
        alpha: whether it stores transparency.
        gray: whether it stores one channel as such.
        carries: metadata that the writing library puts into it.
        library: which library writes it.
        lossless: whether it gives back what was written unless asked otherwise.
        choices: of an encoding that make a difference, or say what it does anyway.
        max_side: pixels that its height and width may have at most; None where memory ends first.
    """

    name: str
    suffixes: tuple[str, ...]
    depths: tuple[int, ...]
    alpha: bool
    gray: bool
    carries: frozenset[Carried]
    library: Library = "vips"
    lossless: bool = True
    choices: frozenset[Choice] = frozenset({"lossless"})
    max_side: int | None = None

    def depth_for(self, bits: int) -> int:
        """The smallest depth that holds samples of ``bits`` bits, or the largest there is."""
        return next((depth for depth in self.depths if depth >= bits), self.depths[-1])


_USUAL: frozenset[Carried] = frozenset({"ICC profile", "EXIF", "XMP"})

FORMATS: tuple[Format, ...] = (
    Format("PNG", (".png",), (8, 16), alpha=True, gray=True, carries=_USUAL | {"text", "resolution"}),
    Format(
        "JPEG",
        (".jpg", ".jpeg", ".jpe"),
        (8,),
        alpha=False,
        gray=True,
        carries=_USUAL | {"IPTC", "resolution"},
        lossless=False,
        choices=frozenset({"quality", "subsampling", "lossy"}),
        max_side=65500,  # libjpeg's, a little below what the header can say
    ),
    Format(
        "TIFF",
        (".tif", ".tiff"),
        (8, 16, FLOAT_DEPTH),
        alpha=True,
        gray=True,
        carries=_USUAL | {"resolution"},
    ),
    Format(
        "WebP",
        (".webp",),
        (8,),
        alpha=True,
        gray=False,
        carries=_USUAL,
        choices=frozenset({"quality", "lossless", "lossy"}),
        max_side=16383,
    ),
    Format(
        "AVIF",
        (".avif",),
        (8, 10, 12),
        alpha=True,
        gray=False,
        carries=_USUAL,
        lossless=False,
        choices=frozenset({"quality", "subsampling", "lossless", "lossy"}),
        max_side=16384,  # libvips'
    ),
    Format("PPM", (".ppm", ".pnm"), (8, 16), alpha=False, gray=False, carries=frozenset(), library="oiio"),
    Format("PGM", (".pgm",), (8, 16), alpha=False, gray=True, carries=frozenset(), library="oiio"),
    Format("PFM", (".pfm",), (FLOAT_DEPTH,), alpha=False, gray=True, carries=frozenset(), library="oiio"),
    Format("BMP", (".bmp",), (8,), alpha=False, gray=False, carries=frozenset(), library="oiio"),
)
"""Every format that can be written; all can be read."""


def format_of(path: Path) -> Format | None:
    """The format that the suffix of ``path`` names, or None."""
    suffix = path.suffix.lower()
    return next((each for each in FORMATS if suffix in each.suffixes), None)


def known_suffixes() -> Iterator[str]:
    """Every suffix that can be written, in the order of :data:`FORMATS`."""
    for each in FORMATS:
        yield from each.suffixes
