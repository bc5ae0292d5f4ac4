"""Blur: kernels, and their convolution with pictures, reflected at the border."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def gaussian_kernel(size: int, sigma: float) -> NDArray[np.float32]:
    """Samples of a Gaussian that sum to 1: (size,) float32, ``size`` odd, ``sigma`` in pixels."""
    offsets = np.arange(size) - size // 2
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return np.asarray(weights / weights.sum(), np.float32)


def line_kernel(length: float, angle: float) -> NDArray[np.float32]:
    """What a point becomes under straight motion: (S, S) float32, S odd, sum 1.

    Args:
        length: of the motion, pixels.
        angle: its direction, radians.
    """
    reach = math.ceil(length / 2)
    kernel = np.zeros((2 * reach + 3, 2 * reach + 3))
    steps = np.linspace(-length / 2, length / 2, 8 * reach + 1)
    y, x = steps * math.sin(angle) + reach + 1, steps * math.cos(angle) + reach + 1
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    # Each point of the path is shared out to the four pixels around it.
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (y - top)) * np.abs(1 - right - (x - left))
            np.add.at(kernel, (top + down, left + right), share)
    return np.asarray(kernel / kernel.sum(), np.float32)


def separable(picture: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convolve along H and along W with one symmetric kernel.

    Args:
        picture: (H, W, C) float32.
        kernel: (S,) float32, S odd, symmetric.

    Returns:
        (H, W, C) float32.
    """
    for axis in (0, 1):
        reach, length = len(kernel) // 2, picture.shape[axis]
        padded = reflected(picture, reach, (axis,))
        picture = kernel[reach] * _window(padded, reach, length, axis)
        for offset in range(1, reach + 1):
            pair = _window(padded, reach - offset, length, axis) + _window(padded, reach + offset, length, axis)
            picture += kernel[reach + offset] * pair
    return picture


def convolve(picture: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convolve with a kernel of few entries other than 0.

    Args:
        picture: (H, W, C) float32.
        kernel: (S, S) float32, S odd.

    Returns:
        (H, W, C) float32.
    """
    reach = len(kernel) // 2
    height, width, _ = picture.shape
    padded = reflected(picture, reach)
    result = np.zeros_like(picture)
    for y, x in np.argwhere(kernel):
        rows = _window(padded, 2 * reach - int(y), height, 0)
        result += kernel[y, x] * _window(rows, 2 * reach - int(x), width, 1)
    return result


def reflected(picture: NDArray[np.float32], reach: int, axes: tuple[int, ...] = (0, 1)) -> NDArray[np.float32]:
    """Enlarge (H, W, C) by ``reach`` pixels at both ends of each axis, reflected about the outermost pixels."""
    for axis in axes:
        widths = [(0, 0)] * picture.ndim
        widths[axis] = (reach, reach)
        # numpy reflects again and again where the picture is smaller than the reach.
        picture = np.pad(picture, widths, mode="reflect" if picture.shape[axis] > 1 else "edge")
    return picture


def _window(padded: NDArray[np.float32], start: int, length: int, axis: int) -> NDArray[np.float32]:
    return padded[start : start + length] if axis == 0 else padded[:, start : start + length]
