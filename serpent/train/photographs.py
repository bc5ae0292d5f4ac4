"""Pictures to learn from: found, all read once before the first step, and kept as far as memory goes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent.errors import PictureError, SerpentError, UsageError
from serpent.pictures import read_picture
from serpent.pictures.jobs import Targets, pictures_below
from serpent.runtime.memory import process_memory
from serpent.runtime.streaming import in_order

_LISTED = 20
_READERS = 4
_SHARE = 0.5
_UNKNOWN = 1 << 30
"""Free memory that is assumed where the system does not tell, bytes."""


class Photographs:
    """The pictures below some folders.

    Args:
        folders: one or more, searched with all folders below them.
        least: pixels that both sides must have at least.
        memory: bytes of decoded pictures to keep; by default half of what is free, shared out over the processes of
            this machine. The others are read again.
        processes: of this machine that keep pictures.
        on_read: called with (pictures read, pictures in all).

    Raises:
        UsageError: a folder holds no picture.
        PictureError: a folder is not there; pictures that cannot be read or are too small; the first are named.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        least: int,
        memory: int | None = None,
        processes: int = 1,
        on_read: Callable[[int, int], None] | None = None,
    ) -> None:
        for folder in folders:
            if not folder.is_dir():
                problem = "is a file" if folder.exists() else "does not exist"
                raise PictureError(f"the folder of pictures {folder} {problem}", hint="name a folder of photographs")
        several = len(folders) > 1
        names = {
            path: (f"{root.name}/" if several else "") + path.relative_to(root).as_posix()
            for root in folders
            for path in pictures_below(root, Targets(suffix=""))
        }
        if not names:
            raise UsageError(f"{folders[0]} holds no picture that can be read")
        self.paths = sorted(names, key=names.__getitem__)
        self.names = [names[path] for path in self.paths]
        self._kept: dict[int, NDArray[Any]] = {}
        self._digest = hashlib.sha256()
        if memory is None:
            memory = int((process_memory().free or _UNKNOWN) * _SHARE / processes)
        self._read_all(least, memory, on_read)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> NDArray[Any]:
        """(H, W, 3), RGB: uint8, or float32 in [0, 1] for files of more than 8 bits."""
        kept = self._kept.get(index)
        return _decode(self.paths[index]) if kept is None else kept

    @property
    def digest(self) -> str:
        """SHA-256 over names, sizes and values."""
        return self._digest.hexdigest()

    def _read_all(self, least: int, memory: int, on_read: Callable[[int, int], None] | None) -> None:
        problems = []
        # Read ahead by a few, however slowly they are hashed.
        for index, read in enumerate(in_order(_try_decode, self.paths, workers=_READERS)):
            if isinstance(read, SerpentError):
                problems.append(read.message)
            elif min(read.shape[:2]) < least:
                height, width, _ = read.shape
                problems.append(f"{self.paths[index]} is {width}x{height}, smaller than the crop of {least}")
            else:
                self._digest.update(f"{self.names[index]}\0{read.shape}".encode(errors="surrogateescape"))
                self._digest.update(np.ascontiguousarray(read).data)
                if read.nbytes <= memory:
                    memory -= read.nbytes
                    self._kept[index] = read
            if on_read is not None:
                on_read(index + 1, len(self.paths))
        if problems:
            raise PictureError(_listing(problems), hint="remove them, or choose a smaller --crop")


def _listing(problems: Sequence[str]) -> str:
    shown = "\n  ".join(problems[:_LISTED])
    rest = f"\n  and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
    return f"{len(problems)} picture(s) cannot be used:\n  {shown}{rest}"


def _try_decode(path: Path) -> NDArray[Any] | SerpentError:
    try:
        return _decode(path)
    except SerpentError as error:
        return error


def _decode(path: Path) -> NDArray[Any]:
    picture = read_picture(path)
    # A quarter of the memory; the values are multiples of 1/255 anyway.
    return np.rint(picture.pixels * 255).astype(np.uint8) if picture.bits <= 8 else picture.pixels
