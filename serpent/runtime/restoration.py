"""Picture in, picture out, in one call."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent.errors import ArgumentError, UsageError
from serpent.runtime.image_io import check_picture_target, read_picture, write_picture
from serpent.runtime.open import open_session
from serpent.runtime.session import Session, TileCallback


def restore(
    picture: Path | str | NDArray[Any],
    model: Path | str | Session,
    *,
    output: Path | str | None = None,
    overwrite: bool = False,
    device: str = "auto",
    threads: int | None = None,
    on_tile: TileCallback | None = None,
) -> NDArray[np.float32]:
    """Restore one picture of any size.

    Remarks on what of a picture file is not kept (transparency, 16-bit depth) are given as ``UserWarning``.

    Args:
        picture: a file, or an array (H, W, 3), RGB: uint8, or float32 in [0, 1].
        model: a model file, or a session to use again and again.
        output: where to write the result; nowhere by default. The suffix selects the format.
        overwrite: replace an existing ``output``.
        device: as for :func:`serpent.runtime.open_session`; only with a model file.
        threads: as for :func:`serpent.runtime.open_session`; only with a model file.
        on_tile: called with (runs done, runs in all).

    Returns:
        (H, W, 3) float32, RGB in [0, 1].

    Raises:
        SerpentError: as :func:`open_session`, :func:`read_picture` and :func:`write_picture` say.
        ArgumentError: an array of another shape or dtype.
    """
    # What can fail at once fails before the model is loaded.
    if output is not None:
        check_picture_target(Path(output), overwrite=overwrite)
    pixels = _pixels(picture)
    if isinstance(model, Session):
        if device != "auto" or threads is not None:
            raise UsageError("device and threads belong to the session; give them to open_session")
        restored = model(pixels, on_tile=on_tile)
    else:
        with open_session(model, device, threads=threads) as session:
            restored = session(pixels, on_tile=on_tile)
    if output is not None:
        write_picture(output, restored, overwrite=overwrite)
    return restored


def _pixels(picture: Path | str | NDArray[Any]) -> NDArray[np.float32]:
    if isinstance(picture, (str, Path)):
        read = read_picture(picture)
        for note in read.notes:
            warnings.warn(note, stacklevel=3)
        return read.pixels
    array = np.asarray(picture)
    if array.ndim != 3 or array.shape[-1] != 3 or array.dtype not in (np.uint8, np.float32):
        raise ArgumentError(f"picture is {array.dtype}{array.shape}; expected uint8 or float32 (H, W, 3)")
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise ArgumentError(f"picture spans [{array.min():g}, {array.max():g}]; expected float32 within [0, 1]")
    return array
