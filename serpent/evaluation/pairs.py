"""The pictures of a folder with their degraded versions: the same in every run and on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serpent.degradations import degrade, find_task, generator
from serpent.errors import PictureError, SerpentError, UsageError
from serpent.pictures import read_picture
from serpent.pictures.jobs import Targets, pictures_below

_NAMED = 10
"""Bad pictures that one error names; more are counted."""


@dataclass(frozen=True)
class Pair:
    """A picture and what a network is given in its place.

    Attributes:
        name: path relative to the folder, with forward slashes.
        degraded: (H, W, 3) float32 in [0, 1].
        target: (H, W, 3) float32 in [0, 1], what it should become.
    """

    name: str
    degraded: NDArray[np.float32]
    target: NDArray[np.float32]


@dataclass(frozen=True)
class Pairs:
    """Pairs of a folder, by name; read anew at each pass, so that one at a time is in memory.

    A pair depends on the picture, its name, the task, the seed and the crop alone. The crop comes before the
    degradation. Transparency is left out.

    Attributes:
        folder: with pictures of any size, in folders of any depth.
        task: as :func:`serpent.degradations.find_task` takes it.
        seed: of the random numbers; each picture has its own, by its name.
        crop: side of the centred square to cut out, pixels; whole pictures by default.
        limit: take the first so many pictures by name; all by default.
    """

    folder: Path
    task: str
    seed: int = 0
    crop: int | None = None
    limit: int | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of all pictures, sorted.

        Raises:
            UsageError: no such folder, or no picture in it.
        """
        if not self.folder.is_dir():
            problem = "is no folder" if self.folder.exists() else "does not exist"
            raise UsageError(f"{self.folder} {problem}; expected a folder of pictures")
        found = pictures_below(self.folder, Targets(suffix=""))
        names = sorted(path.relative_to(self.folder).as_posix() for path in found)
        if not names:
            raise UsageError(f"{self.folder} holds no picture that can be read")
        return tuple(names[: self.limit])

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Pair]:
        """Every pair.

        Raises:
            PictureError: a picture cannot be read, or is smaller than the crop.
        """
        return map(self.pair, self.names)

    def pair(self, name: str) -> Pair:
        """One of them.

        Raises:
            PictureError: the picture cannot be read, or is smaller than the crop.
        """
        target = self._target(name)
        return Pair(name, degrade(target, self.task, generator(self.seed, name)), target)

    def check(self, smallest: int = 1) -> None:
        """Read every picture once, so that nothing fails after hours.

        Args:
            smallest: least side of a pair, pixels.

        Raises:
            UsageError: unknown task, no picture, or a crop below ``smallest``.
            PictureError: naming all that cannot be read or are too small.
        """
        find_task(self.task)
        generator(self.seed)
        if self.crop is not None and self.crop < smallest:
            raise UsageError(
                f"a crop of {self.crop} pixels is too small; expected at least {smallest}, border included"
            )
        bad = []
        for name in self.names:
            try:
                height, width, _ = self._target(name).shape
                if min(height, width) < smallest:
                    bad.append(f"{self.folder / name} has {width}x{height} pixels, fewer than {smallest} on a side")
            except SerpentError as error:
                bad.append(error.message)
        if bad:
            more = [f"and {len(bad) - _NAMED} more"] if len(bad) > _NAMED else []
            listed = "\n  ".join([*bad[:_NAMED], *more])
            raise PictureError(
                f"{len(bad)} of {len(self)} pictures cannot be used:\n  {listed}", hint="mend them, or take them away"
            )

    def check_apart(self, other: Pairs) -> None:
        """Refuse pictures that are among the other's: what is measured must not be fitted on.

        Raises:
            UsageError: naming the first of them.
        """
        theirs = {(other.folder / name).resolve() for name in other.names}
        common = [name for name in self.names if (self.folder / name).resolve() in theirs]
        if common:
            raise UsageError(
                f"{len(common)} of {len(self)} pictures of {self.folder} also lie in {other.folder}, as {common[0]}",
                hint="fit on pictures that are not measured",
            )

    def _target(self, name: str) -> NDArray[np.float32]:
        pixels = read_picture(self.folder / name).pixels
        if self.crop is None:
            return pixels
        height, width, _ = pixels.shape
        if min(height, width) < self.crop:
            raise PictureError(
                f"{self.folder / name} has {width}x{height} pixels, smaller than the crop of {self.crop}",
                hint=f"choose a crop of at most {min(height, width)}",
            )
        top, left = (height - self.crop) // 2, (width - self.crop) // 2
        return np.ascontiguousarray(pixels[top : top + self.crop, left : left + self.crop])


class DegradedDigest:
    """SHA-256 over degraded pictures in their order: names, shapes and values (float32, little-endian)."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, pair: Pair) -> None:
        """Take in one pair."""
        shape = "x".join(map(str, pair.degraded.shape))
        # A name cannot hold NUL, so no two lists of pictures have the same bytes.
        self._hash.update(pair.name.encode(errors="surrogateescape") + b"\0" + shape.encode() + b"\0")
        self._hash.update(pair.degraded.astype("<f4", copy=False).tobytes())

    def hexdigest(self) -> str:
        """Of all pairs so far."""
        return self._hash.hexdigest()
