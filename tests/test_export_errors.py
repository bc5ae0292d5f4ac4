"""``serpent-export`` and what a user may get wrong: one message, exit code 1 or 2, and no file left behind."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import onnx
import pytest
import safetensors.torch
import torch

import serpent
import serpent_export.graph
from exported import COMMAND, Exported
from serpent.runtime.tensorrt_library import RTX, TRT, installed_version
from serpent_cli.main import run_export
from serpent_export.tracing import trace

needs_rtx = pytest.mark.skipif(installed_version(RTX) is None, reason=f"needs {RTX.title}: {RTX.install_command}")
NAMES = ("serpent-b-32-fp32.onnx", "serpent-b-32-fp32.json")


@pytest.fixture(scope="module")
def raw_graph() -> Callable[..., onnx.ModelProto]:
    """The real tracer, asked once: it takes most of the time of an export. All exports here have the same weights."""
    traced: dict[str, bytes] = {}

    def cached(model: serpent.model.Serpent, profile: Any, precision: str) -> onnx.ModelProto:
        key = f"{profile} {precision}"
        if key not in traced:
            traced[key] = trace(model, profile, precision).SerializeToString()
        return onnx.load_model_from_string(traced[key])

    return cached


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "b.safetensors"
    serpent.save_model(serpent.create_model("B", seed=0), path)
    return path


class Command:
    """``serpent-export`` into a folder that does not exist yet."""

    def __init__(self, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.out = out
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, stdout and stderr; later arguments win."""
        first = ["serpent-export", "--variant", "B", "--res", "32", "--out", str(self.out)]
        self._monkeypatch.setattr(sys, "argv", [*first, *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            run_export()
        return (int(leaving.value.code or 0), *self._capsys.readouterr())

    def fail(self, *arguments: object, code: int) -> str:
        """The message of a run that must fail and leave the folder as it was."""
        before = self.files()
        left, out, err = self.run(*arguments)
        assert (left, out) == (code, ""), err
        assert err.startswith("error: ")
        assert "Traceback" not in err
        assert self.files() == before
        return err.removeprefix("error: ")

    def files(self) -> list[str]:
        """What lies in the folder, hidden files and folders included."""
        return sorted(path.name for path in self.out.iterdir()) if self.out.is_dir() else []


@pytest.fixture
def command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raw_graph: Callable[..., onnx.ModelProto],
) -> Command:
    monkeypatch.setattr(serpent_export.graph, "trace", raw_graph)
    return Command(tmp_path / "out", monkeypatch, capsys)


@pytest.fixture
def without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    for flavour in (RTX, TRT):
        monkeypatch.setitem(sys.modules, flavour.module, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--variant", "X"), "unknown variant 'X'; known variants are B, L, H"),
        (("--res", "100"), "100 is no multiple of 32: variant B takes multiples of 32 pixels\n  nearest: 96 or 128"),
        (("--res", "64x100"), "width 100 is no multiple of 32"),
        (("--res", "5"), "nearest: 32 or 64"),
        (("--variant", "L", "--res", "100"), "nearest: 96 or 112"),
        (("--variant", "H", "--res", "100"), "nearest: 96 or 104"),
        (("--res", "64:100:128"), "nearest: 96 or 128"),
        (("--res", "0"), "'0' has the size 0, which is not positive"),
        (("--res", "-32"), "'-32' has the size -32, which is not positive"),
        (("--res", "128:64:256"), "'128:64:256' is not ordered"),
        (("--res", "large"), "'large' is not understood\n  use --res 512"),
        (("--batch", "0"), "'0' has the size 0, which is not positive"),
        (("--targets", "rtx4090"), "'rtx4090' is no GPU target\n  use compute capabilities"),
        (("--precision", "int8"), "'int8' is not one of"),
        (("--inline-scan",), "--inline-scan is for runtimes without the plugin, and no plan\n  add --format onnx"),
        (("--format", "onnx", "--embed-plugin"), "--embed-plugin is for plans, but --format onnx writes none"),
        (("--workspace", "1K"), "--workspace 1024 is too little: at 32x32 a scan needs 364544 bytes"),
        (("--format", "onnx", "--workspace", "1G"), "--workspace is for plans, but --format onnx writes none"),
    ],
)
@pytest.mark.usefixtures("installed_rtx")
def test_wrong_usage(command: Command, arguments: tuple[str, ...], message: str) -> None:
    assert message in command.fail(*arguments, code=2)
    assert not command.out.exists()


@pytest.fixture
def installed_rtx(request: pytest.FixtureRequest) -> None:
    """Without an engine nobody looks at ``--targets``."""
    if "--targets" in request.node.callspec.params["arguments"] and installed_version(RTX) is None:
        pytest.skip(f"needs {RTX.title}: {RTX.install_command}")


@needs_rtx
@pytest.mark.parametrize("targets", ["sm90", "sm86,sm100"])
def test_a_data_centre_gpu_needs_tensorrt_proper(command: Command, targets: str) -> None:
    message = command.fail("--engine", "rtx", "--targets", targets, code=2)
    assert message.startswith(f"--targets {targets.rsplit(',', maxsplit=1)[-1]}: TensorRT-RTX builds for ")
    assert "this GPU needs TensorRT proper\n  on a machine with that GPU: pip install " in message
    assert "serpent-export --engine trt" in message


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    safetensors.torch.save_file({"conv.weight": torch.zeros(3)}, path)


def pickled(path: Path) -> None:
    torch.save(torch.load, path)  # any global: what makes a pickle dangerous


def one_weight_changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Path.unlink, "does not exist"),
        (empty, "is truncated or no safetensors file"),
        (cut_in_the_header, "is truncated or no safetensors file"),
        (truncate, "is truncated or no safetensors file"),
        (foreign, "no Serpent checkpoint"),
        (pickled, "is a pickle (torch.save), which can run code when opened; it is refused"),
        (one_weight_changed, "the weights do not match the digest"),
    ],
)
def test_bad_weights(
    command: Command, checkpoint: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    spoil(path)
    answer = command.fail("--weights", path, code=1)
    assert message in answer
    assert str(path) in answer
    assert not command.out.exists()


def test_weights_of_something_else(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    answer = command.fail("--weights", checkpoint, "--variant", "H", code=2)
    assert answer == f"{checkpoint} holds variant B, not H\n  --variant B\n"
    answer = command.fail("--weights", checkpoint, "--task", "derain", code=2)
    assert answer.startswith(f"{checkpoint} was trained for deblur, not derain\n")
    small = tmp_path / "small.safetensors"
    serpent.save_model(serpent.create_model("B", embed_dim=8, num_scales=4), small)
    assert "32 is no multiple of 64" in command.fail("--weights", small, code=2)
    assert not command.out.exists()


def test_a_mistyped_task_exports_no_random_weights(command: Command) -> None:
    for options in ((), ("--untrained",)):
        answer = command.fail("--task", "debur", *options, code=2)
        assert answer.startswith("unknown task 'debur'; known tasks are deblur, ")
    assert not command.out.exists()


def test_required_weights(command: Command) -> None:
    answer = command.fail("--require-weights", "--task", "derain", code=1)
    assert answer.startswith(
        "--require-weights: no trained weights ship for variant B and task derain\n  name a checkpoint: "
    )
    assert not command.out.exists()


@pytest.mark.usefixtures("without_tensorrt")
def test_without_tensorrt_a_plan_fails_with_the_command_and_all_means_onnx(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    line = (
        "no plan, because TensorRT-RTX is not installed; "
        "to add it: pip install 'serpent-restoration[rtx]', then export again with --overwrite"
    )
    assert command.fail("--format", "plan", code=1) == f"{line}\n"
    assert not command.out.exists()
    assert "TensorRT is not installed\n  pip install" in command.fail("--engine", "trt", code=1)
    code, out, err = command.run("--format", "all", "--untrained")
    assert (code, err) == (0, "")
    assert line in out.splitlines()
    assert [text for text in out.splitlines() if text.startswith("warning: these files hold random weights")]
    assert command.files() == sorted(NAMES)
    assert list(json.loads((command.out / NAMES[1]).read_text())["files"]) == [NAMES[0]]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", NAMES)
def test_existing_files_are_kept(command: Command, name: str) -> None:
    command.out.mkdir()
    (command.out / name).write_text("mine")
    answer = command.fail("--format", "onnx", code=2)
    assert answer.startswith(f"{command.out / name} exists already\n  add --overwrite")
    assert (command.out / name).read_text() == "mine"


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_place_of_the_folder(command: Command, below: str) -> None:
    command.out.write_text("mine")
    answer = command.fail("--out", command.out / below, code=1)
    assert f"cannot write into {command.out / below}: " in answer
    assert "--out DIR" in answer
    assert ("it is a file" in answer) == (below == "")
    assert command.out.read_text() == "mine"


def test_a_folder_that_takes_no_files(command: Command) -> None:
    """/proc refuses new entries even to root, for whom no folder is read-only by its mode."""
    for folder in ("/proc", "/proc/results"):
        answer = command.fail("--out", folder, code=1)
        assert f"cannot write into {folder}: " in answer


def test_a_read_only_folder(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serpent.files.os.access", lambda _, mode: mode != os.W_OK)
    answer = command.fail(code=1)
    assert answer.startswith(f"cannot write into {command.out}: it is read-only\n  choose another folder")


def full(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["write_bytes", "write_text"])
def test_a_full_disk(command: Command, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The ONNX file is written first, the manifest last."""
    monkeypatch.setattr(Path, step, full)
    answer = command.fail("--format", "onnx", "--untrained", code=1)
    assert answer.startswith(f"cannot write into {command.out}: No space left on device\n")


def test_files_that_cannot_all_be_put_in_place_leave_none(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def fails_for_the_manifest(path: Path, target: Path) -> Path:
        return full() if target == command.out / NAMES[1] else replace(path, target)

    monkeypatch.setattr(Path, "replace", fails_for_the_manifest)
    assert "No space left on device" in command.fail("--format", "onnx", "--untrained", code=1)


def test_a_full_temporary_folder(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", full)
    assert "No space left on device" in command.fail("--format", "onnx", "--untrained", code=1)


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [10, 21], ids=["the ONNX file", "the plan"])
def test_a_file_that_outgrows_its_limit(exported: Exported, tmp_path: Path, megabytes: int) -> None:
    """A real refusal by the system, in this process and in the one that builds the plan."""
    assert exported.onnx.stat().st_size < 21_000_000 < exported.plan.stat().st_size

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (megabytes * 1_000_000,) * 2)

    search = os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)
    run = subprocess.run(
        [sys.executable, "-c", COMMAND, "--variant", "B", "--res", "64", "--out", tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": search},
        preexec_fn=limit,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("error: cannot write ")
    assert "File too large" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "out").exists()
