"""Training runs that are interrupted, resumed, or started again where one was."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from serpent import files
from serpent.errors import CheckpointError, SerpentError, UsageError
from serpent.train import load_network
from serpent.train.checkpoints import load_checkpoint
from serpent.train.fitting import Machine
from serpent.train.learner import Learner
from serpent.train.logs import Log, Report
from serpent.train.meter import Meter
from serpent.train.photographs import Photographs
from serpent.train.samples import Samples, batches
from train_runs import RECIPE, StopAfter, curve, fail_at, log, run, same, tensors
from training import TINY, make_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    return Photographs([make_pictures(tmp_path_factory.mktemp("pictures"), 7)], least=32)


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


@pytest.mark.parametrize("shard_mib", [None, 1])
def test_who_may_read_a_run_may_go_on_with_it(pictures: Photographs, tmp_path: Path, shard_mib: int | None) -> None:
    before = os.umask(0o027)
    try:
        run(pictures, tmp_path, dataclasses.replace(RECIPE, steps=1), shard_mib=shard_mib)
    finally:
        os.umask(before)
    (folder,) = tmp_path.glob("checkpoint-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o640}


def test_activations_computed_again_change_no_bit(pictures: Photographs, tmp_path: Path) -> None:
    run(pictures, tmp_path / "kept", dataclasses.replace(RECIPE, steps=5))
    machine = Machine("cpu", workers=0, checkpoint_activations=True)
    run(pictures, tmp_path / "again", dataclasses.replace(RECIPE, steps=5), machine=machine)
    assert curve(tmp_path / "kept") == curve(tmp_path / "again")
    with pytest.raises(UsageError, match="only Serpent networks"):
        run(pictures, tmp_path / "plain", dataclasses.replace(RECIPE, network="training:plain"), machine=machine)


def test_a_network_with_parameters_that_get_no_gradient_resumes(pictures: Photographs, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, network="training:frozen", steps=4, validate_every=2)
    run(pictures, tmp_path / "whole", recipe)
    with pytest.raises(RuntimeError, match="stopped"):
        run(pictures, tmp_path / "parts", recipe, on_report=StopAfter(3))
    run(pictures, tmp_path / "parts", recipe, resume=True)
    assert same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))


@pytest.mark.parametrize("shard_mib", [None, 1])
def test_a_network_that_uses_a_layer_twice_is_saved_and_resumes(
    pictures: Photographs, tmp_path: Path, shard_mib: int | None
) -> None:
    recipe = dataclasses.replace(RECIPE, network="training:shared", steps=4, validate_every=2)
    run(pictures, tmp_path / "whole", recipe)
    with pytest.raises(RuntimeError, match="stopped"):
        run(pictures, tmp_path / "parts", recipe, on_report=StopAfter(3), shard_mib=shard_mib)
    run(pictures, tmp_path / "parts", recipe, resume=True, shard_mib=shard_mib)
    assert same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))
    state = load_network(tmp_path / "parts" / "last.safetensors").state_dict()
    assert torch.equal(state["0.weight"], state["2.weight"])


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


@pytest.mark.parametrize("torn", ["1", "1,2,0.0", "\0\0\0"])
def test_a_line_of_the_log_that_was_not_finished_is_dropped(pictures: Photographs, tmp_path: Path, torn: str) -> None:
    """As a full disk or a power cut leaves it."""
    run(pictures, tmp_path, max_minutes=0)
    with (tmp_path / "log.csv").open("a") as file:
        file.write(torn)
    run(pictures, tmp_path, resume=True)
    assert [row["step"] for row in log(tmp_path)] == [str(step) for step in range(1, 21)]


def test_what_a_killed_process_had_begun_to_write_is_removed(pictures: Photographs, tmp_path: Path) -> None:
    """A kill in the middle of the first weights leaves no run that could be gone on with, and none to lose."""
    for name in ("last", "best"):
        (tmp_path / f".{name}.serpent-0a1b2c.safetensors").write_bytes(b"half")
    assert run(pictures, tmp_path, dataclasses.replace(RECIPE, steps=1)).step == 1
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("network", [TINY, "training:plain"])
def test_weights_that_are_being_written_are_not_taken_for_abandoned(
    pictures: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    """Which every run looks for that starts in the same folder."""

    def to_disk(path: Path) -> None:
        files.remove_abandoned(path.parent)

    monkeypatch.setattr(files, "to_disk", to_disk)
    run(pictures, tmp_path, dataclasses.replace(RECIPE, network=network, steps=1))
    assert (tmp_path / "last.safetensors").exists()
    assert list(tmp_path.glob(".*")) == []


def test_a_disk_that_is_full_at_weights_or_log_names_the_next_command(
    pictures: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> Any:
        raise SerpentError(f"cannot write {path}: No space left on device", hint="choose another folder")

    recipe = dataclasses.replace(RECIPE, steps=4)
    run(pictures, tmp_path / "run", recipe, max_minutes=0)
    for module, file in (("model.checkpoint", "last.safetensors"), ("train.logs", "log.csv")):
        monkeypatch.setattr(f"serpent.{module}.written_aside", full)
        for folder, resume, command in (("run", True, "go on with --resume"), (file, False, "start anew")):
            with pytest.raises(SerpentError, match=rf"{file}: No space left") as caught:
                run(pictures, tmp_path / folder, recipe, resume=resume)
            assert caught.value.hint == f"free some space, then {command}"


def test_a_second_sigterm_is_the_same_request(pictures: Photographs, tmp_path: Path) -> None:
    """A scheduler tells every process to end, and torchrun tells its own once more."""

    def on_step(step: int, _total: int) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the run was ended without a checkpoint"))
    try:
        result = run(pictures, tmp_path, on_step=on_step)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (result.step, result.reason) == (3, "interrupted")
    assert load_checkpoint(tmp_path).step == 3


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


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("[]", "list indices must be integers"),
        ('{"weight_map": 3}', "no attribute 'values'"),
        ('{"weight_map": {"optimizer.exp_avg.x": "state-00001-of-00001.safetensors"}}', "lack optimizer.exp_avg.x"),
    ],
)
def test_a_damaged_index_is_an_error_that_names_the_last_weights(
    pictures: Photographs, tmp_path: Path, index: str, message: str
) -> None:
    recipe = dataclasses.replace(RECIPE, steps=1)
    run(pictures, tmp_path, recipe, shard_mib=64)
    (tmp_path / "checkpoint-000000001" / "state.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=f"checkpoint-000000001 is damaged: .*{message}") as caught:
        run(pictures, tmp_path, recipe, resume=True)
    last = tmp_path / "last.safetensors"
    assert caught.value.hint == f"start anew in another folder from the last weights (--init {last})"


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
