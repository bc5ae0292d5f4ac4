"""What every test may use: markers for optional hardware, and a switch that makes their absence an error."""

from __future__ import annotations

import ctypes.util
import importlib.util
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import session
from serpent.errors import NativeLibraryError
from serpent.runtime.plugin_library import plugin_library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exported import Exported


def _missing_cuda() -> str | None:
    if shutil.which("nvidia-smi") is None and ctypes.util.find_library("cuda") is None:
        return "no NVIDIA driver on this machine"
    return None


def _missing_tensorrt() -> str | None:
    if importlib.util.find_spec("tensorrt") is None and importlib.util.find_spec("tensorrt_rtx") is None:
        return "neither tensorrt nor tensorrt_rtx is installed; pip install 'serpent-restoration[rtx]'"
    return None


def _missing_plugin() -> str | None:
    try:
        plugin_library()
    except NativeLibraryError as error:
        return f"{error.message}; {error.hint}"
    return None


def _missing_ffmpeg() -> str | None:
    return None if shutil.which("ffmpeg") else "no ffmpeg on the PATH"


def _missing_browser() -> str | None:
    from browser import missing_browser

    return missing_browser()


_MISSING = {
    "ffmpeg": _missing_ffmpeg,
    "cuda": _missing_cuda,
    "tensorrt": _missing_tensorrt,
    "plugin": _missing_plugin,
    "browser": _missing_browser,
}


@pytest.fixture(autouse=True)
def _compiled_programs_end_with_their_test() -> Iterator[None]:
    # PyTorch remembers each function's sizes: a second size, met in another test, would be compiled as a variable.
    yield
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()


@pytest.fixture(scope="session", autouse=True)
def _shared_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    session.open_folder(tmp_path_factory)


@pytest.fixture(scope="session")
def exported() -> Exported:
    """B at 64 with weights, exported once for all tests of a session; copy the files to change them."""
    from exported import export_with_the_command, exported_in

    return exported_in(session.made_once("exported", export_with_the_command))


@pytest.fixture(scope="module")
def traced_once() -> Iterator[None]:
    """Exports in this process trace a network once, for tests of what comes after."""
    from traced import trace_once

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serpent_export.graph.trace", trace_once)
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights, for tests of what lies around a network."""
    import torch

    import serpent

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    serpent.save_model(serpent.create_model("L", embed_dim=8, num_scales=1, depth=1), path)
    return path


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        default="",
        metavar="NAME,...",
        help=f"fail, rather than skip, tests that need what this machine lacks: {', '.join(_MISSING)}",
    )
    parser.addoption("--scale", default="0.05", help="share of the full counts that the reliability tests run")
    parser.addoption("--figures", type=Path, metavar="FILE", help="write what tests measured, with machine and date")
    parser.addoption(
        "--native-build",
        type=Path,
        metavar="FOLDER",
        help="a finished CMake build with the C tests, for the tests that run them",
    )
    parser.addoption(
        "--cuda-build",
        type=Path,
        metavar="FOLDER",
        help="a finished CMake build that carries the CUDA kernels, for the tests that look at it",
    )


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell without job control starts background jobs so, and whatever the tests start would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    unknown = sorted(_required(config) - set(_MISSING))
    if unknown:
        raise pytest.UsageError(f"--require={','.join(unknown)}: known names are {', '.join(_MISSING)}")
    figures = config.getoption("--figures")
    if figures is not None and not hasattr(config, "workerinput"):  # processes of pytest-xdist report to this one
        from figures import Figures

        config.pluginmanager.register(Figures(figures))


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
