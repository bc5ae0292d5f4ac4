"""The C and C++ tests of a finished CMake build, and what its libraries share.

`make test-native` builds it and runs these tests on the result.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from cmake_build import run

# Whatever the machine: the C interface, its memory, the CPU kernel's lanes, the choice of CUDA kernels, the engine.
ALWAYS = {"scan", "backward", "allocations", "variants", "engine_engine", "engine_refusals", "engine_parts"} | {
    f"lanes_{form}" for form in ("16_bytes", "64_bytes", "64_bytes_scaled", "arrays")
}


@pytest.fixture(scope="module")
def build(pytestconfig: pytest.Config) -> Path:
    folder: Path | None = pytestconfig.getoption("--native-build")
    if folder is None:
        pytest.skip("runs the C tests of a build: make test-native")
    return folder.resolve()


def tensorrt_state(build: Path) -> str:
    """What CMake said of the TensorRT plugin."""
    cache = (build / "CMakeCache.txt").read_text()
    (state,) = re.findall(r"^SERPENT_TENSORRT_STATE:INTERNAL=(.*)$", cache, re.MULTILINE)
    return str(state)


def test_every_c_test_passes(build: Path) -> None:
    assert "100% tests passed" in run("ctest", "--test-dir", build, "--no-tests=error", "--output-on-failure")


def test_no_c_test_is_left_out(build: Path) -> None:
    listed = json.loads(run("ctest", "--test-dir", build, "--show-only=json-v1"))["tests"]
    state = tensorrt_state(build)
    majors = re.findall(r"(\d+)\.\d+\.\d+", state)
    assert bool(majors) == state.startswith("built with the headers of")
    assert {test["name"] for test in listed} == ALWAYS | {f"plugin_trt{major}" for major in majors}


def functions(binary: Path) -> dict[str, set[int]]:
    """Sizes in bytes of the functions of each name."""
    found: dict[str, set[int]] = {}
    for line in run("nm", "-S", "--defined-only", binary).splitlines():
        match = re.fullmatch(r"[0-9a-f]+ ([0-9a-f]+) [tT] (\S+)", line)
        if match is not None:
            found.setdefault(match[2], set()).add(int(match[1], 16))
    return found


def test_library_and_plugin_link_the_same_functions(build: Path) -> None:
    state = tensorrt_state(build)
    if not state.startswith("built"):
        pytest.skip(f"TensorRT plugin: {state}")
    if shutil.which("nm") is None:
        pytest.skip("needs nm, of binutils")
    folder = build / "plugins"
    archive, *libraries = (folder / f"libserpent{name}" for name in ("_kernels.a", ".so", "_trt.so"))
    kernels, library, plugin = functions(archive), *map(functions, libraries)
    shared = kernels.keys() & library.keys() & plugin.keys()
    assert any("scan_cuda" in name for name in shared)
    assert {name: (library[name], plugin[name]) for name in shared if library[name] != plugin[name]} == {}
