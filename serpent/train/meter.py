"""Means of what the steps gave, from one line of the log to the next."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from serpent.train.logs import Report

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Meter:
    """Means since the last line of the log.

    Args:
        batch: crops in one step, over all processes.
        past: what :meth:`state` gave when the run was interrupted between two lines.
        device: where the steps' values are.
    """

    def __init__(self, batch: int, past: Mapping[str, Any] | None, device: torch.device) -> None:
        self._batch = batch
        self._sums: Tensor | None
        self.start()
        if past is not None:
            self._sums = torch.tensor(past["sums"], dtype=torch.float32, device=device)
            self._steps = past["steps"]
            self._start -= past["seconds"]

    def start(self) -> None:
        """Begin anew, with the clock."""
        self._sums = None
        self._steps = 0
        self._start = time.monotonic()

    def seconds(self) -> float:
        """Since the start."""
        return max(time.monotonic() - self._start, 1e-9)

    def add(self, loss: Tensor, error: Tensor, gradient: Tensor) -> None:
        """Take in one step."""
        values = torch.stack([loss, error, gradient])
        self._sums = values if self._sums is None else self._sums + values  # stays on the device until a line is due
        self._steps += 1

    def state(self, fabric: Fabric) -> dict[str, Any]:
        """What the next line needs of the steps so far, all processes taken together; plain JSON."""
        sums: Any = fabric.all_reduce(self._summed(), reduce_op="mean")
        return {"sums": sums.tolist(), "steps": self._steps, "seconds": self.seconds()}

    def report(
        self, fabric: Fabric, step: int, rate: float, seconds: float, validated: tuple[float, float] | None
    ) -> Report:
        """The line after ``step``, all processes taken together."""
        means: Any = fabric.all_reduce(self._summed() / self._steps, reduce_op="mean")
        loss, error, gradient = (float(value) for value in means)
        images = self._steps * self._batch / seconds
        psnr = -10 * math.log10(max(error, 1e-12))
        return Report(step, step * self._batch, loss, psnr, rate, gradient, images, *(validated or (None, None)))

    def _summed(self) -> Tensor:
        assert self._sums is not None
        return self._sums
