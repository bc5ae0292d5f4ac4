"""Enlarge pictures to a size that a network accepts, and cut the result back.

Pixels are added at the bottom and on the right, so a pixel keeps its coordinates: reflected about the last
row (without repeating it) as far as reflection goes, then the outermost reflected row repeated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent.errors import ArgumentError


def round_up(side: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is at least ``side``, in pixels."""
    return -(-side // multiple) * multiple


def pad(images: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Enlarge pictures to ``height`` x ``width``: reflect, then edge.

    Args:
        images: (H, W, C) or (B, H, W, C), any dtype; H and W at least 1.
        height: wanted H in pixels, no smaller than now.
        width: wanted W in pixels, no smaller than now.

    Returns:
        (height, width, C) or (B, height, width, C) of the same dtype; a copy unless nothing changes.

    Raises:
        ArgumentError: wrong rank, an empty picture, or a wanted size below the present one.
    """
    old_height, old_width = _sides(images)
    if height < old_height or width < old_width:
        raise ArgumentError(f"cannot pad {old_height}x{old_width} to {height}x{width} pixels, which is smaller")
    if height > old_height:
        images = images.take(_reflect_then_edge(old_height, height), axis=-3)
    if width > old_width:
        images = images.take(_reflect_then_edge(old_width, width), axis=-2)
    return images


def crop(images: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Undo :func:`pad`: keep the top left ``height`` x ``width`` pixels.

    Args:
        images: (H, W, C) or (B, H, W, C), any dtype.
        height: wanted H in pixels, from 1 to the present one.
        width: wanted W in pixels, from 1 to the present one.

    Returns:
        A view (height, width, C) or (B, height, width, C).

    Raises:
        ArgumentError: wrong rank, an empty picture, or a wanted size that is not within the present one.
    """
    old_height, old_width = _sides(images)
    if not (1 <= height <= old_height and 1 <= width <= old_width):
        raise ArgumentError(f"cannot crop {old_height}x{old_width} to {height}x{width} pixels")
    return images[..., :height, :width, :]


def _sides(images: NDArray[Any]) -> tuple[int, int]:
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ArgumentError(f"images has shape {images.shape}; expected (H, W, C) or (B, H, W, C), none of them 0")
    return images.shape[-3], images.shape[-2]


def _reflect_then_edge(old: int, new: int) -> NDArray[np.intp]:
    # Distance from the last pixel folds back at it: 0 1 2 3 | 2 1 0, and stays at 0 from there on.
    last = old - 1
    folded: NDArray[np.intp] = last - np.abs(np.arange(new) - last)
    return np.maximum(folded, 0)
