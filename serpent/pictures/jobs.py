"""Which pictures to restore, and where each result goes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serpent.errors import UsageError
from serpent.pictures.formats import format_of

_READABLE_ONLY = (".gif", ".pbm")


@dataclass(frozen=True)
class Job:
    """One picture to restore.

    Attributes:
        source: file to read.
        target: file to write.
    """

    source: Path
    target: Path


@dataclass(frozen=True)
class Targets:
    """How a result's name follows from its source's.

    Attributes:
        folder: where results go, with the tree of each input folder kept; beside each source by default.
        suffix: added to the name before its extension.
        in_place: results may replace their sources.
    """

    folder: Path | None = None
    suffix: str = "_restored"
    in_place: bool = False

    def of(self, source: Path, root: Path) -> Path:
        """Where the result of ``source``, found below ``root``, goes."""
        extension = source.suffix if format_of(source) is not None else ".png"
        name = f"{source.stem}{self.suffix}{extension}"
        return source.with_name(name) if self.folder is None else self.folder / source.parent.relative_to(root) / name


def collect(inputs: Sequence[Path], targets: Targets) -> list[Job]:
    """Every picture that ``inputs`` names: files as they are, folders with all that lies below them.

    In folders, pictures are told by their suffix; hidden files, the folder of results and, where results lie beside
    their sources, earlier results are left out. Links are followed, each folder is entered once.

    Args:
        inputs: files and folders.
        targets: how results are named.

    Returns:
        In the order of ``inputs``, folders sorted; each source once.

    Raises:
        UsageError: two results would have one name, a result would replace its source without ``in_place``, or a
            folder holds no picture.
    """
    jobs: dict[Path, Job] = {}
    for given in inputs:
        if given.is_dir():
            found = list(pictures_below(given, targets))
            if not found:
                raise UsageError(f"{given} holds no picture that can be read")
        else:
            found = [given]
        root = given if given.is_dir() else given.parent
        for source in found:
            jobs.setdefault(source.absolute(), Job(source, targets.of(source, root)))
    _check_targets(jobs.values(), targets)
    return list(jobs.values())


def pictures_below(folder: Path, targets: Targets) -> Iterator[Path]:
    """The pictures in a folder and all below it, as :func:`collect` takes them, sorted folder by folder."""
    results = None if targets.folder is None else _identity(targets.folder)
    if results == _identity(folder):
        results = None  # the folder itself: its results are told by their suffix, or refused
    entered = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in entered or (results is not None and _identity(Path(parent)) == results):
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            beside = targets.folder is None and targets.suffix and path.stem.endswith(targets.suffix)
            if not name.startswith(".") and _is_readable(path) and not beside:
                yield path


def _is_readable(path: Path) -> bool:
    return format_of(path) is not None or path.suffix.lower() in _READABLE_ONLY


def _identity(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _check_targets(jobs: Iterable[Job], targets: Targets) -> None:
    taken: dict[Path, Job] = {}
    sources = {_identity(job.source) for job in jobs}
    for job in jobs:
        target = _identity(job.target)
        if target in taken:
            raise UsageError(
                f"{taken[target].source} and {job.source} would both become {job.target}",
                hint="name one of them otherwise, or restore them into different folders (--out-dir)",
            )
        taken[target] = job
        if target in sources and not targets.in_place:
            raise UsageError(
                f"{job.target}, a result, is one of the pictures to restore",
                hint="add --in-place to replace pictures by their results, or choose --suffix or --out-dir",
            )
