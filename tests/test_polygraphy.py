"""Polygraphy on our files, on a machine without a GPU: the documented commands."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exported import Exported
from serpent.errors import NativeLibraryError
from serpent.runtime.plugin_library import autoreg_library
from serpent.runtime.tensorrt_library import RTX, installed_version

pytest.importorskip("polygraphy", reason="polygraphy is not installed (extra dev)")

COMMAND = [sys.executable, "-c", "import sys; from polygraphy.tools import main; sys.exit(main())"]
PLUGIN_LAYERS = 14


def polygraphy(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "POLYGRAPHY_USE_TENSORRT_RTX": "1",
        "LD_LIBRARY_PATH": str(folder),
    }
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)


@pytest.fixture
def links(tmp_path: Path) -> Path:
    """The unversioned name of TensorRT-RTX's library, which its wheels lack and its parser opens."""
    spec = importlib.util.find_spec("tensorrt_rtx_libs")
    if installed_version(RTX) is None or spec is None or spec.origin is None:
        pytest.skip(f"needs {RTX.title}: {RTX.install_command}")
    (tmp_path / "libtensorrt_rtx.so").symlink_to(Path(spec.origin).with_name("libtensorrt_rtx.so.1"))
    return tmp_path


@pytest.fixture
def plugin() -> Path:
    try:
        return autoreg_library(11)
    except NativeLibraryError as error:
        pytest.skip(f"the plugin library for such tools is not built here: {error.message}")


def test_inspect_names_the_network(exported: Exported, links: Path) -> None:
    run = polygraphy(links, "inspect", "model", exported.onnx, "--model-type", "onnx", "--show", "layers")
    assert run.returncode == 0, run.stderr
    assert "Name: serpent-b-fp32-schema1-" in run.stdout
    assert "{'serpent': 1}" in run.stdout
    assert "SelectiveScan2D" in run.stdout


@pytest.mark.slow
def test_convert_builds_a_plan_with_the_plugin(exported: Exported, links: Path, plugin: Path) -> None:
    common = ("convert", exported.onnx, "--convert-to", "trt", "--compute-capabilities", "8.9")
    run = polygraphy(links, *common, "--plugins", plugin, "-o", "with.plan")
    assert run.returncode == 0, run.stdout + run.stderr
    assert polygraphy(links, *common, "-o", "without.plan").returncode == 0
    # Each plugin layer keeps its one field, "schema"; without the library the scans become loops.
    assert (links / "with.plan").read_bytes().count(b"schema") >= PLUGIN_LAYERS
    assert (links / "without.plan").read_bytes().count(b"schema") == 0
