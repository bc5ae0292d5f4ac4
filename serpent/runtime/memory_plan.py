"""Before a run: how much memory it will take, and tiles where that is more than there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serpent.padding import round_up
from serpent.runtime.session import Session
from serpent.runtime.tiling import LEAST_TILE, Tiling, run_sides

_IMAGE = 3 * 4
"""Bytes of a pixel, RGB in f32."""

MARGIN = 0.9
"""Share of the free memory that a run may be predicted to take; the rest is for others and the prediction's error."""


@dataclass(frozen=True)
class MemoryPlan:
    """What a run was planned to take.

    Attributes:
        tiling: as asked for, or smaller tiles.
        predicted: peak of the process (on a GPU: of the device's memory) in bytes; None where it is not known.
        free: bytes that were free.
        note: why there are tiles, where nobody asked for them.
        reached: bytes of the peak before the run; ``predicted`` is not below.
    """

    tiling: Tiling
    predicted: int | None
    free: int | None
    note: str | None = None
    reached: int | None = None


PlanCallback = Callable[[MemoryPlan], None]
"""Called before a run."""


def plan_memory(
    session: Session, height: int, width: int, tiling: Tiling, *, self_ensemble: bool = False
) -> MemoryPlan:
    """Predict the peak of restoring one picture, and choose tiles where it would exceed the free memory.

    Args:
        session: an open model.
        height: of the picture.
        width: of the picture.
        tiling: what was asked for. Only "auto" is changed; "off" and a number of pixels are tried whatever they take.
        self_ensemble: whether views of the picture are held, too.
    """

    def needed(cut: Tiling) -> int | None:
        ways = [(height, width), (width, height)] if self_ensemble else [(height, width)]
        costs = [_needed_of(session, *way, cut, self_ensemble=self_ensemble) for way in ways]
        known = [cost for cost in costs if cost is not None]
        return max(known) if len(known) == len(costs) else None

    extra = needed(tiling)
    memory = session.memory()  # after the first prediction, for which a session may load what its first run would
    if extra is None or memory.used is None or memory.peak is None:
        return MemoryPlan(tiling, None, memory.free)
    whole = MemoryPlan(tiling, max(memory.peak, memory.used + extra), memory.free, reached=memory.peak)
    if tiling.tile != "auto" or memory.free is None or extra <= MARGIN * memory.free:
        return whole
    limit = MARGIN * memory.free

    def needed_tile(tile: int) -> int | None:
        below_profile = any(tile < axis.min for axis in (session.info.profile.height, session.info.profile.width))
        return None if below_profile else needed(Tiling(tile, 0))

    smaller = _largest(session, max(height, width), lambda tile: (needed_tile(tile) or 0) <= limit)
    if smaller is None:
        return whole
    overlap = tiling.overlap if tiling.overlap is not None and tiling.overlap < smaller else None
    cut = Tiling(smaller, overlap)
    note = f"tiles of {smaller} pixels: the whole picture would take {_size(extra)}, {_size(memory.free)} are free"
    return MemoryPlan(cut, max(memory.peak, memory.used + (needed_tile(smaller) or 0)), memory.free, note, memory.peak)


def _needed_of(session: Session, height: int, width: int, cut: Tiling, *, self_ensemble: bool) -> int | None:
    """Bytes that a picture's runs take at most beside what is held already; None where nothing is known."""
    rows, columns = run_sides(height, width, session.info.profile, cut)
    batch = session.info.profile.batch.min
    network = session.run_bytes(batch, rows, columns)
    if network is None:
        return None
    tile, picture = batch * rows * columns * _IMAGE, height * width * _IMAGE
    ragged = (height % session.info.profile.multiple or width % session.info.profile.multiple) != 0
    # While the network runs: the picture padded, its result so far, and this run's image. Afterwards: also the run's
    # result and the copy that is blended; at last what is clipped.
    held = picture * (bool(ragged) + (rows < height or columns < width) + 3 * self_ensemble)
    on_gpu = session.info.device != "cpu"
    return network if on_gpu else max(held + tile + network, held + picture + 3 * tile)


def _largest(session: Session, side: int, fits: Callable[[int], bool]) -> int | None:
    """The largest tile below ``side`` that the model takes and that fits; None where none does."""
    sizes = (session.info.profile.height, session.info.profile.width)
    step = round_up(LEAST_TILE, session.info.profile.multiple)
    most = min([side - 1, *(axis.max for axis in sizes if axis.max is not None)])
    below, above = 0, most // step + 1  # in steps: the first fits, the second does not
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if fits(middle * step) else (below, middle)
    tile = below * step
    return tile if tile > 0 and all(tile in axis for axis in sizes) else None


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
