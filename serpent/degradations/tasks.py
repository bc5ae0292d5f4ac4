"""The degradations that ship. The first two are those of the paper (arXiv 2403.17902, section 4)."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from serpent.degradations.filters import convolve, gaussian_kernel, line_kernel, separable
from serpent.degradations.registry import register

Pixels = NDArray[np.float32]

BLUR_SIZE = 61
"""Side of the Gaussian kernel, pixels."""
BLUR_SIGMA = 3.0
"""Standard deviation of the Gaussian kernel, pixels."""
NOISE_SIGMA = 0.05
"""Standard deviation of the noise after blurring, on [0, 1]."""
SCALE = 8
"""Factor of super-resolution."""
DENOISE_SIGMA = 25 / 255
"""Standard deviation of the noise to remove, on [0, 1]."""


@register("deblur")
def deblur(picture: Pixels, random: Generator) -> Pixels:
    """Gaussian blur (61 x 61, sigma 3 pixels), then Gaussian noise (sigma 0.05)."""
    return _noisy(separable(picture, gaussian_kernel(BLUR_SIZE, BLUR_SIGMA)), NOISE_SIGMA, random)


@register("sr8")
def sr8(picture: Pixels, random: Generator) -> Pixels:  # noqa: ARG001
    """Bicubic to an eighth of each side (rounded up), and back to full size."""
    height, width, _ = picture.shape
    small = _bicubic(picture, math.ceil(height / SCALE), math.ceil(width / SCALE))
    return _bicubic(small, height, width)


@register("denoise")
def denoise(picture: Pixels, random: Generator) -> Pixels:
    """Gaussian noise (sigma 25/255)."""
    return _noisy(picture, DENOISE_SIGMA, random)


@register("jpeg")
def jpeg(picture: Pixels, random: Generator) -> Pixels:
    """JPEG of a quality from 10 to 40, colours at half resolution."""
    quality = int(random.integers(10, 41))
    file = io.BytesIO()
    levels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(levels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file), np.float32) / np.float32(255)


@register("motion")
def motion(picture: Pixels, random: Generator) -> Pixels:
    """Straight motion of 5 to 25 pixels in any direction, then Gaussian noise (sigma 0.01)."""
    kernel = line_kernel(random.uniform(5, 25), random.uniform(0, math.pi))
    return _noisy(convolve(picture, kernel), 0.01, random)


@register("inpaint")
def inpaint(picture: Pixels, random: Generator) -> Pixels:
    """Black strokes, 4 to 10 of them, each up to half the picture long and a 30th to a 12th of it wide."""
    height, width, _ = picture.shape
    side = min(height, width)
    mask = Image.new("1", (width, height))
    draw = ImageDraw.Draw(mask)
    for _ in range(random.integers(4, 11)):
        x, y = random.uniform(0, width), random.uniform(0, height)
        reach, angle = random.uniform(0.1, 0.5) * side, random.uniform(0, 2 * math.pi)
        end = (x + reach * math.cos(angle), y + reach * math.sin(angle))
        draw.line([(x, y), end], fill=1, width=max(1, round(random.uniform(1 / 30, 1 / 12) * side)))
    return np.where(np.asarray(mask)[..., None], np.float32(0), picture)


def _noisy(picture: Pixels, sigma: float, random: Generator) -> Pixels:
    noise = random.standard_normal(picture.shape, np.float32)
    noise *= np.float32(sigma)
    return picture + noise


def _bicubic(picture: Pixels, height: int, width: int) -> Pixels:
    """Keys' kernel with a = -0.5, widened where the picture shrinks (as MATLAB's imresize and Pillow have it)."""
    planes = [Image.fromarray(picture[..., channel]) for channel in range(picture.shape[-1])]
    return np.stack([np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC)) for plane in planes], -1)
