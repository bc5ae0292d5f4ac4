"""The training loop as a library: steps, losses, weights, and what stops a run."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import serpent
from serpent.errors import CheckpointError, SerpentError, UsageError
from serpent.pictures import Picture, write_picture
from serpent.train import Recipe, save_network
from serpent.train.checkpoints import load_checkpoint
from serpent.train.fitting import Machine
from serpent.train.initial import Taken
from serpent.train.learner import Learner
from serpent.train.photographs import Photographs
from train_runs import RECIPE, fail_at, log, run, same, tensors
from training import make_pictures, plain


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    return Photographs([make_pictures(tmp_path_factory.mktemp("pictures"), 7)], least=32)


def test_learning_lowers_the_loss_and_leaves_weights_that_load(pictures: Photographs, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=60, task="denoise")
    result = run(pictures, tmp_path, recipe, about={"license": "public domain"})
    rows = log(tmp_path)
    losses = [float(row["loss"]) for row in rows]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert (result.step, result.total, result.reason) == (60, 60, "finished")
    validated = [float(row["validation_psnr"]) for row in rows if row["validation_psnr"]]
    assert len(validated) == 6
    assert result.best == pytest.approx(max(validated), rel=1e-5)
    with safe_open(result.weights, "pt") as file:
        assert file.metadata()["license"] == "public domain"
        assert file.metadata()["task"] == "denoise"
    serpent.load_model(result.weights)
    assert (tmp_path / "last.safetensors").exists()


def test_accumulated_passes_take_the_steps_of_a_whole_batch(pictures: Photographs, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, batch=4, steps=10)
    run(pictures, tmp_path / "whole", recipe)
    run(pictures, tmp_path / "parts", dataclasses.replace(recipe, accumulate=4))
    for one, other in zip(log(tmp_path / "whole"), log(tmp_path / "parts"), strict=True):
        assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-4)  # sums in another order


@pytest.mark.parametrize(("loss", "optimizer"), [("l1", "adamw"), ("charbonnier", "adam"), ("psnr", "adam")])
def test_other_losses_and_optimisers_learn_too(
    pictures: Photographs, tmp_path: Path, loss: str, optimizer: str
) -> None:
    fields = {**RECIPE.to_dict(), "loss": loss, "optimizer": optimizer, "steps": 40, "precision": "bf16"}
    run(pictures, tmp_path, Recipe.from_dict(fields))
    losses = [float(row["loss"]) for row in log(tmp_path)]
    assert sum(losses[-10:]) < sum(losses[:10])


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_the_batch(pictures: Photographs, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30, warmup=0, ema=0.0, validate_every=1, clip=0.0)
    with pytest.raises(SerpentError, match=r"of step \d+ are not finite; its batch is in") as caught:
        run(pictures, tmp_path, recipe, validation=None)
    (saved,) = tmp_path.glob("not-finite-*.safetensors")
    assert str(saved) in caught.value.message
    assert {name: tuple(tensor.shape) for name, tensor in load_file(saved).items()} == {
        "degraded_0": (2, 3, 16, 16),
        "clean_0": (2, 3, 16, 16),
    }


def test_weights_that_give_nan_replace_nothing(
    pictures: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Explode:
        """Weights that overflow between two steps, as a gradient just below the limit does it."""

        def __call__(self, report: Any, _total: int) -> None:
            if report.step == 14:
                for parameter in kept[0].average.module.parameters():
                    parameter.data.fill_(1e30)

    kept: list[Any] = []
    whole = Learner.__init__

    def remember(self: Any, *arguments: Any, **options: Any) -> None:
        whole(self, *arguments, **options)
        kept.append(self)

    monkeypatch.setattr(Learner, "__init__", remember)
    with pytest.raises(SerpentError, match="values that are not finite after step 20; what was saved before is kept"):
        run(pictures, tmp_path, on_report=Explode())
    monkeypatch.undo()
    assert load_checkpoint(tmp_path).step == 10
    best = load_file(tmp_path / "best.safetensors")
    assert all(float(tensor.abs().max()) < 1e3 for tensor in best.values())
    assert run(pictures, tmp_path, resume=True).step == 20


def test_a_failure_while_saving_loses_no_weights(
    pictures: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pictures, tmp_path / "whole")
    monkeypatch.setattr("serpent.train.learner.save_checkpoint", fail_at(20))
    with pytest.raises(SerpentError, match="no space"):
        run(pictures, tmp_path / "parts")
    monkeypatch.undo()
    result = run(pictures, tmp_path / "parts", resume=True)
    whole, parts = (load_file(tmp_path / each / "best.safetensors") for each in ("whole", "parts"))
    assert same(whole, parts)
    assert not math.isnan(result.best)


def test_a_checkpoint_of_another_width_is_refused(
    pictures: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pictures, tmp_path, dataclasses.replace(RECIPE, steps=1))
    wide = serpent.create_model("B", patch_size=2, embed_dim=8, num_scales=1, depth=1)
    monkeypatch.setattr("training.tiny", lambda: wide)
    with pytest.raises(CheckpointError, match="is of another network: "):
        run(pictures, tmp_path, dataclasses.replace(RECIPE, steps=1), resume=True)


def test_weights_of_another_run_are_taken_over_where_they_fit(pictures: Photographs, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=40, ema=0.0, validate_every=100)
    first = run(pictures, tmp_path / "first", recipe)
    last = float(log(tmp_path / "first")[-1]["loss"])
    run(pictures, tmp_path / "second", dataclasses.replace(recipe, warmup=0, steps=1), initial=first.weights)
    start = float(log(tmp_path / "first")[0]["loss"])
    assert float(log(tmp_path / "second")[0]["loss"]) < (start + last) / 2
    with pytest.raises(
        CheckpointError, match="no parameter in common.*: 0 of 4 tensors are from .*not in the file: 0.w"
    ):
        run(pictures, tmp_path / "third", dataclasses.replace(recipe, network="training:plain"), initial=first.weights)


def wide() -> torch.nn.Module:
    """training:plain with another last layer, and one more."""
    given = plain()
    layers = [given[0], given[1], torch.nn.Conv2d(4, 3, 5), torch.nn.Linear(2, 2)]  # type: ignore[index]
    network = torch.nn.Sequential(*layers)
    network.size_multiple = 1  # type: ignore[assignment]
    return network


def test_what_of_other_weights_fits_is_said(
    pictures: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.wide", wide, raising=False)
    path = tmp_path / "wide.safetensors"
    save_network(wide(), path, spec="training:wide", task="deblur", extra={})
    recipe = dataclasses.replace(RECIPE, network="training:plain", steps=1)
    said: list[Taken] = []
    result = run(pictures, tmp_path / "run", recipe, initial=path, on_taken=said.append)
    assert said == [result.taken]
    assert str(result.taken) == (
        f"3 of 4 tensors are from {path}; of another shape: 2.weight; only in the file: 3.weight, 3.bias"
    )
    assert run(pictures, tmp_path / "fresh", recipe).taken is None


@pytest.mark.parametrize(("about", "expected"), [({}, "CC BY-NC"), ({"license": "CC0"}, "CC0")])
def test_the_terms_of_the_first_weights_go_on(
    pictures: Photographs, tmp_path: Path, about: dict[str, str], expected: str
) -> None:
    path = tmp_path / "first.safetensors"
    save_network(plain(), path, spec="training:plain", task="deblur", extra={"license": "CC BY-NC"})
    recipe = dataclasses.replace(RECIPE, network="training:plain", steps=2)
    said: list[Taken] = []
    run(pictures, tmp_path / "run", recipe, initial=path, about=about, on_taken=said.append, max_minutes=0)
    assert str(said[0]) == f"4 of 4 tensors are from {path}; terms: CC BY-NC"
    run(pictures, tmp_path / "run", recipe, resume=True)
    with safe_open(tmp_path / "run" / "last.safetensors", "pt") as file:
        assert file.metadata()["license"] == expected


def test_long_lists_of_tensors_are_cut() -> None:
    taken = Taken(Path("w"), 1, 6, [], ["a", "b", "c", "d", "e"], [])
    assert str(taken) == "1 of 6 tensors are from w; not in the file: a, b, c and 2 more"


def test_sizes_that_the_network_does_not_take_are_named(pictures: Photographs, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="crop 17 is no multiple of 4, as the network training:tiny needs"):
        run(pictures, tmp_path, dataclasses.replace(RECIPE, crop=17))
    for spec, problem in (("Q", "expected B, L, H or module:factory"), ("training:none", "cannot be imported")):
        with pytest.raises(UsageError, match=problem):
            run(pictures, tmp_path, dataclasses.replace(RECIPE, network=spec))
    with pytest.raises(UsageError, match="makes PosixPath; expected a torch module with size_multiple"):
        run(pictures, tmp_path, dataclasses.replace(RECIPE, network="training:Path"))


def test_networks_that_cannot_be_used_are_named(pictures: Photographs, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'training:wanting' cannot be made: TypeError: .*missing 1 .*py:\d+\)"):
        run(pictures, tmp_path, dataclasses.replace(RECIPE, network="training:wanting"))
    with pytest.raises(UsageError, match=r"gray makes \(2, 1, 16, 16\) of \(2, 3, 16, 16\); expected the same"):
        run(pictures, tmp_path, dataclasses.replace(RECIPE, network="training:gray"))


def test_a_picture_that_is_restored_to_the_last_bit_ends_no_run(pictures: Photographs, tmp_path: Path) -> None:
    """A black one: what is below 0 is clipped, and its PSNR infinite."""
    (tmp_path / "held").mkdir()
    write_picture(tmp_path / "held" / "black.png", Picture(np.zeros((32, 32, 3), np.float32)))
    recipe = dataclasses.replace(RECIPE, network="training:black", task="inpaint", steps=2, validate_every=1)
    result = run(pictures, tmp_path / "run", recipe, validation=tmp_path / "held")
    assert (result.step, result.best) == (2, 120.0)


@pytest.mark.slow
def test_a_compiled_network_learns_alike(pictures: Photographs, tmp_path: Path) -> None:
    for crop in (16, 24):  # the second in one process: sizes would turn into variables
        eager, compiled = tmp_path / f"eager-{crop}", tmp_path / f"compiled-{crop}"
        recipe = dataclasses.replace(RECIPE, crop=crop, steps=5, validate_every=100)
        run(pictures, eager, recipe)
        run(pictures, compiled, recipe, machine=Machine("cpu", workers=0, compile=True))
        for one, other in zip(log(eager), log(compiled), strict=True):
            assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-3)
        assert tensors(eager).keys() == tensors(compiled).keys()
