"""The switch --require=... turns the skips of hardware tests into failures."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from browser import missing_browser

CONFTEST = Path(__file__).with_name("conftest.py")

ON_A_MACHINE_WITHOUT_CUDA = """
import conftest
conftest._MISSING["cuda"] = lambda: "planted absence"
"""
ON_A_MACHINE_WITH_CUDA = """
import conftest
conftest._MISSING["cuda"] = lambda: None
"""
ON_A_MACHINE_WITHOUT_A_BROWSER = """
import os
os.environ["PATH"] = ""
"""
HARDWARE_TEST = """
import pytest

@pytest.mark.require("cuda")
def test_on_the_gpu():
    pass
"""


def outcome(folder: Path, machine: str, *options: str, needed: str = "cuda") -> tuple[int, str]:
    """Exit code and output of pytest on one test with a need, on a machine made up for it."""
    shutil.copy(CONFTEST, folder / "conftest.py")
    markers = "markers =\n    require(name): as in the project\n"
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {CONFTEST.parent}\n{markers}")
    (folder / "test_hardware.py").write_text(machine + HARDWARE_TEST.replace("cuda", needed))
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", *options, "test_hardware.py"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr


def test_without_the_hardware_the_test_is_skipped_with_the_reason(tmp_path: Path) -> None:
    code, output = outcome(tmp_path, ON_A_MACHINE_WITHOUT_CUDA)
    assert code == 0
    assert "1 skipped" in output
    assert "needs cuda: planted absence" in output


def test_requiring_it_makes_the_skip_a_failure(tmp_path: Path) -> None:
    code, output = outcome(tmp_path, ON_A_MACHINE_WITHOUT_CUDA, "--require=cuda,tensorrt")
    assert code == 1
    assert "--require=cuda: planted absence" in output


def test_with_the_hardware_the_test_runs(tmp_path: Path) -> None:
    code, output = outcome(tmp_path, ON_A_MACHINE_WITH_CUDA, "--require=cuda")
    assert code == 0
    assert "1 passed" in output


def test_a_browser_is_one_of_the_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setenv("PATH", "")
    reason = missing_browser()
    assert reason is not None
    assert reason.startswith("no Chromium with its chromedriver on the PATH; apt-get install")
    code, output = outcome(tmp_path, ON_A_MACHINE_WITHOUT_A_BROWSER, "--require=browser,ffmpeg", needed="browser")
    assert code == 1
    assert "--require=browser: " in output


@pytest.mark.parametrize("name", ["gpu", "cuda,nonsense"])
def test_an_unknown_name_is_wrong_usage(tmp_path: Path, name: str) -> None:
    code, output = outcome(tmp_path, ON_A_MACHINE_WITH_CUDA, f"--require={name}")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "known names are ffmpeg, cuda, tensorrt" in output
