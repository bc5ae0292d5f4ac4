"""How well pictures are restored, against the degraded pictures and other floors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serpent.errors import ArgumentError
from serpent.evaluation.pairs import DegradedDigest, Pair
from serpent.metrics import psnr, ssim

Restore = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Takes a degraded picture (H, W, 3), RGB float32 in [0, 1]; gives the restored one, of that shape."""
Distance = Callable[[NDArray[np.float32], NDArray[np.float32]], float]
"""Takes the target and a result, both as in :data:`Restore`; smaller is better."""

DATA_RANGE = 1.0
"""Largest minus smallest value of a pixel, in PSNR and SSIM."""
DEGRADED, MODEL = "degraded", "model"


@dataclass(frozen=True)
class Scores:
    """Of one result, or the means over many.

    Attributes:
        psnr: decibels, infinite where the result equals its target.
        ssim: at most 1.
        lpips: at least 0; None where it was not asked for.
    """

    psnr: float
    ssim: float
    lpips: float | None = None


@dataclass(frozen=True)
class Row:
    """What became of one picture.

    Attributes:
        name: of the picture.
        height: pixels, before the border is left out.
        width: pixels.
        scores: by method: the degraded picture itself, the floors, the model.
        seconds: that the model took.
    """

    name: str
    height: int
    width: int
    scores: Mapping[str, Scores]
    seconds: float


Watch = Callable[[Row, Mapping[str, NDArray[np.float32]]], None]
"""Called after each picture with its row and its pictures: of each method, and the "target"."""


@dataclass(frozen=True)
class Evaluation:
    """The rows of all pictures.

    Attributes:
        rows: in the order of the pairs.
        border: pixels left out on each side.
        degraded_sha256: digest of the degraded pictures (:class:`DegradedDigest`).
    """

    rows: tuple[Row, ...]
    border: int
    degraded_sha256: str

    @property
    def methods(self) -> tuple[str, ...]:
        """The degraded picture first, the model last."""
        return tuple(self.rows[0].scores)

    @property
    def seconds(self) -> float:
        """That the model took for all pictures."""
        return sum(row.seconds for row in self.rows)

    def mean(self, method: str) -> Scores:
        """Means over the pictures, each with the same weight; of PSNR, the mean of the decibels."""
        of = [row.scores[method] for row in self.rows]
        distances = [each.lpips for each in of if each.lpips is not None]
        return Scores(
            float(np.mean([each.psnr for each in of])),
            float(np.mean([each.ssim for each in of])),
            float(np.mean(distances)) if distances else None,
        )


def evaluate(
    restore: Restore,
    pairs: Iterable[Pair],
    *,
    floors: Mapping[str, Restore] | None = None,
    border: int = 0,
    distance: Distance | None = None,
    watch: Watch | None = None,
) -> Evaluation:
    """Restore degraded pictures and compare the results with their targets.

    Results are compared as float32, clipped to [0, 1], not rounded to 8 bits.

    Args:
        restore: what is to be judged.
        pairs: at least one.
        floors: other methods to stand beside it, by name.
        border: pixels on each side that PSNR and SSIM leave out.
        distance: a third measure, over the whole picture.
        watch: told of each picture.

    Raises:
        ArgumentError: no pairs, a result of another shape or not finite, or a picture without 11 x 11 pixels inside
            its border.
    """
    methods: dict[str, Restore] = {DEGRADED: lambda picture: picture, **(floors or {}), MODEL: restore}
    digest, rows = DegradedDigest(), []
    for pair in pairs:
        digest.add(pair)
        results, scores = {}, {}
        for method, function in methods.items():
            start = time.perf_counter()
            results[method] = _checked(function(pair.degraded), method, pair)
            seconds = time.perf_counter() - start  # that of the model, which is last, remains
            scores[method] = _scores(pair.target, results[method], border, distance)
        height, width, _ = pair.target.shape
        rows.append(Row(pair.name, height, width, scores, seconds))
        if watch is not None:
            watch(rows[-1], {**results, "target": pair.target})
    if not rows:
        raise ArgumentError("there is no picture to evaluate on")
    return Evaluation(tuple(rows), border, digest.hexdigest())


def _checked(result: NDArray[np.float32], method: str, pair: Pair) -> NDArray[np.float32]:
    if result.shape != pair.target.shape:
        raise ArgumentError(
            f"{method} made {result.shape} of {pair.name}, which is {pair.target.shape}; expected that shape"
        )
    if not np.isfinite(result).all():
        raise ArgumentError(f"{method} gave values that are not finite (NaN or infinity) for {pair.name}")
    return np.clip(result, 0, 1).astype(np.float32, copy=False)


def _scores(target: NDArray[np.float32], result: NDArray[np.float32], border: int, distance: Distance | None) -> Scores:
    height, width, _ = target.shape
    inner = np.s_[border : height - border, border : width - border]
    return Scores(
        psnr(target[inner], result[inner], data_range=DATA_RANGE),
        ssim(target[inner], result[inner], data_range=DATA_RANGE),
        None if distance is None else distance(target, result),
    )
