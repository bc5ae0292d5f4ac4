"""Colours for pixels that nobody sees, so that a network does not smear what lies there into what is seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fill_hidden(pixels: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace the colours of fully transparent pixels by those of the nearest visible surroundings.

    Pull and push over an image pyramid (Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4): visible colours,
    weighted with their alpha, are averaged 2 x 2 up to a single pixel, and come down again into the gaps.

    Args:
        pixels: (H, W, 3) float32.
        alpha: (H, W) float32 in [0, 1].

    Returns:
        (H, W, 3) float32; visible pixels as they were. A picture without a visible pixel becomes mid-gray.
    """
    hidden = alpha == 0
    if not hidden.any():
        return pixels
    if hidden.all():
        return np.full_like(pixels, 0.5)
    filled = _fill(pixels * alpha[..., None], alpha)
    result: NDArray[np.float32] = np.where(hidden[..., None], filled, pixels)
    return result


def _fill(weighted: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean colour around every pixel, (H, W, 3), of colours times weights and weights."""
    height, width = weight.shape
    if height == 1 and width == 1:
        return weighted / weight[..., None]
    coarse = _fill(_halve(weighted), _halve(weight[..., None])[..., 0])
    surroundings = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    known = weight > 0
    filled: NDArray[np.float32] = np.where(
        known[..., None], weighted / np.where(known, weight, np.float32(1))[..., None], surroundings
    )
    return filled


def _halve(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of 2 x 2 blocks, (H, W, C) to (ceil(H / 2), ceil(W / 2), C); zeros beyond the border."""
    height, width, channels = values.shape
    even = np.zeros((height + height % 2, width + width % 2, channels), dtype=values.dtype)
    even[:height, :width] = values
    means: NDArray[np.float32] = even.reshape(even.shape[0] // 2, 2, -1, 2, channels).mean(axis=(1, 3))
    return means
