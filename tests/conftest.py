"""What every test may use: markers for optional hardware, and a switch that makes their absence an error."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

EXPORT = "from serpent_cli.main import run_export; run_export()"


class Exported(NamedTuple):
    """What one ``serpent-export --json`` of B at 64 left behind; ``plan`` is missing without TensorRT-RTX."""

    folder: Path
    checkpoint: Path
    onnx: Path
    plan: Path
    manifest: Path
    stdout: str


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A checkpoint and its export, made as a user makes them: by the command, with relative paths."""
    import serpent

    root = tmp_path_factory.mktemp("exported")
    serpent.save_model(serpent.create_model("B", seed=0), root / "b.safetensors", task="denoise")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(p).resolve()) for p in sys.path if p)}
    arguments = ["--variant", "B", "--res", "64", "--weights", "b.safetensors", "--out", "files", "--json"]
    run = subprocess.run(
        [sys.executable, "-c", EXPORT, *arguments], cwd=root, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    onnx, plan, manifest = (root / "files" / f"serpent-b-64-fp32.{kind}" for kind in ("onnx", "plan", "json"))
    return Exported(root / "files", root / "b.safetensors", onnx, plan, manifest, run.stdout)


def _missing_cuda() -> str | None:
    if shutil.which("nvidia-smi") is None and ctypes.util.find_library("cuda") is None:
        return "no NVIDIA driver on this machine"
    return None


def _missing_tensorrt() -> str | None:
    if importlib.util.find_spec("tensorrt") is None and importlib.util.find_spec("tensorrt_rtx") is None:
        return "neither tensorrt nor tensorrt_rtx is installed; pip install 'serpent-restoration[rtx]'"
    return None


_MISSING = {"cuda": _missing_cuda, "tensorrt": _missing_tensorrt}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        default="",
        metavar="NAME,...",
        help=f"fail, rather than skip, tests that need what this machine lacks: {', '.join(_MISSING)}",
    )


def pytest_configure(config: pytest.Config) -> None:
    unknown = sorted(_required(config) - set(_MISSING))
    if unknown:
        raise pytest.UsageError(f"--require={','.join(unknown)}: known names are {', '.join(_MISSING)}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("require"):
        (name,) = marker.args
        reason = _MISSING[name]()
        if reason is None:
            continue
        if name in _required(item.config):
            pytest.fail(f"--require={name}: {reason}", pytrace=False)
        pytest.skip(f"needs {name}: {reason}")


def _required(config: pytest.Config) -> set[str]:
    return {name for name in config.getoption("--require").split(",") if name}
