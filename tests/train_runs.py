"""Runs of the training loop that its tests share."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from serpent.errors import SerpentError
from serpent.train import Fit, Recipe, fit
from serpent.train.checkpoints import load_checkpoint, save_checkpoint
from serpent.train.fitting import Machine
from serpent.train.photographs import Photographs
from training import TINY

RECIPE = Recipe(
    network=TINY, crop=16, batch=2, steps=20, learning_rate=2e-3, schedule="cosine", warmup=3, clip=1.0, ema=0.9,
    weight_decay=1e-4, validate_every=10, validate_crop=32, validate_pictures=3,
)  # fmt: skip
CPU = Machine("cpu", workers=0)


def run(pictures: Photographs, folder: Path, recipe: Recipe = RECIPE, **options: Any) -> Fit:
    options = {"machine": CPU, "log_every": 1, "tensorboard": False, **options}
    return fit(recipe, pictures, folder, **{"validation": pictures.paths[0].parent, **options})


def log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def curve(folder: Path) -> list[str]:
    return [f"{row['step']} {row['loss']} {row['gradient']} {row['validation_psnr']}" for row in log(folder)]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(folder).tensors)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def fail_at(step: int) -> Any:
    """``save_checkpoint`` as on a disk that is full at ``step``."""

    def save(folder: Path, checkpoint: Any, **options: Any) -> Path:
        if checkpoint.step == step:
            raise SerpentError("no space")
        return save_checkpoint(folder, checkpoint, **options)

    return save


class StopAfter:
    """A disk that fills up, a power cut: something that ends a run right after a log line."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, report: Any, _total: int) -> None:
        if report.step == self.step:
            raise RuntimeError("stopped")
