"""A picture beside another, and how close they are to a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serpent.errors import PictureError
from serpent.metrics import SSIM_WINDOW, psnr, ssim
from serpent.pictures.picture import Metadata, Picture

GAP = 8
"""Pixels of white between pictures."""


@dataclass(frozen=True)
class Closeness:
    """How close a picture is to its reference.

    Attributes:
        psnr: decibels, infinite where they are equal.
        ssim: at most 1; None for pictures smaller than its window.
        grounds: what transparent pictures were laid on, "white and black"; None for opaque ones.
    """

    psnr: float
    ssim: float | None
    grounds: str | None = None

    def __str__(self) -> str:
        figures = f"PSNR {self.psnr:.2f} dB" + ("" if self.ssim is None else f", SSIM {self.ssim:.4f}")
        return figures if self.grounds is None else f"{figures} (over {self.grounds})"


def closeness(reference: Picture, picture: Picture) -> Closeness:
    """PSNR and SSIM of what is seen of a picture, data range 1.

    Opaque pictures are measured over their colours. Where one of them has transparency, both are laid on white and on
    black, and the figures are over the two views together: so colours count as far as they show, an error of the
    transparency counts wherever it is, and colours that nobody sees do not count.

    Raises:
        PictureError: the sizes differ.
    """
    check_same_size(reference, picture)
    transparent = reference.alpha is not None or picture.alpha is not None
    seen, expected = views(picture, transparent=transparent), views(reference, transparent=transparent)
    large = min(seen.shape[1:3]) >= SSIM_WINDOW
    return Closeness(
        psnr(expected, seen), ssim(expected, seen) if large else None, "white and black" if transparent else None
    )


def check_same_size(reference: Picture, picture: Picture) -> None:
    """Insist on as many pixels in both directions.

    Raises:
        PictureError: the sizes differ.
    """
    (height, width, _), found = reference.pixels.shape, picture.pixels.shape
    if (height, width) != found[:2]:
        raise PictureError(f"the reference has {width}x{height} pixels, the picture {found[1]}x{found[0]}")


def views(picture: Picture, *, transparent: bool) -> NDArray[np.float32]:
    """What is seen of a picture: (1, H, W, 3) float32 or, on white and on black, (2, H, W, 3)."""
    if not transparent:
        return picture.pixels[None]
    alpha = np.float32(1) if picture.alpha is None else picture.alpha[..., None]
    on_black = picture.pixels * alpha
    return np.stack([on_black + (1 - alpha), on_black])


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Pictures of one height next to each other, W wide and gaps between.

    Transparency stays; so does a colour profile that all of them have.
    """
    height = pictures[0].pixels.shape[0]
    gap = Picture(np.ones((height, GAP, 3), dtype=np.float32))
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    pixels = np.concatenate([part.pixels for part in parts], axis=1)
    alpha = None
    if any(picture.alpha is not None for picture in pictures):
        alphas = [np.ones(p.pixels.shape[:2], dtype=np.float32) if p.alpha is None else p.alpha for p in parts]
        alpha = np.concatenate(alphas, axis=1)
    profiles = {picture.metadata.icc for picture in pictures}
    return Picture(
        pixels,
        alpha,
        gray=all(picture.gray for picture in pictures),
        bits=max(picture.bits for picture in pictures),
        metadata=Metadata(icc=profiles.pop() if len(profiles) == 1 else None),
    )
