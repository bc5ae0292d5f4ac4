"""A picture-like test input that any machine can make again from its recipe: integer arithmetic and 8-bit steps."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

RECIPE = "serpent-picture-1"
_SHAPES = 24
_NOISE = 13  # 8-bit steps: the noise of the paper's deblurring task is 0.05 * 255


@dataclass(frozen=True)
class PictureRecipe:
    """How to make a test input: ``make_picture(**sizes)`` under the algorithm named ``recipe``.

    Attributes:
        recipe: name of the algorithm; changes whenever a value would change.
        seed: of the hash behind shapes and noise.
        batch: B, pictures.
        height: H, pixels.
        width: W, pixels.
        sha256: digest of the 8-bit values (B, H, W, 3).
    """

    recipe: str
    seed: int
    batch: int
    height: int
    width: int
    sha256: str

    def to_dict(self) -> dict[str, str | int]:
        return asdict(self)


def make_picture(height: int, width: int, *, batch: int = 1, seed: int = 0) -> NDArray[np.uint8]:
    """Gradients, overlapping rectangles and discs, fine stripes, and noise: (B, H, W, 3) uint8.

    Only integer arithmetic and a fixed hash decide the values, so they are the same everywhere.
    """
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    pictures = np.empty((batch, height, width, 3), np.uint8)
    for index in range(batch):
        stream = _hash(np.arange(16 * _SHAPES + 64, dtype=np.uint64), seed=seed * 1009 + index)
        draw = iter(stream.astype(np.int64) & 0x7FFFFFFF)
        picture = np.stack(
            [(rows * (next(draw) % 200) + columns * (next(draw) % 200)) // (height + width) for _ in range(3)], -1
        )
        for shape in range(_SHAPES):
            top, left = next(draw) % height, next(draw) % width
            size = 2 + next(draw) % max(2, min(height, width) // 3)
            colour = np.array([next(draw) % 256 for _ in range(3)])
            dy, dx = rows - top, columns - left
            inside = dy * dy + dx * dx < size * size if shape % 2 else (abs(dy) < size) & (abs(dx) < size // 2 + 1)
            if shape % 4 == 0:
                inside &= (rows + columns) % 6 < 3
            picture[inside] = colour
        bits = _hash(np.arange(picture.size, dtype=np.uint64), seed=seed * 2003 + index + 1).astype(np.int64)
        # The sum of four uniform bytes (mean 510, standard deviation 148) stands for a Gaussian.
        noise = np.zeros_like(bits)
        for shift in (3, 13, 23, 33):
            noise += (bits >> shift) & 0xFF
        pictures[index] = np.clip(picture + (noise.reshape(picture.shape) - 510) * _NOISE // 148, 0, 255)
    return pictures


def picture_recipe(
    height: int, width: int, *, batch: int = 1, seed: int = 0
) -> tuple[PictureRecipe, NDArray[np.float32]]:
    """The recipe and the network input (B, 3, H, W) float32 in [0, 1] that it stands for."""
    picture = make_picture(height, width, batch=batch, seed=seed)
    recipe = PictureRecipe(RECIPE, seed, batch, height, width, hashlib.sha256(picture.tobytes()).hexdigest())
    return recipe, network_input(picture)


def sample_positions(count: int, size: int) -> NDArray[np.int64]:
    """``count`` fixed flat positions in [0, size), the same everywhere; repeats where ``size`` is small."""
    return (_hash(np.arange(count, dtype=np.uint64), seed=7919) % np.uint64(size)).astype(np.int64)


def _hash(values: NDArray[np.uint64], *, seed: int) -> NDArray[np.uint64]:
    """SplitMix64's output function (Steele, Lea, Flood 2014) of a seeded counter."""
    offset = np.uint64(seed * 0xD1342543DE82EF95 & 0xFFFFFFFFFFFFFFFF)
    z = values * np.uint64(0x9E3779B97F4A7C15) + offset
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def sample_pictures(height: int, width: int, *, batch: int = 1) -> dict[str, NDArray[np.uint8]]:
    """Pictures of several kinds by name, extremes included, each (B, H, W, 3) uint8 and the same everywhere.

    They show how large a network's activations become: two pictures, noise, the flat extremes, the finest
    checkerboard, and fully saturated blocks of 8 pixels.
    """
    size = (batch, height, width, 3)
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    noise = _hash(np.arange(batch * height * width * 3, dtype=np.uint64), seed=4001) & np.uint64(0xFF)
    board = np.where((rows + columns) % 2, 255, 0)[..., None]
    cell = rows // 8 * 5 + columns // 8 * 3  # the bits of its number are the colours that are on
    blocks = np.stack([np.where(cell >> bit & 1, 255, 0) for bit in range(3)], -1)
    return {
        "picture": make_picture(height, width, batch=batch),
        "second picture": make_picture(height, width, batch=batch, seed=1),
        "noise": noise.astype(np.uint8).reshape(size),
        "black": np.zeros(size, np.uint8),
        "white": np.full(size, 255, np.uint8),
        "checkerboard": np.ascontiguousarray(np.broadcast_to(board, size), np.uint8),
        "saturated blocks": np.ascontiguousarray(np.broadcast_to(blocks, size), np.uint8),
    }


def network_input(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(B, H, W, 3) uint8 as (B, 3, H, W) float32 in [0, 1]."""
    return np.ascontiguousarray(picture.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
