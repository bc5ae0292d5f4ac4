"""The harness of the TensorRT plugin (plugins/tests/tensorrt/harness.cpp) on CPU threads, over the CUDA kernels' twin.

It goes through creation, a plan's fields, a context and enqueue as TensorRT does; `make gpu-check` runs the same
program on a GPU, over the finished library.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cuda_twin import Twin, shared_twin

pytestmark = [pytest.mark.slow, pytest.mark.require("plugin")]  # it takes TensorRT's headers, as the plugin does


@pytest.fixture(scope="session")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    twin: Twin = shared_twin(tmp_path_factory)
    return twin.build("plugin_harness")


def run(harness: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = os.environ | environment
    return subprocess.run([str(harness), *words], capture_output=True, text=True, env=settings, timeout=300)


def test_all_scales_of_the_network_in_all_types_match_the_oracle(harness: Path) -> None:
    finished = run(harness, "", "4")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    lines = finished.stdout.splitlines()
    assert lines[-1] == "plugin harness: 36 scans, 0 wrong, without graphs"
    assert [line.split()[2] for line in lines[:-1]] == ["ok:"] * 36


def test_what_the_plugin_refuses_ends_the_harness(harness: Path) -> None:
    finished = run(harness, "", "4", SERPENT_CUDA_VARIANT="unheard-of")
    assert finished.returncode == 2
    assert "SelectiveScan2D, onShapeChange: 'unheard-of' is no CUDA variant" in finished.stderr
    assert finished.stderr.endswith("plugin_harness: onShapeChange failed\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "usage: plugin_harness LIBRARY [SIDE]"),
        (("", "0"), "usage: plugin_harness LIBRARY [SIDE]"),
        (("/absent.so",), "/absent.so: cannot open shared object file"),
        (("libc.so.6",), "looking up getCreators failed"),
    ],
)
def test_wrong_arguments_are_named(harness: Path, words: tuple[str, ...], message: str) -> None:
    finished = run(harness, *words)
    assert finished.returncode == 2
    assert message in finished.stderr
