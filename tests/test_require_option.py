"""The switch --require=... turns the skips of hardware tests into failures."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")

ON_A_MACHINE_WITHOUT_CUDA = """
import conftest
conftest._MISSING["cuda"] = lambda: "planted absence"
"""
ON_A_MACHINE_WITH_CUDA = """
import conftest
conftest._MISSING["cuda"] = lambda: None
"""
HARDWARE_TEST = """
import pytest

@pytest.mark.require("cuda")
def test_on_the_gpu():
    pass
"""


def outcome(folder: Path, machine: str, *options: str) -> tuple[int, str]:
    """Exit code and output of pytest on one hardware test, on a machine made up for it."""
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    require(name): as in the project\n")
    (folder / "test_hardware.py").write_text(machine + HARDWARE_TEST)
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


@pytest.mark.parametrize("name", ["gpu", "cuda,nonsense"])
def test_an_unknown_name_is_wrong_usage(tmp_path: Path, name: str) -> None:
    code, output = outcome(tmp_path, ON_A_MACHINE_WITH_CUDA, f"--require={name}")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "known names are ffmpeg, cuda, tensorrt" in output
