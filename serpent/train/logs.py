"""What a run says about itself: a CSV that survives interruptions, and TensorBoard."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from serpent.files import written_aside


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
        images_per_second: crops.
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
    """``run/log.csv`` and, where tensorboardX is installed and wanted, ``run/tensorboard``.

    Args:
        run: folder of the run.
        step: steps done; lines after it, of a run that went on without a checkpoint, are dropped.
        tensorboard: whether to write event files.
    """

    def __init__(self, run: Path, step: int, *, tensorboard: bool) -> None:
        self._path = run / "log.csv"
        rows = []
        if self._path.exists() and step > 0:
            with self._path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        with written_aside(self._path) as aside, aside.open("w", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        self._board = None
        if tensorboard:
            from serpent.extras import require

            board = require("tensorboardX", "train", "writing TensorBoard events")
            self._board = board.SummaryWriter(str(run / "tensorboard"), purge_step=step)

    def write(self, report: Report) -> None:
        """Add a line."""
        values = dataclasses.asdict(report)
        row = {name: "" if value is None else f"{value:.6g}" for name, value in values.items()}
        row |= {"step": str(report.step), "samples": str(report.samples)}
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, _COLUMNS, lineterminator="\n").writerow(row)
        if self._board is not None:
            for name, value in values.items():
                if name not in ("step", "samples") and value is not None:
                    self._board.add_scalar(name, value, report.step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()
