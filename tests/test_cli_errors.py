"""A user's mistake ends in one message and exit code 1 or 2, without a traceback and without half a file."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import click
import numpy as np
import pytest
from PIL import Image

from serpent.errors import EngineError, SerpentError
from serpent_cli.evaluation import evaluate
from serpent_cli.infer import infer
from serpent_cli.main import run_doctor, run_infer, run_serpent
from serpent_cli.verification import verify
from tests.fakes import FakeSession

INFER = "from serpent_cli.main import run_infer; run_infer()"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.full((20, 30, 3), 77, np.uint8)).save(path)
    return path


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    fake = FakeSession()
    monkeypatch.setattr("serpent.runtime.open.open_session", lambda *_, **__: fake)
    return fake


def leave(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["serpent-infer", *map(str, arguments)])
    with pytest.raises(SystemExit) as leaving:
        run_infer()
    return int(leaving.value.code or 0)


def process(code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command as a user runs it; the tests' search path is handed on."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, text=True, timeout=60, **{"capture_output": True, **options})


@pytest.mark.parametrize(
    ("picture", "content", "message"),
    [
        ("absent.png", None, "No such file"),
        ("empty.png", b"", "is empty (0 bytes)"),
        ("words.png", b"not a picture", "is no picture"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01", "is damaged or truncated"),
    ],
)
def test_bad_pictures(tmp_path: Path, picture: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / picture).write_bytes(content)
    before = sorted(tmp_path.iterdir())
    run = process(INFER, tmp_path / "model.onnx", tmp_path / picture)
    assert run.returncode == 1
    assert run.stderr.startswith("error: ")
    assert message in run.stderr
    assert picture in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("model", "code", "message"),
    [
        ("absent.onnx", 1, "absent.onnx does not exist"),
        ("weights.pth", 2, "pickled checkpoint"),
        ("notes.txt", 2, "is no model file"),
    ],
)
def test_bad_models(photo: Path, model: str, code: int, message: str) -> None:
    run = process(INFER, photo.parent / model, photo)
    assert run.returncode == code
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert list(photo.parent.iterdir()) == [photo]


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [
        ("result.xyz", 2, "known suffixes are .png"),
        ("absent/result.png", 2, "mkdir -p"),
        ("photo.png/result.png", 1, "Not a directory"),
        (f"{'n' * 300}.png", 1, "File name too long"),
        ("result", 2, "for example"),
        (".", 2, "is a folder; expected a file name"),
    ],
)
def test_bad_targets_are_refused_before_the_model_loads(
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    output: str,
    code: int,
    message: str,
) -> None:
    assert leave(monkeypatch, photo.parent / "absent.onnx", photo, "-o", photo.parent / output) == code
    assert message in capsys.readouterr().err
    assert list(photo.parent.iterdir()) == [photo]


@pytest.mark.parametrize("options", [(), ("-o", "out.png"), ("--out-dir", "out")])
def test_a_picture_in_the_place_of_the_model(
    options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(monkeypatch, "a photo.png", *options) == 2
    error = capsys.readouterr().err
    assert "a photo.png stands in the place of the model" in error
    assert "serpent-infer B 'a photo.png'" in error
    assert leave(monkeypatch, "a photo.png", "h", *options) == 2
    error = capsys.readouterr().err
    assert "a photo.png is a picture, not a model" in error
    assert "serpent-infer h 'a photo.png'" in error


@pytest.mark.parametrize(
    ("model", "picture", "code", "message"),
    [
        ("photo.png", "m.onnx", 2, "the model comes first: serpent-infer m.onnx photo.png"),
        ("photo.png", "a b.SAFETENSORS", 2, "serpent-infer 'a b.SAFETENSORS' photo.png"),
    ],
)
def test_an_argument_that_is_no_picture_by_its_name(
    session: FakeSession,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: str,
    picture: str,
    code: int,
    message: str,
) -> None:
    assert leave(monkeypatch, model, picture) == code
    assert message in capsys.readouterr().err
    assert session.shapes == []


def test_a_folder_that_takes_no_files(photo: Path, session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc refuses new files even to root, for whom no folder is read-only by its mode."""
    assert leave(monkeypatch, "m.onnx", photo, "-o", "/proc/result.png") == 1
    assert list(photo.parent.iterdir()) == [photo]
    assert session.shapes in ([], [(1, 3, 64, 64)])  # root learns it only by trying


def test_a_read_only_folder(
    photo: Path, session: FakeSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("serpent.files.os.access", lambda _, mode: mode != os.W_OK)
    assert leave(monkeypatch, "m.onnx", photo) == 1
    assert f"cannot write into {photo.parent}: it is read-only" in capsys.readouterr().err
    assert session.shapes == []


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_full_disk_leaves_nothing_behind(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, step, full)
    assert leave(monkeypatch, "m.onnx", photo) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list(photo.parent.iterdir()) == [photo]


@pytest.mark.parametrize(
    "arguments",
    [(), ("model.onnx",), ("m.onnx", "p.png", "--scan", "fast"), ("m.onnx", "p.png", "--threads", 0), ("--nonsense",)],
)
def test_wrong_usage_has_exit_code_2_and_names_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...]
) -> None:
    assert leave(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.endswith("  serpent-infer --help\n")
    assert captured.out == ""


def test_an_error_in_json_is_one_object_on_stdout(
    photo: Path, session: FakeSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> NoReturn:
        raise EngineError("this plan needs an NVIDIA GPU", hint="serpent-infer model.onnx photo.png")

    monkeypatch.setattr(session, "run", fail)
    assert leave(monkeypatch, "m.plan", photo, "--json") == 1
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1  # as the events of many pictures
    assert json.loads(captured.out) == {
        "error": {
            "type": "EngineError",
            "message": "this plan needs an NVIDIA GPU",
            "hint": "serpent-infer model.onnx photo.png",
            "exit_code": 1,
        }
    }
    assert leave(monkeypatch, "--json", "--nonsense") == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "UsageError"


def test_memory_that_runs_out_is_no_traceback(
    photo: Path, session: FakeSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(session, "run", full)
    assert leave(monkeypatch, "m.plan", photo) == 1
    assert "error: this needs more memory than there is" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(photo: Path, session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(_: object) -> NoReturn:
        raise AssertionError("internal")

    monkeypatch.setattr(session, "run", bug)
    monkeypatch.setattr(sys, "argv", ["serpent-infer", "m.onnx", str(photo)])
    with pytest.raises(AssertionError, match="internal"):
        run_infer()


def test_the_group_shows_help_and_knows_its_subcommands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, code in (([], 0), (["--help"], 0), (["--version"], 0), (["nonsense"], 2), (["infer"], 2)):
        monkeypatch.setattr(sys, "argv", ["serpent", *arguments])
        with pytest.raises(SystemExit) as leaving:
            run_serpent()
        assert leaving.value.code == code, arguments
    captured = capsys.readouterr()
    for name in ("export", "infer", "doctor"):
        assert f"\n  {name}  " in captured.out
    assert "No such command 'nonsense'" in captured.err
    assert "serpent infer --help" in captured.err


def test_an_interrupt_is_clean(photo: Path) -> None:
    code = """
import sys, time
import serpent.runtime.open
def wait(*_, **__):
    sys.stderr.write("waiting\\n"); sys.stderr.flush()
    time.sleep(60)
serpent.runtime.open.open_session = wait
from serpent_cli.main import run_infer
run_infer()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", code, "m.onnx", str(photo)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert child.stderr.readline() == "waiting\n"
        time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        rest = child.stderr.read()
        assert child.wait(10) == 130
    assert rest.strip() == "error: interrupted"
    assert list(photo.parent.iterdir()) == [photo]


HELP = "import sys; from serpent_cli.main import run_infer; sys.argv.append('--help'); run_infer()"


def test_a_closed_pipe_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    run = process(HELP, capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (run.returncode, run.stderr) == (1, "")


def test_a_full_stdout_is_said_once() -> None:
    with Path("/dev/full").open("w") as full:
        run = process(HELP, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (run.returncode, run.stderr) == (1, "error: No space left on device\n")


@pytest.mark.usefixtures("session")
def test_a_file_name_that_is_no_text_does_not_spoil_a_finished_run(photo: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    photo.rename(photo.with_name(name))
    code = """
import serpent.runtime.open
from tests.fakes import FakeSession
serpent.runtime.open.open_session = lambda *_, **__: FakeSession()
from serpent_cli.main import run_infer
run_infer()
"""
    run = process(code, "m.onnx", photo.with_name(name))
    assert run.returncode == 0
    assert [line for line in run.stderr.splitlines() if not line.startswith("peak memory: ")] == []
    assert "_restored.png  30x20" in run.stdout


def test_doctor_takes_no_arguments(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["serpent-doctor", "everything"])
    with pytest.raises(SystemExit) as leaving:
        run_doctor()
    assert leaving.value.code == 2
    assert "everything" in capsys.readouterr().err


@pytest.mark.parametrize("command", [infer, evaluate, verify])
@pytest.mark.parametrize(("before", "after"), [(None, "0"), ("1", "1")])
def test_programs_that_run_a_model_keep_f32_from_being_rounded_unless_told(
    command: click.Command, before: str | None, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    if before is None:
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    model = str(tmp_path / "no.onnx")
    arguments = {"infer": [model, "a.png"], "eval": [model, str(tmp_path), "--no-wiener"], "verify": [model]}
    with pytest.raises(SerpentError):
        command.main(arguments[str(command.name)], standalone_mode=False)
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == after
