"""A picture beside another, and how close they are to a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serpent.errors import PictureError
from serpent.metrics import SSIM_WINDOW, psnr, ssim

GAP = 8
"""Pixels of white between pictures."""


@dataclass(frozen=True)
class Closeness:
    """How close a picture is to its reference.

    Attributes:
        psnr: decibels, infinite where they are equal.
        ssim: at most 1; None for pictures smaller than its window.
    """

    psnr: float
    ssim: float | None

    def __str__(self) -> str:
        return f"PSNR {self.psnr:.2f} dB" + ("" if self.ssim is None else f", SSIM {self.ssim:.4f}")


def closeness(reference: NDArray[np.float32], pixels: NDArray[np.float32]) -> Closeness:
    """PSNR and SSIM over the whole picture, data range 1.

    Args:
        reference: (H, W, 3) float32 in [0, 1].
        pixels: the same.

    Raises:
        PictureError: the sizes differ.
    """
    if reference.shape != pixels.shape:
        height, width, _ = reference.shape
        raise PictureError(
            f"the reference has {width}x{height} pixels, the picture {pixels.shape[1]}x{pixels.shape[0]}"
        )
    large = min(pixels.shape[:2]) >= SSIM_WINDOW
    return Closeness(psnr(reference, pixels), ssim(reference, pixels) if large else None)


def side_by_side(pictures: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Pictures of one height next to each other, (H, sum of W and gaps, 3) float32."""
    gap = np.ones((pictures[0].shape[0], GAP, 3), dtype=np.float32)
    parts = [part for picture in pictures for part in (picture, gap)]
    return np.concatenate(parts[:-1], axis=1)
