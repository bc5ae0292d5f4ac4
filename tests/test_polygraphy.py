"""Polygraphy on our files, on a machine without a GPU: the commands of docs/deploy.md."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

import documented
from exported import Exported
from serpent.errors import NativeLibraryError
from serpent.runtime.plugin_library import autoreg_library
from serpent.runtime.tensorrt_library import RTX, installed_version

pytest.importorskip("polygraphy", reason="polygraphy is not installed (extra dev)")

PLUGIN_LAYERS = 14


@pytest.fixture
def folder(exported: Exported, tmp_path: Path) -> Path:
    """Where the commands run: NAME.onnx lies there."""
    if installed_version(RTX) is None or importlib.util.find_spec("tensorrt_rtx_libs") is None:
        pytest.skip(f"needs {RTX.title}: {RTX.install_command}")
    shutil.copy(exported.onnx, tmp_path / "NAME.onnx")
    return tmp_path


def test_inspect_names_the_network(folder: Path) -> None:
    commands = documented.runnable("Polygraphy")
    run = documented.run([command for command in commands if "polygraphy convert" not in command], folder)
    assert run.returncode == 0, run.stderr
    assert "Name: serpent-b-fp32-schema1-" in run.stdout
    assert "{'serpent': 1}" in run.stdout
    assert "SelectiveScan2D" in run.stdout


@pytest.mark.slow
def test_convert_builds_a_plan_with_the_plugin(folder: Path) -> None:
    try:
        libraries = autoreg_library(11).parent
    except NativeLibraryError as error:
        pytest.skip(f"the plugin library for such tools is not built here: {error.message}")
    commands = documented.runnable("Polygraphy")
    run = documented.run(commands, folder, LIB=str(libraries))
    assert run.returncode == 0, run.stdout + run.stderr
    # Each plugin layer keeps its one field, "schema"; without the library the scans become loops.
    assert (folder / "other.plan").read_bytes().count(b"schema") >= PLUGIN_LAYERS
    flag = '--plugins "$LIB/libserpent_trt_autoreg11.so"'
    assert sum(flag in command for command in commands) == 1
    run = documented.run([command.replace(flag, "") for command in commands], folder)
    assert run.returncode == 0, run.stdout + run.stderr
    assert (folder / "other.plan").read_bytes().count(b"schema") == 0
