"""``serpent-train`` as people type it: processes, signals, limits, and what bad input gets."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import serpent
from serpent.errors import SerpentError, UsageError
from serpent.train.checkpoints import load_checkpoint
from serpent.train.logs import Report
from serpent.train.photographs import Photographs
from serpent_cli.training import _shown, train
from training import TINY, make_pictures, run_train, start_train

SMALL = ("--network", TINY, "--crop", "16", "--accelerator", "cpu", "--no-tensorboard", "--log-every", "1")


def load(run: Path) -> int:
    return load_checkpoint(run).step


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_writes_its_log_its_weights_and_events(tmp_path: Path) -> None:
    data = make_pictures(tmp_path / "data", 4)
    arguments = [*SMALL[:-3], "--batch", "2", "--steps", "4", "--set", "validate_crop=32", "--set", "loss=l1"]
    run = run_train(
        tmp_path, data, "--out", tmp_path / "run", "--validate", data, *arguments, "--license", "CC0", "--json"
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["weights"] == str(tmp_path / "run" / "best.safetensors")
    assert (result["step"], result["total"], result["reason"]) == (4, 4, "finished")
    assert result["validation_psnr"] == pytest.approx(float(rows(tmp_path / "run")[-1]["validation_psnr"]), rel=1e-4)
    serpent.load_model(result["weights"])
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert b"validation_psnr" in events.read_bytes()
    state = json.loads((tmp_path / "run" / "checkpoint-000000004" / "state.json").read_text())
    assert (state["recipe"]["loss"], state["recipe"]["validate_crop"]) == ("l1", 32)


def test_what_was_taken_of_other_weights_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_pictures(tmp_path / "data", 2)
    weights = tmp_path / "weights.safetensors"
    serpent.save_model(serpent.create_model("B", patch_size=4, embed_dim=4, num_scales=1, depth=1), weights)
    given = [str(data), *SMALL, "--batch", "2", "--steps", "2", "--max-minutes", "0", "--init", str(weights)]
    train.main([*given, "--out", str(tmp_path / "one")], standalone_mode=False)
    said, *_, advice = capsys.readouterr().out.splitlines()
    train.main([*given, "--out", str(tmp_path / "two"), "--json"], standalone_mode=False)
    init = json.loads(capsys.readouterr().out)["init"]
    assert 0 < init["taken"] < init["total"]
    assert said.startswith(f"{init['taken']} of {init['total']} tensors are from {weights}; of another shape: ")
    assert init["path"] == str(weights)
    assert len(init["reshaped"]) == init["total"] - init["taken"]
    assert (init["missing"], init["unused"]) == ([], [])
    assert advice == "go on with the same command and --resume in place of --init"


def test_the_time_limit_is_that_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_pictures(tmp_path / "data", 2)

    def slowly(*arguments: Any, **options: Any) -> Photographs:
        time.sleep(1.5)
        return Photographs(*arguments, **options)

    monkeypatch.setattr("serpent.train.photographs.Photographs", slowly)
    given = [str(data), *SMALL, "--steps", "100000", "--workers", "0", "--out", str(tmp_path / "run")]
    train.main([*given, "--max-minutes", "0.025"], standalone_mode=False)
    assert load(tmp_path / "run") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [[], ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python", sys.executable]],
    ids=["own", "torchrun"],
)
def test_two_processes_learn_like_one_with_the_same_batch(tmp_path: Path, launcher: list[str]) -> None:
    data = make_pictures(tmp_path / "data", 4)
    arguments = [data, *SMALL, "--batch", "4", "--steps", "10", "--learning-rate", "2e-3", "--validate", data]
    arguments += ["--set", "validate_every=5", "--set", "validate_crop=32"]
    one = run_train(tmp_path, *arguments, "--out", tmp_path / "one")
    two = run_train(tmp_path, *arguments, "--out", tmp_path / "two", "--devices", "2", launcher=launcher)
    assert one.returncode == two.returncode == 0, two.stderr
    assert two.stdout.count("10 of 10 steps") == 1  # the second process keeps quiet
    losses = [[float(row["loss"]) for row in rows(tmp_path / each)] for each in ("one", "two")]
    assert len(losses[0]) == 10
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)  # the same sums of f32, in another order
    assert losses[0][-1] < losses[0][0]
    validated = [[float(row["validation_psnr"] or "nan") for row in rows(tmp_path / each)] for each in ("one", "two")]
    assert validated[1] == pytest.approx(validated[0], abs=1e-3, nan_ok=True)
    assert sum(not math.isnan(value) for value in validated[1]) == 2
    assert (load(tmp_path / "one"), load(tmp_path / "two")) == (10, 10)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_a_checkpoint_to_go_on_from(tmp_path: Path, number: int) -> None:
    data = make_pictures(tmp_path / "data", 4)
    arguments = [data, *SMALL, "--steps", "100000", "--out", tmp_path / "run"]
    process = start_train(tmp_path, *arguments)
    deadline = time.monotonic() + 60
    while not ((tmp_path / "run" / "log.csv").exists() and rows(tmp_path / "run")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "(interrupted)" in output
    assert "--resume" in output
    (folder,) = (tmp_path / "run").glob("checkpoint-*")
    step = int(folder.name[-9:])
    again = run_train(tmp_path, *arguments, "--resume", "--max-minutes", "0")
    assert f"{step + 1} of 100000 steps" in again.stdout, again.stderr
    assert "(time limit)" in again.stdout


@pytest.mark.slow
def test_a_folder_in_which_a_process_is_training_is_refused_until_it_is_dead(tmp_path: Path) -> None:
    data, run = make_pictures(tmp_path / "data", 4), tmp_path / "run"
    arguments = [str(data), *SMALL, "--steps", "100000", "--workers", "0", "--out", str(run)]
    process = start_train(tmp_path, *arguments, "--set", "validate_every=10")
    try:
        deadline = time.monotonic() + 60
        while not list(run.glob("checkpoint-*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        # Nor do the pictures matter then.
        for given in (arguments, [str(tmp_path / "nowhere"), "--out", str(run), "--resume"]):
            with pytest.raises(UsageError, match=f"another process is training in {run}") as caught:
                train.main(given, standalone_mode=False)
            assert "another folder (--out), or wait until it has ended and go on with --resume" in str(caught.value)
    finally:
        process.kill()
        process.communicate()
    again = [*arguments, "--set", "validate_every=10", "--resume", "--max-minutes", "0"]
    train.main(again, standalone_mode=False)
    assert load(run) > 10


@pytest.mark.slow
def test_processes_fail_together_with_one_message_each(tmp_path: Path) -> None:
    data = make_pictures(tmp_path / "data", 4)
    run = run_train(
        tmp_path, data, *SMALL, "--batch", "4", "--steps", "50", "--learning-rate", "1e30", "--set", "warmup=0",
        "--out", tmp_path / "run", "--devices", "2",
    )  # fmt: skip
    assert run.returncode != 0
    assert "not finite; its batch is in" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.slow
def test_a_log_that_cannot_be_begun_ends_all_processes_with_a_message(tmp_path: Path) -> None:
    data = make_pictures(tmp_path / "data", 4)
    (tmp_path / "run" / "log.csv").mkdir(parents=True)
    run = run_train(tmp_path, data, *SMALL, "--batch", "2", "--steps", "2", "--out", tmp_path / "run", "--devices", "2")
    assert run.returncode != 0
    assert "log.csv: Is a directory" in run.stderr
    assert "another process of this run failed" in run.stderr
    assert "Traceback" not in run.stderr


def fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    data = make_pictures(tmp_path / "data", 4)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        arguments = [data, *SMALL, "--tensorboard", "--steps", "6", "--out", disk / "run", "--set", "validate_every=3"]
        first = run_train(tmp_path, *arguments, "--max-minutes", "0")
        assert first.returncode == 0, first.stderr
        good = disk / "run" / "checkpoint-000000001" / "state.safetensors"
        before = good.read_bytes()
        filler = disk / "filler"
        fill(filler)
        second = run_train(tmp_path, *arguments, "--resume")
        assert second.returncode == 1
        assert "cannot write" in second.stderr
        assert "Traceback" not in second.stderr
        assert good.read_bytes() == before
        filler.unlink()
        assert run_train(tmp_path, *arguments, "--resume").returncode == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--task", "sharpen"), "unknown task 'sharpen'"),
        (("--out", "{tmp}/old"), "old holds a run already"),
        (("--init", "{tmp}/no.safetensors"), "no.safetensors does not exist"),
    ],
)
def test_what_can_fail_at_once_fails_before_the_pictures_are_read(
    tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "old" / "checkpoint-000000001").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(b"broken")
    given = [option.format(tmp=tmp_path) for option in options]
    with pytest.raises(SerpentError, match=message):
        train.main([str(tmp_path / "data"), "--out", str(tmp_path / "run"), *given], standalone_mode=False)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{tmp}/empty"], 2, "holds no picture"),
        (["{tmp}/nowhere"], 1, "does not exist"),
        (["{tmp}/data", "--crop", "64"], 1, "smaller than the crop of 64"),
        (["{tmp}/data", "--task", "sharpen"], 2, "unknown task 'sharpen'; known tasks are deblur"),
        (["{tmp}/data", "--set", "momentum=1"], 2, "unknown recipe field momentum"),
        (["{tmp}/data", "--resume"], 1, "has no checkpoint"),
        (["{tmp}/data", "--precision", "fp16"], 2, "fp16 needs a CUDA device"),
        (["{tmp}/data", "--init", "{tmp}/no.safetensors"], 1, "does not exist"),
        (["{tmp}/data", "--batch", "3", "--set", "accumulate=2"], 2, "cannot be shared out"),
        (["{tmp}/data", "--nodes", "2"], 2, "2 machines were asked for, but no launcher started this process"),
        (["{tmp}/data", "--out", "{tmp}/file"], 2, "file is a file; expected a folder"),
    ],
)
def test_bad_input_gets_one_sentence(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    make_pictures(tmp_path / "data", 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    given = [*SMALL, "--out", str(tmp_path / "run"), *(argument.format(tmp=tmp_path) for argument in arguments)]
    with pytest.raises(SerpentError, match=re.escape(message)) as caught:
        train.main(given, standalone_mode=False)
    assert caught.value.exit_code == code


def test_a_name_that_is_no_weights_is_told_which_are(tmp_path: Path) -> None:
    make_pictures(tmp_path / "data", 2)
    with pytest.raises(SerpentError, match="the checkpoint Q does not exist") as caught:
        train.main([str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--init", "Q"], standalone_mode=False)
    assert caught.value.hint == "name a .safetensors file, or B, L or H for the weights that ship"


@pytest.mark.parametrize("piped", [False, True])
def test_a_validations_line_goes_above_the_bar_and_to_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], piped: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: not piped)
    with _shown(as_json=False) as show:
        show.report(Report(7, 1, 0.5, 20.0, 1e-3, 0.1, 3.0, validation_psnr=21.0, validation_ssim=0.5), 10)
    shown = capsys.readouterr()
    line = "step 7  loss 0.50000  PSNR 20.00 dB  3.0 images/s  validation PSNR 21.000 dB, SSIM 0.5000\n"
    assert (shown.out == line) == piped
    assert (f"\x1b[2K{line}" in shown.err) != piped
