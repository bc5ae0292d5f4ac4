"""Write a degraded photograph, as the paper's deblurring task has it: Gaussian blur and Gaussian noise.

The picture comes with scikit-image (the portrait of the astronaut Eileen Collins, NASA, public domain);
nothing is downloaded. The noise is seeded: every run writes the same pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from skimage import data, filters

BLUR_SIGMA = 3.0  # pixels
NOISE_SIGMA = 0.05  # of the range [0, 1]
SEED = 0
HEIGHT, WIDTH = 300, 400  # pixels; larger than 256, so that a network exported for 256 works in tiles


def main() -> None:
    """Parse the command line and write the pictures."""
    parser = argparse.ArgumentParser(description="Write a blurred and noisy photograph.")
    parser.add_argument("output", type=Path, help="where the degraded picture goes")
    parser.add_argument("--clean", type=Path, help="where the picture before degradation goes")
    options = parser.parse_args()

    photo = Image.fromarray(data.astronaut())
    clean = np.asarray(ImageOps.fit(photo, (WIDTH, HEIGHT), centering=(0.5, 0.0)), dtype=np.float32) / 255.0
    blurred = filters.gaussian(clean, sigma=BLUR_SIGMA, channel_axis=-1)
    noisy = blurred + np.random.default_rng(SEED).normal(0.0, NOISE_SIGMA, clean.shape)
    save(options.output, noisy)
    if options.clean is not None:
        save(options.clean, clean)


def save(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) floats in [0, 1] as 8 bits; values outside are clipped."""
    Image.fromarray(np.round(np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8)).save(path)


if __name__ == "__main__":
    main()
