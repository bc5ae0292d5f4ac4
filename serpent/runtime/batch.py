"""Many pictures through one session: reading and writing overlap with the network."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue

from serpent.errors import OutOfMemoryError, PictureError, SerpentError
from serpent.files import remove_abandoned
from serpent.pictures import (
    MAX_PIXELS,
    Encoding,
    Picture,
    check_picture_target,
    check_result,
    read_picture,
    write_picture,
)
from serpent.pictures.jobs import Job
from serpent.pictures.resize import new_size
from serpent.runtime.memory_plan import MemoryPlan, PlanCallback
from serpent.runtime.restoration import restore_picture
from serpent.runtime.session import Session
from serpent.runtime.tiling import Tiling

AHEAD = 2
"""Pictures that wait decoded, and results that wait to be written: enough to overlap, few enough to fit memory."""


@dataclass(frozen=True)
class Outcome:
    """What became of one picture.

    Attributes:
        job: which.
        width: pixels of the result; 0 where there is none.
        height: pixels of the result; 0 where there is none.
        seconds: in the network.
        notes: one-line remarks.
        error: why there is no result.
        skipped: the result was there already.
        predicted_peak: bytes that the device's memory was predicted to reach; None where that is not known.
        measured_peak: the most bytes that it had reached once the picture was through.
    """

    job: Job
    width: int = 0
    height: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    error: SerpentError | None = None
    skipped: bool = False
    predicted_peak: int | None = None
    measured_peak: int | None = None


@dataclass(frozen=True)
class BatchOptions:
    """How to restore many pictures.

    Attributes:
        encoding: how results are written.
        overwrite: replace results that are there.
        in_place: replace pictures by their results, and nothing else; no files of several frames or pages.
        skip_existing: leave results that are there, and their pictures, alone; what an ended run left half written
            goes.
        max_pixels: refuse larger pictures.
        make_folders: make the folders of results.
        tiling: where pictures are cut.
        self_ensemble: as for :func:`restore_picture`.
    """

    encoding: Encoding = field(default_factory=Encoding)
    overwrite: bool = False
    in_place: bool = False
    skip_existing: bool = False
    max_pixels: int = MAX_PIXELS
    make_folders: bool = False
    tiling: Tiling = field(default_factory=Tiling)
    self_ensemble: bool = False


def restore_many(
    sessions: Sequence[Session],
    jobs: Iterable[Job],
    options: BatchOptions,
    *,
    on_plan: PlanCallback | None = None,
) -> Iterator[Outcome]:
    """Restore pictures, one per session at a time; a picture that fails does not stop the others.

    One thread decodes ahead and one encodes behind, each at most :data:`AHEAD` pictures away. When the caller stops
    early (an exception, Ctrl-C), the files being written are finished and nothing else is begun.

    Args:
        sessions: open models of the same file, usually one per GPU.
        jobs: what to read and write.
        options: how.
        on_plan: called with the memory that each picture is predicted to take, before its run.

    Yields:
        An outcome for every job, in order, once its file is written.
    """
    free: SimpleQueue[Session] = SimpleQueue()
    for session in sessions:
        free.put(session)

    def restored(job: Job, coming: Future[Picture | Outcome]) -> tuple[Outcome, Picture | None]:
        picture = coming.result()
        session = free.get()
        try:
            return _restore(session, job, picture, options, on_plan)
        finally:
            free.put(session)

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(len(sessions)) as network, ThreadPoolExecutor(1) as writer:
        remaining = iter(jobs)
        begun: deque[Future[Outcome]] = deque()
        cleared = set()
        try:
            while True:
                while len(begun) < len(sessions) + 2 * AHEAD and (job := next(remaining, None)) is not None:
                    if options.skip_existing and job.error is None and job.target.parent not in cleared:
                        cleared.add(job.target.parent)
                        remove_abandoned(job.target.parent)
                    ready = network.submit(restored, job, reader.submit(_load, job, options))
                    begun.append(writer.submit(_save, ready, options))
                if not begun:
                    return
                yield begun.popleft().result()
        finally:
            for pool in (reader, network, writer):
                pool.shutdown(wait=False, cancel_futures=True)


def _failed(job: Job, error: Exception, notes: tuple[str, ...] = ()) -> Outcome:
    """The outcome of a picture that an error of its own ended; the others go on."""
    if isinstance(error, MemoryError):
        error = OutOfMemoryError(f"{job.source} needs more memory than there is", hint="end other programs")
    elif not isinstance(error, SerpentError):
        error = PictureError(f"cannot restore {job.source}: {getattr(error, 'strerror', None) or error}")
    return Outcome(job, notes=notes, error=error)


def _may_replace(job: Job, options: BatchOptions) -> bool:
    """Whether the result may take the place of a file. That of a.gif in place is a.png, and may be another picture."""
    return options.overwrite or (options.in_place and os.path.realpath(job.target) == os.path.realpath(job.source))


def _load(job: Job, options: BatchOptions) -> Picture | Outcome:
    if job.error is not None:
        return Outcome(job, error=job.error)
    try:
        if options.skip_existing and job.target.exists():
            return Outcome(job, skipped=True)
        if options.make_folders:
            with contextlib.suppress(OSError):  # the check below says what is wrong
                job.target.parent.mkdir(parents=True, exist_ok=True)
        check_picture_target(job.target, overwrite=_may_replace(job, options))
        picture = read_picture(job.source, max_pixels=options.max_pixels)
        if options.in_place and not picture.alone:
            raise PictureError(
                f"{job.source} has several frames or pages, and the result of the first would replace them all",
                hint="restore it without --in-place, into another file",
            )
        # What the result could not be is said before the network runs.
        check_result(job.target, picture, options.encoding)
    except (SerpentError, OSError, MemoryError) as error:
        return _failed(job, error)
    return picture


def _restore(
    session: Session,
    job: Job,
    picture: Picture | Outcome,
    options: BatchOptions,
    on_plan: PlanCallback | None,
) -> tuple[Outcome, Picture | None]:
    if isinstance(picture, Outcome):
        return picture, None
    start = time.perf_counter()
    plans: list[MemoryPlan] = []

    def planned(plan: MemoryPlan) -> None:
        plans.append(plan)
        if on_plan is not None:
            on_plan(plan)

    try:
        restored = restore_picture(
            session,
            picture,
            tiling=options.tiling,
            self_ensemble=options.self_ensemble,
            on_plan=planned,
        )
    except (SerpentError, MemoryError) as error:
        return _failed(job, error, picture.notes), None
    height, width = new_size(restored, options.encoding.resize, options.encoding.max_pixels)
    seconds = time.perf_counter() - start
    outcome = Outcome(
        job,
        width,
        height,
        seconds,
        restored.notes,
        predicted_peak=plans[0].predicted,
        measured_peak=session.memory().peak,
    )
    return outcome, restored


def _save(restored: Future[tuple[Outcome, Picture | None]], options: BatchOptions) -> Outcome:
    outcome, picture = restored.result()
    if picture is None:
        return outcome
    try:
        overwrite = _may_replace(outcome.job, options)
        dropped = write_picture(outcome.job.target, picture, encoding=options.encoding, overwrite=overwrite)
    except (SerpentError, OSError, MemoryError) as error:
        return _failed(outcome.job, error, outcome.notes)
    return replace(outcome, notes=(*outcome.notes, *dropped))
