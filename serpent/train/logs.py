"""What a run says about itself: a CSV that survives interruptions, and TensorBoard."""

from __future__ import annotations

import csv
import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serpent.errors import SerpentError
from serpent.extras import require
from serpent.files import written_aside
from serpent.train.checkpoints import after_freeing


@dataclass(frozen=True)
class Report:
    """One line of the log: means since the line before.

    Attributes:
        step: optimiser steps done.
        samples: crops seen.
        loss: mean of the recipe's loss.
        psnr: of the training crops, decibels, from the mean squared error.
        learning_rate: of the last step.
        gradient: L2 norm of the whole gradient, before clipping.
        images_per_second: crops learned from, validation and checkpoints apart.
        validation_psnr: decibels, mean over pictures; where this step was validated.
        validation_ssim: mean over pictures.
    """

    step: int
    samples: int
    loss: float
    psnr: float
    learning_rate: float
    gradient: float
    images_per_second: float
    validation_psnr: float | None = None
    validation_ssim: float | None = None


_COLUMNS = [field.name for field in dataclasses.fields(Report)]


class Log:
    """``run/log.csv`` and, where wanted, event files for TensorBoard in ``run/tensorboard``.

    Args:
        run: folder of the run.
        step: steps done; lines after it, of a run that went on without a checkpoint, are dropped.
        tensorboard: whether to write event files.

    Raises:
        SerpentError: the files cannot be written.
    """

    def __init__(self, run: Path, step: int, *, tensorboard: bool) -> None:
        self._path = run / "log.csv"
        rows = []
        if self._path.exists() and step > 0:
            # A full disk or a power cut ends a file in the middle of a line, whose numbers are not what they were.
            whole = self._path.read_text().rpartition("\n")[0]
            rows = [row for row in csv.DictReader(whole.splitlines()) if int(row["step"]) <= step]
        try:
            with written_aside(self._path) as aside, aside.open("w", newline="") as file:
                writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        except SerpentError as error:  # which advises another folder, where nothing could be gone on with
            raise SerpentError(error.message, hint=after_freeing(run)) from None
        self._events = Events(run / "tensorboard", step) if tensorboard else None

    def write(self, report: Report) -> None:
        """Add a line.

        Raises:
            SerpentError: the disk is full.
        """
        values = dataclasses.asdict(report)
        row = {name: "" if value is None else f"{value:.6g}" for name, value in values.items()}
        row |= {"step": str(report.step), "samples": str(report.samples)}
        try:
            with self._path.open("a", newline="") as file:
                csv.DictWriter(file, _COLUMNS, lineterminator="\n").writerow(row)
            if self._events is not None:
                scalars = {k: v for k, v in values.items() if k not in ("step", "samples") and v is not None}
                self._events.write(report.step, scalars)
        except OSError as error:
            hint = after_freeing(self._path.parent)
            raise SerpentError(f"cannot write the log {self._path}: {error.strerror}", hint=hint) from None


class Events:
    """An event file of TensorBoard.

    Written at once: tensorboardX's own writer has a thread and a queue, which on a full disk stop the run for good.

    Args:
        folder: where event files go; made if it is not there.
        step: what an earlier file says after it does not count.
    """

    def __init__(self, folder: Path, step: int) -> None:
        require("tensorboardX", "train", "writing TensorBoard events")
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar

        self._event, self._scalar = Event, scalar
        folder.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        start = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(wall_time=time.time(), step=step, session_log=start))
        self._writer.flush()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add one value to each curve.

        Raises:
            OSError: the disk is full.
        """
        for name, value in scalars.items():
            summary = self._scalar(name, value)
            self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()
