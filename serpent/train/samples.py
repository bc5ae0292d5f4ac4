"""Samples as a pure function of their number, so that neither workers, processes nor interruptions change them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from serpent.degradations import degrade, generator
from serpent.train.photographs import Photographs
from serpent.train.recipe import Recipe

Sample = tuple[NDArray[np.float32], NDArray[np.float32]]
"""(degraded, clean), each (crop, crop, 3) float32 in [0, 1]."""


class Samples:
    """Random crops and their degradations.

    Sample g is of epoch g // n over n pictures; each epoch takes every picture once, in an order of its own.
    """

    def __init__(self, photographs: Photographs, recipe: Recipe) -> None:
        self._photographs = photographs
        self._recipe = recipe
        self._order: tuple[int, NDArray[np.intp]] = (-1, np.zeros(0, np.intp))

    def __getitem__(self, number: int) -> Sample:
        recipe = self._recipe
        epoch, place = divmod(number, len(self._photographs))
        random = generator(recipe.seed, "sample", number)
        clean = _crop(self._photographs[int(self._permutation(epoch)[place])], recipe.crop, random)
        if recipe.augment:
            clean = np.rot90(clean, int(random.integers(4)))
            clean = clean[:, ::-1] if random.integers(2) else clean
        clean = np.ascontiguousarray(clean)
        return degrade(clean, recipe.task, random), clean

    def _permutation(self, epoch: int) -> NDArray[np.intp]:
        kept, order = self._order
        if kept != epoch:
            order = generator(self._recipe.seed, "order", epoch).permutation(len(self._photographs))
            self._order = (epoch, order)  # one assignment: readers on other threads see an old pair or a new one
        return order


def batches(samples: Samples, numbers: Iterable[list[int]], workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Make batches ahead of their use, on threads (numpy releases the interpreter's lock).

    Args:
        samples: where they come from.
        numbers: the samples of each batch.
        workers: threads, and batches that are ready before they are asked for; 0 makes each when it is asked for.

    Yields:
        (degraded, clean), each (B, 3, crop, crop) float32.
    """
    if workers == 0:
        for group in numbers:
            yield _stack(samples, group)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="samples") as pool:
        ahead: deque[Future[tuple[Tensor, Tensor]]] = deque()
        try:
            for group in numbers:
                ahead.append(pool.submit(_stack, samples, group))
                if len(ahead) > workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def to_tensor(pictures: list[NDArray[np.float32]]) -> Tensor:
    """(H, W, 3) each, to (B, 3, H, W)."""
    return torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy())


def as_float(picture: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
    """Values in [0, 1]."""
    if picture.dtype == np.uint8:
        return picture.astype(np.float32) / np.float32(255)
    return picture.astype(np.float32, copy=False)


def _stack(samples: Samples, numbers: list[int]) -> tuple[Tensor, Tensor]:
    degraded, clean = zip(*(samples[number] for number in numbers), strict=True)
    return to_tensor(list(degraded)), to_tensor(list(clean))


def _crop(picture: NDArray[np.float32], side: int, random: Generator) -> NDArray[np.float32]:
    height, width, _ = picture.shape
    top, left = random.integers(height - side + 1), random.integers(width - side + 1)
    return as_float(picture[top : top + side, left : left + side])
