"""The training loop as a library: steps, resuming to the bit, and what stops a run."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import serpent
from serpent.errors import CheckpointError, SerpentError, UsageError
from serpent.train import Fit, Recipe, fit, load_network, save_network
from serpent.train.checkpoints import load_checkpoint, save_checkpoint
from serpent.train.fitting import Machine
from serpent.train.initial import Taken
from serpent.train.learner import Learner
from serpent.train.logs import Log, Report
from serpent.train.meter import Meter
from serpent.train.photographs import Photographs
from serpent.train.samples import Samples, batches
from training import TINY, make_pictures, plain

RECIPE = Recipe(
    network=TINY, crop=16, batch=2, steps=20, learning_rate=2e-3, schedule="cosine", warmup=3, clip=1.0, ema=0.9,
    weight_decay=1e-4, validate_every=10, validate_crop=32, validate_pictures=3,
)  # fmt: skip
CPU = Machine("cpu", workers=0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    return Photographs([make_pictures(tmp_path_factory.mktemp("pictures"), 7)], least=32)


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


def test_resuming_is_exact_to_the_bit(pictures: Photographs, tmp_path: Path) -> None:
    run(pictures, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="stopped"):  # after step 15: the checkpoint is of step 10
        run(pictures, tmp_path / "parts", on_report=StopAfter(15))
    assert load_checkpoint(tmp_path / "parts").step == 10
    result = run(pictures, tmp_path / "parts", resume=True)
    assert result.step == 20
    assert same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))
    assert curve(tmp_path / "whole") == curve(tmp_path / "parts")  # also: the lines after the checkpoint came anew
    weights = [load_file(tmp_path / each / "best.safetensors") for each in ("whole", "parts")]
    assert same(*weights)


def test_a_network_with_dropout_resumes_to_the_bit(pictures: Photographs, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, network="training:plain", steps=8, validate_every=4, ema=0.0)
    run(pictures, tmp_path / "whole", recipe)
    with pytest.raises(RuntimeError, match="stopped"):
        run(pictures, tmp_path / "parts", recipe, on_report=StopAfter(6))
    torch.rand(3)  # whatever happened to the global generator in between
    run(pictures, tmp_path / "parts", recipe, resume=True)
    assert same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))
    network = load_network(tmp_path / "whole" / "best.safetensors")
    assert network(torch.rand(1, 3, 9, 7)).shape == (1, 3, 9, 7)


def test_parts_of_checkpoints_hold_the_same(pictures: Photographs, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=2, network="B", crop=32)
    run(pictures, tmp_path / "whole", recipe)
    run(pictures, tmp_path / "parts", recipe, shard_mib=8)
    folder = tmp_path / "parts" / "checkpoint-000000002"
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(files) > 5
    assert files[0] == f"state-00001-of-{len(files):05d}.safetensors"
    assert all(path.stat().st_size < 9 << 20 for path in folder.glob("*.safetensors"))
    index = json.loads((folder / "state.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(files)
    assert same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors(tmp_path / "parts").values())


def test_accumulated_passes_take_the_steps_of_a_whole_batch(pictures: Photographs, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, batch=4, steps=10)
    run(pictures, tmp_path / "whole", recipe)
    run(pictures, tmp_path / "parts", dataclasses.replace(recipe, accumulate=4))
    for one, other in zip(log(tmp_path / "whole"), log(tmp_path / "parts"), strict=True):
        assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-4)  # sums in another order


def test_activations_computed_again_change_no_bit(pictures: Photographs, tmp_path: Path) -> None:
    run(pictures, tmp_path / "kept", dataclasses.replace(RECIPE, steps=5))
    machine = Machine("cpu", workers=0, checkpoint_activations=True)
    run(pictures, tmp_path / "again", dataclasses.replace(RECIPE, steps=5), machine=machine)
    assert curve(tmp_path / "kept") == curve(tmp_path / "again")
    with pytest.raises(UsageError, match="only Serpent networks"):
        run(pictures, tmp_path / "plain", dataclasses.replace(RECIPE, network="training:plain"), machine=machine)


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


def test_a_network_with_parameters_that_get_no_gradient_resumes(pictures: Photographs, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, network="training:frozen", steps=4, validate_every=2)
    run(pictures, tmp_path / "whole", recipe)
    with pytest.raises(RuntimeError, match="stopped"):
        run(pictures, tmp_path / "parts", recipe, on_report=StopAfter(3))
    run(pictures, tmp_path / "parts", recipe, resume=True)
    assert same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))


def test_a_checkpoint_of_another_width_is_refused(
    pictures: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pictures, tmp_path, dataclasses.replace(RECIPE, steps=1))
    wide = serpent.create_model("B", patch_size=2, embed_dim=8, num_scales=1, depth=1)
    monkeypatch.setattr("training.tiny", lambda: wide)
    with pytest.raises(CheckpointError, match="is of another network: "):
        run(pictures, tmp_path, dataclasses.replace(RECIPE, steps=1), resume=True)


def test_a_resumed_run_keeps_what_is_said_of_its_weights(pictures: Photographs, tmp_path: Path) -> None:
    run(pictures, tmp_path, dataclasses.replace(RECIPE, steps=2), about={"license": "CC0"}, max_minutes=0)
    result = run(pictures, tmp_path, dataclasses.replace(RECIPE, steps=2), resume=True)
    assert result.step == 2
    for name in ("last", "best"):
        with safe_open(tmp_path / f"{name}.safetensors", "pt") as file:
            assert file.metadata()["license"] == "CC0"


def test_an_interruption_between_validations_changes_no_weights(pictures: Photographs, tmp_path: Path) -> None:
    """What ends by its time limit (at every step here) and goes on equals what was never interrupted."""
    recipe = dataclasses.replace(RECIPE, steps=6, validate_every=3)
    run(pictures, tmp_path / "whole", recipe)
    run(pictures, tmp_path / "parts", recipe, max_minutes=0)
    for _ in range(5):
        result = run(pictures, tmp_path / "parts", recipe, resume=True, max_minutes=0)
    assert (result.step, result.reason) == (6, "time limit")
    assert same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))
    assert curve(tmp_path / "whole") == curve(tmp_path / "parts")
    assert same(*(load_file(tmp_path / each / "best.safetensors") for each in ("whole", "parts")))


def interrupt_at(*steps: int) -> Any:
    """Ctrl-C after each of these steps."""

    def on_step(step: int, _total: int) -> None:
        if step in steps:
            signal.raise_signal(signal.SIGINT)

    return on_step


def test_the_log_of_an_interrupted_run_equals_the_whole_one_between_its_lines_too(
    pictures: Photographs, tmp_path: Path
) -> None:
    """Twice before a line (4, 5), right at one (12), and with a validation in between (10)."""
    run(pictures, tmp_path / "whole", log_every=6)
    for number, step in enumerate((4, 5, 12, 13, 20)):
        parts = run(pictures, tmp_path / "parts", log_every=6, on_step=interrupt_at(step), resume=number > 0)
        assert parts.step == step
    whole, parts = (log(tmp_path / each) for each in ("whole", "parts"))
    assert [row["step"] for row in whole] == ["6", "10", "12", "18", "20"]
    for row in (*whole, *parts):
        assert float(row.pop("images_per_second")) > 0
    assert whole == parts


def test_the_meter_goes_on_with_its_clock() -> None:
    past = {"sums": [1.0, 2.0, 3.0], "steps": 4, "seconds": 1000.0}
    assert 1000 <= Meter(2, past, torch.device("cpu")).seconds() < 1010


def test_a_checkpoint_from_before_meters_were_kept_resumes(pictures: Photographs, tmp_path: Path) -> None:
    run(pictures, tmp_path, log_every=6, on_step=interrupt_at(4))
    path = tmp_path / "checkpoint-000000004" / "state.json"
    state = json.loads(path.read_text())
    assert state.pop("meter")["steps"] == 4
    path.write_text(json.dumps(state))
    assert run(pictures, tmp_path, log_every=6, resume=True).step == 20
    assert [row["step"] for row in log(tmp_path)] == ["6", "10", "12", "18", "20"]


def test_checkpoints_come_without_validation_too(pictures: Photographs, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stopped"):
        run(pictures, tmp_path, validation=None, on_report=StopAfter(15))
    assert load_checkpoint(tmp_path).step == 10
    assert (tmp_path / "last.safetensors").exists()
    assert not (tmp_path / "best.safetensors").exists()


def test_a_run_is_not_overwritten(pictures: Photographs, tmp_path: Path) -> None:
    run(pictures, tmp_path, dataclasses.replace(RECIPE, steps=1))
    with pytest.raises(UsageError, match="holds a run already") as caught:
        run(pictures, tmp_path)
    assert "--resume" in str(caught.value)


def test_what_failed_before_its_first_checkpoint_starts_anew(pictures: Photographs, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30, warmup=0, ema=0.0, clip=0.0)
    for _ in range(2):  # the second one is not told that a run is there
        with pytest.raises(SerpentError, match="its batch is in") as caught:
            run(pictures, tmp_path, recipe)
        assert caught.value.hint == "lower learning_rate or set clip in the recipe, and start anew"
    with pytest.raises(CheckpointError, match="no checkpoint") as caught:
        run(pictures, tmp_path, recipe, resume=True)
    assert caught.value.hint == "start the run without --resume"
    assert run(pictures, tmp_path, dataclasses.replace(RECIPE, steps=1)).step == 1
    assert [row["step"] for row in log(tmp_path)] == ["1"]
    assert list(tmp_path.glob("not-finite-*"))  # what was saved stays


@pytest.mark.parametrize("resume", [False, True])
def test_weights_without_a_checkpoint_are_kept_and_named(
    pictures: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    """As a run leaves them that is killed between its weights and its first checkpoint."""
    monkeypatch.setattr("serpent.train.learner.save_checkpoint", fail_at(1))
    recipe = dataclasses.replace(RECIPE, steps=1)
    with pytest.raises(SerpentError, match="no space"):
        run(pictures, tmp_path / "run", recipe)
    monkeypatch.undo()
    last = tmp_path / "run" / "last.safetensors"
    with pytest.raises(
        UsageError, match=r"holds weights \(best.safetensors, last.safetensors\) but no check"
    ) as caught:
        run(pictures, tmp_path / "run", recipe, resume=resume)
    assert f"another --out, with --init {last}" in str(caught.value)
    assert "--resume" not in str(caught.value)
    assert run(pictures, tmp_path / "other", recipe, initial=last).step == 1


def test_a_failure_after_a_checkpoint_names_the_weights_to_start_from(pictures: Photographs, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30, ema=0.0, clip=0.0, warmup=0, validate_every=1)
    with pytest.raises(SerpentError, match="its batch is in") as caught:
        run(pictures, tmp_path, recipe, validation=None)
    assert str(caught.value.hint).endswith(f"(another --out, with --init {tmp_path / 'last.safetensors'})")


def test_a_log_that_cannot_be_written_names_resume_only_where_there_is_a_checkpoint(tmp_path: Path) -> None:
    lines = Log(tmp_path, 0, tensorboard=False)
    (tmp_path / "log.csv").unlink()
    (tmp_path / "log.csv").mkdir()
    for hint in ("start anew", "go on with --resume"):
        with pytest.raises(SerpentError, match="cannot write the log") as caught:
            lines.write(Report(1, 2, 0.5, 20.0, 1e-3, 1.0, 3.0))
        assert str(caught.value.hint).endswith(hint)
        (tmp_path / "checkpoint-000000001").mkdir(exist_ok=True)


def test_resuming_with_other_hyper_parameters_names_them(pictures: Photographs, tmp_path: Path) -> None:
    run(pictures, tmp_path, dataclasses.replace(RECIPE, steps=1))
    with pytest.raises(UsageError) as caught:
        run(pictures, tmp_path, dataclasses.replace(RECIPE, steps=1, clip=0.5, learning_rate=1e-3), resume=True)
    assert "learning_rate: 0.002, now 0.001\n  clip: 1.0, now 0.5" in caught.value.message


def test_resuming_on_other_pictures_is_refused(pictures: Photographs, tmp_path: Path) -> None:
    run(pictures, tmp_path / "run", dataclasses.replace(RECIPE, steps=1))
    others = Photographs([make_pictures(tmp_path / "others", 7, side=45)], least=32)  # of the same names
    with pytest.raises(UsageError, match="learns from other pictures"):
        run(others, tmp_path / "run", dataclasses.replace(RECIPE, steps=1), resume=True)
    with pytest.raises(UsageError, match="is validated on other pictures"):
        run(pictures, tmp_path / "run", dataclasses.replace(RECIPE, steps=1), resume=True, validation=None)


def test_resuming_without_or_with_a_damaged_checkpoint_is_an_error(pictures: Photographs, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no checkpoint to resume from"):
        run(pictures, tmp_path, resume=True)
    run(pictures, tmp_path, dataclasses.replace(RECIPE, steps=2))
    state = tmp_path / "checkpoint-000000002" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="checkpoint-000000002 is damaged"):
        run(pictures, tmp_path, dataclasses.replace(RECIPE, steps=2), resume=True)


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


def test_fp16_skips_steps_whose_gradients_overflow_and_resumes_its_scale(pictures: Photographs, tmp_path: Path) -> None:
    """On the CPU, with the scaler that CUDA would have: Fabric refuses fp16 there."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision

    def learner() -> Learner:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=1000)
        fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))
        fabric.launch()
        return Learner(dataclasses.replace(RECIPE, precision="fp16"), {}, fabric)

    first = learner()
    before = {name: tensor.clone() for name, tensor in first.network.state_dict().items()}
    batch = next(batches(Samples(pictures, RECIPE), iter([[0, 1]]), 0))
    _, _, norm = first.step([batch], 1e-3, 0, tmp_path)
    assert not norm.isfinite()  # 2^40 is too much
    assert all(torch.equal(before[name], tensor) for name, tensor in first.network.state_dict().items())
    for step in range(1, 60):
        _, _, norm = first.step([batch], 1e-3, step, tmp_path)
    assert norm.isfinite()
    assert any(not torch.equal(before[name], tensor) for name, tensor in first.network.state_dict().items())
    first.save(tmp_path, 60, 100, shard_mib=None)
    second = learner()
    assert second.resume(tmp_path) == (60, None)
    assert second._scaler.get_scale() == first._scaler.get_scale() < 2.0**40


@pytest.mark.slow
@pytest.mark.parametrize("crop", [16, 24])  # the second in one process: sizes would turn into variables
def test_a_compiled_network_learns_alike(crop: int, pictures: Photographs, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, crop=crop, steps=5, validate_every=100)
    run(pictures, tmp_path / "eager", recipe)
    run(pictures, tmp_path / "compiled", recipe, machine=Machine("cpu", workers=0, compile=True))
    for one, other in zip(log(tmp_path / "eager"), log(tmp_path / "compiled"), strict=True):
        assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-3)
    assert tensors(tmp_path / "eager").keys() == tensors(tmp_path / "compiled").keys()
