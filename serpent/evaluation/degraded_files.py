"""Degraded pictures as files, each with the random numbers that an evaluation gives it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from serpent.degradations import degrade, find_task, generator
from serpent.errors import SerpentError, UsageError
from serpent.pictures import check_picture_target, read_picture, write_picture
from serpent.pictures.formats import format_of
from serpent.pictures.jobs import Job, Targets, collect


@dataclass(frozen=True)
class Degradation:
    """What to do with each picture.

    Attributes:
        task: as :func:`serpent.degradations.find_task` takes it.
        seed: of the random numbers, at least 0.
        overwrite: replace results that are there.
    """

    task: str
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        find_task(self.task)
        generator(self.seed)

    def apply(self, job: Job, name: str) -> tuple[str, ...]:
        """Degrade one file: depth, format, transparency and metadata follow it, a gray picture stays gray.

        Args:
            job: which, and where to.
            name: that its random numbers follow from.

        Returns:
            One-line remarks on what could not be kept.

        Raises:
            PictureError: the picture cannot be read or written.
            UsageError: the result's name cannot be used.
        """
        if job.error is not None:
            raise job.error
        check_picture_target(job.target, overwrite=self.overwrite)
        picture = read_picture(job.source)
        # A gray file holds the first channel: a mean of three would have weaker noise.
        degraded = degrade(picture.pixels, self.task, generator(self.seed, name))
        written = write_picture(job.target, dataclasses.replace(picture, pixels=degraded), overwrite=self.overwrite)
        return (*picture.notes, *written)


def degraded_jobs(source: Path, target: Path) -> dict[str, Job]:
    """What becomes of a picture, or of all pictures below a folder, by the name that their random numbers follow from.

    Args:
        source: a picture or a folder.
        target: a picture, or for a folder one that keeps its tree.

    Raises:
        UsageError: no picture, or a result that would replace a picture.
    """
    if not source.is_dir():
        jobs = {source.name: Job(source, target)}
    elif target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file, {source} a folder; expected a folder for the results")
    elif format_of(target) is not None and not target.exists():
        hint = f"for example {target.with_suffix('')}"
        raise UsageError(f"{target} is named like a picture, {source} is a folder; expected a folder", hint=hint)
    else:
        # Whether a result would replace a picture is said below, in the words of this command.
        found = collect([source], Targets(target, suffix="", in_place=True))
        jobs = {job.source.relative_to(source).as_posix(): job for job in found}
    pictures = [job for job in jobs.values() if job.error is None]  # the others are folders that cannot be read
    sources = {job.source.resolve() for job in pictures}
    for job in pictures:
        if job.target.resolve() in sources:
            raise UsageError(f"{job.target}, a result, is one of the pictures to degrade", hint="choose another OUT")
    return jobs


def make_folder_of(job: Job) -> None:
    """Make the folder of a result.

    Raises:
        SerpentError: the system refuses.
    """
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SerpentError(f"cannot make the folder {job.target.parent}: {error.strerror}") from None
