"""Every peer trains and is evaluated as Serpent is: by its name."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch

from serpent.evaluation import Pairs
from serpent.train import Recipe, create_network, fit, load_network
from serpent.train.fitting import Machine
from serpent.train.photographs import Photographs
from serpent.train.validation import Validation
from test_peers import every_network
from training import make_pictures


@pytest.mark.slow
@every_network
def test_twenty_steps(name: str, tmp_path: Path) -> None:
    crop = 32 if "unet" in name else 16
    recipe = Recipe(network=name, task="denoise", crop=crop, steps=20, ema=0, validate_crop=crop, validate_pictures=2)
    folder = make_pictures(tmp_path / "pictures", 3)
    photographs = Photographs([folder], least=crop)
    run, machine = tmp_path / "run", Machine("cpu", workers=0)
    try:
        result = fit(recipe, photographs, run, validation=folder, machine=machine, tensorboard=False)
        assert (result.step, result.reason) == (20, "finished")
        trained, fresh = load_network(result.weights), create_network(name, seed=recipe.seed)
    finally:
        shutil.rmtree(run)  # with the optimiser's state up to 1.5 GB
    stuck = [key for key, value in fresh.state_dict().items() if torch.equal(value, trained.state_dict()[key])]
    assert stuck == []
    # The weights read from the file give the figure that was measured in training.
    pairs = Pairs(folder, recipe.task, recipe.seed, crop)
    total, _, count = Validation(pairs, recipe.validate_pictures).measure(trained, torch.device("cpu"), 0, 1)
    assert math.isfinite(result.best)
    assert total / count == pytest.approx(result.best, abs=1e-3)
