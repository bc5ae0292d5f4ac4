"""Pictures as a page shows them: small enough, 8 bits, and how two of them differ."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serpent.pictures.compare import check_same_size, views
from serpent.pictures.picture import Metadata, Picture
from serpent.pictures.resize import resized

PREVIEW_PIXELS = 4_000_000
"""A preview has no more pixels."""
PREVIEW_SIDE = 8192
"""No side of a preview is longer: browsers draw what is longer coarsely or not at all."""

_SEEN_SHARE = 99.9
"""Percentile of the differences that amplification brings up to white at most."""
_MOST_AMPLIFICATION = 64


@dataclass(frozen=True, eq=False)
class Difference:
    """How far a picture is from another.

    Attributes:
        pixels: (h, w, 3) float32 in [0, 1], |a - b| per channel, reduced like a preview. Of transparent pictures, the
            larger one of the differences on white and on black.
        mean: over every value, at full size.
        largest: of all values.
        usual: what all but one in a thousand values stay below.
    """

    pixels: NDArray[np.float32]
    mean: float
    largest: float
    usual: float


def preview(picture: Picture) -> Picture:
    """The picture for a page: 8 bits, reduced where it must be, and of its metadata the colour profile alone."""
    height, width, _ = picture.pixels.shape
    scale = min(math.sqrt(PREVIEW_PIXELS / (width * height)), PREVIEW_SIDE / max(width, height))
    bare = dataclasses.replace(picture, bits=8, metadata=Metadata(icc=picture.metadata.icc), jpeg=None, notes=())
    if scale >= 1:
        return bare
    return resized(bare, f"{max(1, int(width * scale))}x{max(1, int(height * scale))}")


def difference(a: Picture, b: Picture) -> Difference:
    """|a - b|, in the pictures' own encoding.

    Raises:
        PictureError: the sizes differ.
    """
    check_same_size(a, b)
    transparent = a.alpha is not None or b.alpha is not None
    apart = np.abs(views(a, transparent=transparent) - views(b, transparent=transparent)).max(axis=0)
    return Difference(
        preview(Picture(apart)).pixels,
        mean=float(apart.mean(dtype=np.float64)),
        largest=float(apart.max()),
        usual=float(np.percentile(apart, _SEEN_SHARE)),
    )


def amplification(differences: Sequence[Difference]) -> int:
    """A power of two, 1 to 64, that makes differences visible and clips one value in a thousand at most.

    One factor for all of them, so that they can be compared.
    """
    factor = _MOST_AMPLIFICATION
    while factor > 1 and factor * max(each.usual for each in differences) > 1:
        factor //= 2
    return factor
