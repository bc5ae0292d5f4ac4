"""Pictures of any size through a network of bounded size: pad, tile, blend, split the batch.

A side longer than the profile's maximum, or than the tile that is asked for, is covered by evenly spaced tiles that
overlap by at least 1/8 of their length. Across an overlap the weights of the two tiles follow a raised cosine; the
weights at every pixel sum to 1, so a network that changes nothing gives back its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serpent.errors import UsageError
from serpent.padding import crop, pad, round_up
from serpent.shapes import Range, ShapeProfile

OVERLAP_FRACTION = 8
"""Neighbouring tiles share at least 1/8 of their length; that costs at most 31 % more pixels over two axes."""


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut into tiles.

    Attributes:
        tile: pixels of a tile's sides; "auto" takes tiles, of the size the profile is tuned for, only where a side
            exceeds the profile; "off" never does.
        overlap: least number of pixels that neighbours share, below ``tile``; by default 1/8 of a tile.
    """

    tile: int | Literal["auto", "off"] = "auto"
    overlap: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.tile, str) and self.tile not in ("auto", "off"):
            raise UsageError(f"tile is {self.tile!r}; expected 'auto', 'off' or a number of pixels")


LEAST_TILE = 64
"""Smaller tiles are no remedy for a lack of memory."""


def smaller_tile(tiling: Tiling, height: int, width: int, profile: ShapeProfile) -> Tiling | None:
    """The next smaller tiles to try where memory ran out: half the side; None where there are none.

    Args:
        tiling: what was tried.
        height: of the picture.
        width: of the picture.
        profile: what the model takes.
    """
    if tiling.tile == "off":
        return None
    whole = max(
        min(side, sizes.opt if sizes.max is not None and side > sizes.max else side)
        for side, sizes in ((height, profile.height), (width, profile.width))
    )
    tried = whole if isinstance(tiling.tile, str) else min(tiling.tile, whole)
    tile = tried // 2 // profile.multiple * profile.multiple
    if tile < max(LEAST_TILE, profile.multiple) or tile not in profile.height or tile not in profile.width:
        return None
    overlap = tiling.overlap if tiling.overlap is not None and tiling.overlap < tile else None
    return Tiling(tile, overlap)


Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""One run of the network: (B, 3, H, W) float32, C-contiguous, sizes within the profile; the same shape back."""
TileCallback = Callable[[int, int], None]
"""Called with (runs done, runs in all) after each run."""


@dataclass(frozen=True)
class AxisTiles:
    """Tiles along one side of a picture.

    Attributes:
        length: pixels of every tile.
        starts: first pixel of each tile, ascending.
        weights: per tile, (length,) float32; the weights at every pixel of the side sum to 1.
    """

    length: int
    starts: tuple[int, ...]
    weights: tuple[NDArray[np.float32], ...]


def plan_axis(side: int, tile: int, overlap: int) -> AxisTiles:
    """Cover ``side`` pixels with the fewest evenly spaced tiles of ``tile`` pixels.

    Args:
        side: pixels to cover, at least ``tile``.
        tile: pixels of a tile.
        overlap: least number of pixels shared by neighbours, below ``tile``.
    """
    count = 1 if side == tile else math.ceil((side - overlap) / (tile - overlap))
    starts = tuple(round(i * (side - tile) / max(count - 1, 1)) for i in range(count))
    raw = [_window(starts, i, tile) for i in range(count)]
    total = np.zeros(side)
    for start, window in zip(starts, raw, strict=True):
        total[start : start + tile] += window
    weights = (window / total[start : start + tile] for start, window in zip(starts, raw, strict=True))
    return AxisTiles(tile, starts, tuple(weight.astype(np.float32) for weight in weights))


def _window(starts: tuple[int, ...], index: int, tile: int) -> NDArray[np.float64]:
    """1 inside the tile, a raised cosine across what it shares with either neighbour; positive throughout."""
    window = np.ones(tile)
    if index > 0:
        window *= _ramp(starts[index - 1] + tile - starts[index], tile)
    if index < len(starts) - 1:
        window *= _ramp(starts[index] + tile - starts[index + 1], tile)[::-1]
    return window


def _ramp(shared: int, tile: int) -> NDArray[np.float64]:
    position = (np.arange(tile) + 0.5) / max(shared, 1)  # tiles too short to overlap only touch
    return 0.5 - 0.5 * np.cos(np.pi * np.minimum(position, 1.0))


def _plan_side(side: int, sizes: Range, multiple: int, tiling: Tiling) -> AxisTiles:
    """Tiles of one side: a single padded one where it fits, else tiles."""
    tile = sizes.opt if isinstance(tiling.tile, str) else round_up(tiling.tile, multiple)
    if tile not in sizes:
        rounded = "" if tiling.tile in (tile, "auto", "off") else f" (at least {tile}, a multiple of {multiple})"
        asked = tiling.tile if rounded else tile
        raise UsageError(
            f"a tile of {asked} pixels{rounded} is not what the model takes, {sizes}", hint=f"--tile {sizes.opt}"
        )
    most = sizes.max if isinstance(tiling.tile, str) else tile
    if most is None or side <= most:
        whole = max(sizes.min, round_up(side, multiple))
        return plan_axis(whole, whole, 0)
    if tiling.tile == "off":
        raise UsageError(
            f"a side of {side} pixels exceeds what the model takes in one run, {sizes}",
            hint="use --tile auto, or an export of a larger size",
        )
    usual = tile // OVERLAP_FRACTION
    overlap = usual if tiling.overlap is None else tiling.overlap
    if not 0 <= overlap < tile:
        raise UsageError(f"tiles of {tile} pixels cannot overlap by {overlap}", hint=f"--overlap {usual}")
    return plan_axis(side, tile, overlap)


def run_sides(height: int, width: int, profile: ShapeProfile, tiling: Tiling) -> tuple[int, int]:
    """Height and width of each run that a picture takes.

    Raises:
        UsageError: as :func:`restore_any_size`.
    """
    rows = _plan_side(height, profile.height, profile.multiple, tiling)
    columns = _plan_side(width, profile.width, profile.multiple, tiling)
    return rows.length, columns.length


def restore_any_size(
    run: Run,
    images: NDArray[np.float32],
    profile: ShapeProfile,
    on_tile: TileCallback | None = None,
    tiling: Tiling | None = None,
) -> NDArray[np.float32]:
    """Restore pictures of any size through runs that all lie within ``profile``.

    Args:
        run: one run of the network.
        images: (B, H, W, 3) float32, none of the sizes 0.
        profile: accepted sizes of one run; sides are multiples of ``profile.multiple``.
        on_tile: called with (runs done, runs in all) after each run.
        tiling: where to cut; tiles only where the profile asks for them by default.

    Returns:
        (B, H, W, 3) float32, unclipped.

    Raises:
        UsageError: tiles that the profile does not take, or a side beyond it with tiles off.
    """
    tiling = tiling or Tiling()
    batch, height, width, _ = images.shape
    rows = _plan_side(height, profile.height, profile.multiple, tiling)
    columns = _plan_side(width, profile.width, profile.multiple, tiling)
    # A side is padded only when it is a single tile; otherwise its tiles cover exactly what is there.
    padded = pad(images, max(height, rows.length), max(width, columns.length))
    per_run = batch if profile.batch.max is None else profile.batch.max
    chunks = [slice(start, min(start + per_run, batch)) for start in range(0, batch, per_run)]
    runs = len(chunks) * len(rows.starts) * len(columns.starts)
    restored = np.zeros(padded.shape, np.float32)  # zeros_like would take the pages before the network runs
    done = 0
    for chunk in chunks:
        for top, row_weight in zip(rows.starts, rows.weights, strict=True):
            for left, column_weight in zip(columns.starts, columns.weights, strict=True):
                window = (chunk, slice(top, top + rows.length), slice(left, left + columns.length))
                tile = _run_batch(run, padded[window], profile.batch.min)
                tile *= row_weight[:, None, None] * column_weight[:, None]
                restored[window] += tile
                done += 1
                if on_tile is not None:
                    on_tile(done, runs)
    return crop(restored, height, width)


def _run_batch(run: Run, images: NDArray[np.float32], least: int) -> NDArray[np.float32]:
    """Run (B, H, W, 3) as (max(B, least), 3, H, W), repeating the last picture; a copy that may be changed."""
    count = len(images)
    indices = np.minimum(np.arange(max(count, least)), count - 1)
    planes = np.ascontiguousarray(images[indices].transpose(0, 3, 1, 2))
    return run(planes)[:count].transpose(0, 2, 3, 1).copy()
