"""``serpent-doctor`` says what is there, survives what is broken, and fails only without the native library."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from serpent.errors import NativeLibraryError
from serpent_cli import doctor as doctor_module
from serpent_cli import probes
from serpent_cli.main import run_doctor
from serpent_cli.probes import NATIVE, PROBES, Finding, probe


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["serpent-doctor", *arguments])
    with pytest.raises(SystemExit) as leaving:
        run_doctor()
    return int(leaving.value.code or 0)


def test_every_part_gets_one_line_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(PROBES)
    statuses = {}
    for name, line in zip(PROBES, lines, strict=True):
        assert line.startswith(name)
        statuses[name] = line[len(name) :].split()[0]
        assert statuses[name] in ("ok", "missing", "problem")
        assert statuses[name] == "ok" or " -> " in line, line
    assert statuses["Python"] == "ok"
    assert code == (0 if statuses[NATIVE] == "ok" else 1)


@pytest.mark.parametrize(("native", "code"), [("ok", 0), ("problem", 1)])
def test_only_the_native_library_decides_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], native: str, code: int
) -> None:
    def examine(name: str) -> Finding:
        status = native if name == NATIVE else "missing"
        return Finding(name, status, "detail", "what to do")

    monkeypatch.setattr(doctor_module, "_examine", examine)
    assert run(monkeypatch, "--json") == code
    report = json.loads(capsys.readouterr().out)
    assert report["works"] is (code == 0)
    assert [check["name"] for check in report["checks"]] == list(PROBES)
    assert report["checks"][2] == {"name": "PyTorch", "status": "missing", "detail": "detail", "hint": "what to do"}


def test_a_missing_native_library_names_the_path_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERPENT_LIBRARY", "/nowhere/libserpent.so")
    finding = doctor_module._examine(NATIVE)
    assert finding.status == "problem"
    assert "/nowhere/libserpent.so" in finding.detail
    assert finding.hint


def test_a_library_that_kills_its_process_costs_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    (tmp_path / "torch.py").write_text("raise RuntimeError('half installed')")
    (tmp_path / "onnx.py").write_text("print('noise on stdout'); __version__ = '9.9'")
    (tmp_path / "onnxscript.py").write_text("import a_module_that_is_absent")
    monkeypatch.syspath_prepend(tmp_path)
    crashed = doctor_module._examine("ONNX Runtime")
    assert (crashed.status, crashed.hint != "") == ("problem", True)
    assert "signal 4" in crashed.detail
    assert doctor_module._examine("PyTorch").detail == "RuntimeError: half installed"
    broken = doctor_module._examine("ONNX export")
    assert (broken.status, "does not load" in broken.detail) == ("problem", True)
    (tmp_path / "onnxscript.py").write_text("__version__ = '8.8'")
    assert doctor_module._examine("ONNX export").detail == "onnx 9.9, onnxscript 8.8"


def test_a_probe_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("import time; time.sleep(60)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor_module, "_TIMEOUT_S", 1)
    finding = doctor_module._examine("ONNX Runtime")
    assert (finding.status, finding.detail) == ("problem", "did not answer within 1 s")


def test_a_stray_file_in_the_working_folder_is_not_taken_for_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise RuntimeError('stray')")
    monkeypatch.chdir(tmp_path)
    assert "stray" not in doctor_module._examine("ONNX Runtime").detail


def test_a_missing_extra_is_missing_not_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    finding = probe("ONNX Runtime")
    assert (finding.status, finding.hint) == ("missing", "pip install 'serpent-restoration[onnx]'")


def test_without_tensorrt_the_plugin_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serpent.runtime.tensorrt_library.installed_version", lambda _: None)
    finding = probe("TensorRT plugin")
    assert (finding.status, finding.hint) == ("missing", "pip install 'serpent-restoration[rtx]'")


def test_a_broken_native_library_is_a_problem_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise NativeLibraryError("libserpent.so has ABI 7, this package needs 1", hint="reinstall")

    monkeypatch.setattr("serpent.native.library", broken)
    assert probe(NATIVE) == Finding(NATIVE, "problem", "libserpent.so has ABI 7, this package needs 1", "reinstall")


def test_extras_that_are_incomplete_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "is_installed", lambda module: module != "onnxscript")
    finding = probe("extras")
    assert finding.detail == "complete: torch, rtx, train, trt; incomplete: onnx"
    assert finding.hint == "pip install 'serpent-restoration[onnx]'"
