"""Which pictures to restore, and where each result goes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serpent.errors import PictureError, SerpentError, UsageError
from serpent.pictures.formats import format_of

_READABLE_ONLY = (".gif", ".pbm")


@dataclass(frozen=True)
class Job:
    """One picture to restore.

    Attributes:
        source: file to read.
        target: file to write.
        error: why there is nothing to restore: ``source``, and ``target``, is a folder that cannot be read.
    """

    source: Path
    target: Path
    error: SerpentError | None = None


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

    def __post_init__(self) -> None:
        if "/" in self.suffix or os.sep in self.suffix:
            raise UsageError(
                f"the suffix {self.suffix!r} names a folder; it is added to the names of files",
                hint="choose the folder of results with --out-dir",
            )

    def of(self, source: Path, root: Path) -> Path:
        """Where the result of ``source``, found below ``root``, goes."""
        extension = source.suffix if format_of(source) is not None else ".png"
        name = f"{source.stem}{self.suffix}{extension}"
        if self.folder is None:
            return source.with_name(name)
        return self.folder / _plain(source.parent).relative_to(_plain(root)) / name


def collect(
    inputs: Sequence[Path],
    targets: Targets,
    roots: Mapping[Path, Path] | None = None,
    *,
    leave_results: bool = False,
) -> list[Job]:
    """Every picture that ``inputs`` names: files as they are, folders with all that lies below them.

    In folders, pictures are told by their suffix; hidden files, the folder of results and, where results lie beside
    their sources, the results of pictures that are there are left out. Links are followed, each folder is entered once.
    A folder that cannot be read becomes a job with an error.

    Args:
        inputs: files and folders.
        targets: how results are named.
        roots: where the tree begins that the folder of results keeps, for each input; by default at a folder itself
            and at a file's folder. Where two results would have one name, it begins at the folder common to all.
        leave_results: what is the result of another picture is none to restore, even where it is named or a pattern
            matches it.

    Returns:
        In the order of ``inputs``, folders sorted; each source once, of several names for one result the first; at last
        the folders that cannot be read.

    Raises:
        UsageError: two results would have one name, a result would replace its source without ``in_place``, or a
            folder holds no picture.
    """
    roots = roots or {}
    found: dict[Path, tuple[Path, Path, SerpentError | None]] = {}
    for given in inputs:
        root = roots.get(given) or tree_root(given)
        for source, error in _found(given, targets):
            found.setdefault(source.absolute(), (source, root, error))
    unread = [Job(source, source, error) for source, _, error in found.values() if error is not None]
    jobs = _distinct(Job(source, targets.of(source, root)) for source, root, error in found.values() if error is None)
    if targets.folder is not None and _collision(jobs) is not None:
        common = common_root(inputs)
        jobs = _distinct(Job(job.source, targets.of(job.source, common)) for job in jobs)
    if leave_results:
        results = {_identity(job.target) for job in jobs if _identity(job.target) != _identity(job.source)}
        jobs = [job for job in jobs if _identity(job.source) not in results]
    _check_targets(jobs, targets)
    return jobs + unread


def tree_root(given: Path) -> Path:
    """A folder itself, or the folder of a file."""
    return given if os.path.isdir(given) else given.parent  # noqa: PTH112 (a name that is too long is no folder)


def common_root(inputs: Iterable[Path]) -> Path:
    """The deepest folder that files and folders have in common."""
    return Path(os.path.commonpath([_plain(tree_root(given)) for given in inputs]))


def _plain(folder: Path) -> Path:
    """From the root of the file system, without "..", so that folders can be compared."""
    return Path(os.path.normpath(folder.absolute()))


def _found(given: Path, targets: Targets) -> list[tuple[Path, SerpentError | None]]:
    if tree_root(given) != given:
        return [(given, None)]
    unread: list[tuple[Path, SerpentError | None]] = []
    pictures = pictures_below(given, targets, lambda folder, error: unread.append((folder, error)))
    found = [(path, None) for path in pictures] + unread
    if not found:
        raise UsageError(f"{given} holds no picture that can be read")
    return found


def pictures_below(
    folder: Path, targets: Targets, on_unread: Callable[[Path, SerpentError], None] | None = None
) -> Iterator[Path]:
    """The pictures in a folder and all below it, as :func:`collect` takes them, sorted folder by folder.

    Args:
        folder: where to look.
        targets: tell which files are results.
        on_unread: called with each folder that cannot be read and why, instead of the error.

    Raises:
        PictureError: a folder cannot be read.
    """

    def unread(error: OSError) -> None:
        problem = PictureError(f"cannot read the folder {error.filename}: {error.strerror}")
        if on_unread is None:
            raise problem from None
        on_unread(Path(error.filename), problem)

    results = None if targets.folder is None else _identity(targets.folder)
    if results == _identity(folder):
        results = None  # the folder itself: its results are told by their suffix, or refused
    entered = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=unread):
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in entered or (results is not None and _identity(Path(parent)) == results):
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        pictures = [
            path
            for name in sorted(files)
            if not name.startswith(".") and _is_readable(path := Path(parent, name)) and not _is_special(path)
        ]
        beside = targets.folder is None and targets.suffix
        theirs = {targets.of(path, path.parent) for path in pictures} if beside else set()
        yield from (path for path in pictures if path not in theirs)


def _is_readable(path: Path) -> bool:
    return format_of(path) is not None or path.suffix.lower() in _READABLE_ONLY


def _is_special(path: Path) -> bool:
    """Whether it is a pipe, socket or device, which a run over a folder would wait for; what is missing is none."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _identity(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _distinct(jobs: Iterable[Job]) -> list[Job]:
    """The jobs without those that would do again what an earlier one does, by another name or link."""
    first: dict[tuple[Path, Path], Job] = {}
    for job in jobs:
        first.setdefault((_identity(job.source), _identity(job.target)), job)
    return list(first.values())


def _collision(jobs: Iterable[Job]) -> tuple[Job, Job] | None:
    """Two jobs with one target."""
    taken: dict[Path, Job] = {}
    for job in jobs:
        if (other := taken.setdefault(_identity(job.target), job)) is not job:
            return other, job
    return None


def _check_targets(jobs: Sequence[Job], targets: Targets) -> None:
    if (pair := _collision(jobs)) is not None:
        raise UsageError(
            f"{pair[0].source} and {pair[1].source} would both become {pair[1].target}",
            hint="rename one of them, or restore them in two runs, into different folders (--out-dir)",
        )
    sources = {_identity(job.source) for job in jobs}
    for job in jobs:
        if _identity(job.target) in sources and not targets.in_place:
            way = "--skip-existing to leave results alone"
            if _identity(job.target) == _identity(job.source):
                way = "--in-place to replace pictures by their results"
            raise UsageError(
                f"{job.target}, a result, is one of the pictures to restore",
                hint=f"add {way}, or choose --suffix or --out-dir",
            )
