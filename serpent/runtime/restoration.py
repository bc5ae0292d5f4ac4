"""Picture in, picture out, in one call."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serpent.errors import ArgumentError, OutOfMemoryError, UsageError
from serpent.pictures import (
    FLOAT_DEPTH,
    Encoding,
    Picture,
    check_picture_target,
    check_result,
    fill_hidden,
    read_picture,
    write_picture,
)
from serpent.runtime.border import border_named
from serpent.runtime.memory_plan import PlanCallback, plan_memory
from serpent.runtime.open import open_session
from serpent.runtime.session import Session
from serpent.runtime.tiling import TileCallback, Tiling, smaller_tile

_VIEWS = 8
_FLOAT_BITS = 24
"""Of a float in f32, near 1."""


def restore(
    picture: Path | str | NDArray[Any],
    model: Path | str | Session,
    *,
    output: Path | str | None = None,
    encoding: Encoding | None = None,
    overwrite: bool = False,
    device: str = "auto",
    threads: int | None = None,
    tile: int | Literal["auto", "off"] = "auto",
    overlap: int | None = None,
    self_ensemble: bool = False,
    on_tile: TileCallback | None = None,
) -> NDArray[np.float32]:
    """Restore one picture of any size.

    A result file keeps the depth, the transparency and the metadata of the picture file as far as its format goes;
    what is not kept is said as ``UserWarning``.

    Args:
        picture: a file, or an array (H, W, 3), RGB: uint8, uint16, or float32 in [0, 1].
        model: a model file, "B", "L" or "H" for the deblurring weights that ship, or a session to use again and again.
        output: where to write the result; nowhere by default. The suffix selects the format.
        encoding: how to write ``output``; like the picture by default.
        overwrite: replace an existing ``output``.
        device: as for :func:`serpent.runtime.open_session`; only with a model file.
        threads: as for :func:`serpent.runtime.open_session`; only with a model file.
        tile: sides of tiles in pixels; "auto" cuts only what exceeds the model's sizes or the free memory, "off"
            nothing.
        overlap: least number of pixels that neighbouring tiles share; 1/8 of a tile by default.
        self_ensemble: as for :func:`restore_picture`.
        on_tile: called with (runs done, runs in all).

    Returns:
        (H, W, 3) float32, RGB in [0, 1].

    Raises:
        SerpentError: as :func:`open_session`, :func:`read_picture` and :func:`write_picture` say.
        ArgumentError: an array of another shape or dtype.
        UsageError: ``encoding`` without ``output``.
    """
    # What can fail at once fails before the model is loaded.
    if output is None and encoding is not None:
        raise UsageError("encoding says how output is written, and there is no output", hint="name a file: output=...")
    if output is not None:
        check_picture_target(Path(output), overwrite=overwrite)
    source = _source(picture)
    if output is not None:
        check_result(Path(output), source, encoding or Encoding())

    def run(session: Session) -> Picture:
        tiling = Tiling(tile, overlap)
        return restore_picture(session, source, on_tile=on_tile, tiling=tiling, self_ensemble=self_ensemble)

    if isinstance(model, Session):
        if device != "auto" or threads is not None:
            raise UsageError("device and threads belong to the session; give them to open_session")
        restored = run(model)
    else:
        with open_session(model, device, threads=threads) as session:
            restored = run(session)
    notes = restored.notes[len(source.notes) :]
    if output is not None:
        notes += write_picture(output, restored, encoding=encoding, overwrite=overwrite)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return restored.pixels


def restore_picture(
    session: Session,
    picture: Picture,
    *,
    on_tile: TileCallback | None = None,
    tiling: Tiling | None = None,
    self_ensemble: bool = False,
    on_plan: PlanCallback | None = None,
) -> Picture:
    """Restore a decoded picture: its colours and, in a run of its own, its transparency where that varies.

    Colours under full transparency have no influence on the result. What travels along stays as it is.

    Args:
        session: an open model.
        picture: of any size.
        on_tile: called with (runs done, runs in all), for colours and then for transparency.
        tiling: where to cut; by default only what exceeds the model's sizes or the free memory. Where memory runs out,
            smaller tiles are tried, and the result's notes say so.
        self_ensemble: the mean over the eight ways to turn and mirror the picture (Lim et al., Enhanced Deep Residual
            Networks for Single Image Super-Resolution, CVPRW 2017, section 3.4), at eight times the cost.
        on_plan: called with the memory that the run is predicted to take, before it.

    Raises:
        SerpentError: as :meth:`Session.__call__` says.
    """
    height, width, _ = picture.pixels.shape
    plan = plan_memory(session, height, width, tiling or Tiling(), self_ensemble=self_ensemble)
    if on_plan is not None:
        on_plan(plan)
    cut = plan.tiling
    notes = [] if plan.note is None else [plan.note]
    border = session.info.io
    if border_named(border).rounding * 2 ** min(picture.bits, _FLOAT_BITS) >= 2:
        kind = "float" if picture.bits == FLOAT_DEPTH else f"{picture.bits}-bit"
        notes.append(f"{session.info.path.name} takes and gives {border}: the {kind} samples were rounded to that")

    def run(values: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal cut
        while True:
            try:
                if self_ensemble:
                    return _self_ensemble(session, values, on_tile, cut)
                return session(values, on_tile=on_tile, tiling=cut)
            except (OutOfMemoryError, MemoryError) as error:  # the second is numpy's, for what lies around the network
                smaller = smaller_tile(cut, values.shape[0], values.shape[1], session.info.profile)
                if smaller is None:
                    raise
                reason = error.message if isinstance(error, OutOfMemoryError) else "memory ran out"
                notes.append(f"{reason}; going on in tiles of {smaller.tile}x{smaller.tile}")
                cut = smaller

    pixels, alpha = picture.pixels, picture.alpha
    restored = run(pixels if alpha is None else fill_hidden(pixels, alpha))
    if picture.gray:
        restored = _gray(restored)
    if alpha is not None and alpha.min() < alpha.max():
        alpha = run(np.repeat(alpha[..., None], 3, axis=-1)).mean(axis=-1)
    return dataclasses.replace(picture, pixels=restored, alpha=alpha, notes=(*picture.notes, *notes))


def _self_ensemble(
    session: Session, pixels: NDArray[np.float32], on_tile: TileCallback | None, tiling: Tiling
) -> NDArray[np.float32]:
    total = np.zeros_like(pixels)
    for view in range(_VIEWS):

        def count(done: int, runs: int, view: int = view) -> None:
            if on_tile is not None:
                on_tile(view * runs + done, _VIEWS * runs)

        turns, mirrored = view % 4, view >= 4
        seen = np.rot90(pixels[:, ::-1] if mirrored else pixels, turns)
        restored = np.rot90(session(np.ascontiguousarray(seen), on_tile=count, tiling=tiling), -turns)
        total += restored[:, ::-1] if mirrored else restored
    return total / np.float32(_VIEWS)


def _gray(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.repeat(pixels.mean(axis=-1, keepdims=True), 3, axis=-1)


def _source(picture: Path | str | NDArray[Any]) -> Picture:
    if isinstance(picture, (str, Path)):
        read = read_picture(picture)
        for note in read.notes:
            warnings.warn(note, stacklevel=3)
        return read
    array = np.asarray(picture)
    if array.ndim != 3 or array.shape[-1] != 3 or array.dtype not in (np.uint8, np.uint16, np.float32):
        raise ArgumentError(f"picture is {array.dtype}{array.shape}; expected uint8, uint16 or float32 (H, W, 3)")
    if array.dtype != np.float32:
        levels = np.iinfo(array.dtype).max
        return Picture(array.astype(np.float32) / np.float32(levels), bits=8 * array.itemsize)
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise ArgumentError(f"picture spans [{array.min():g}, {array.max():g}]; expected float32 within [0, 1]")
    return Picture(array)
