"""The adapters over TensorRT: which one is chosen, and what a machine without a GPU is told."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from cmake_build import run
from cpp_engine import TENSORRT, UNSUPPORTED, Build, shared_build, write_plan
from exported import Exported
from serpent.runtime.plugin_library import plugin_library
from serpent.runtime.tensorrt_library import RTX, installed_version

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the C++ runtime is built for Linux")

# Opens a plan in a process of its own: TensorRT stays out of the one that runs the tests. It is opened once for each
# entry of the options, and the last answer counts. The entry "python" has the Python package register its plugin.
OPEN = """
import json, sys
from pathlib import Path
import numpy as np
from cpp_engine import PROFILE, Engine, EngineError, network
from serpent.runtime.tiling import restore_any_size
from serpent.shapes import ShapeProfile
library, plan, options = sys.argv[1:]
answer = None
for chosen in json.loads(options):
    if chosen == "python":
        from serpent.runtime.tensorrt_library import RTX, load
        from serpent.runtime.tensorrt_plugin import register
        register(load(RTX))
        continue
    try:
        engine = Engine(Path(library), Path(plan), **chosen)
        for height, width in ((16, 16), (17, 30), (64, 48), (1, 1)):
            pictures = np.random.default_rng(0).random((2, height, width, 3), dtype=np.float32)
            wanted = restore_any_size(network, pictures, ShapeProfile.from_dict(PROFILE)).transpose(0, 3, 1, 2)
            assert (engine.run(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))) == wanted).all()
        engine.close()
        answer = [0, ""]
    except EngineError as error:
        answer = [error.status, error.message]
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return shared_build(tmp_path_factory)


def open_plan(build: Build, plan: Path, library_path: str = "", **options: object) -> tuple[int, str]:
    return open_plans(build, plan, library_path, [options])


def open_plans(build: Build, plan: Path, library_path: str, options: Sequence[object]) -> tuple[int, str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        "LD_LIBRARY_PATH": library_path,
    }
    environment.pop("SERPENT_ENGINE_ADAPTER", None)
    words = [sys.executable, "-c", OPEN, build.library, plan, json.dumps(list(options))]
    answer = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300)
    assert answer.returncode == 0, answer.stderr
    status, message = json.loads(answer.stdout)
    return status, message


def adapter(build: Build, major: int) -> Path:
    """An adapter, built; skips where its headers are not."""
    name = f"serpent_engine_trt{major}"
    if not build.has_target(name):
        pytest.skip(f"no headers of TensorRT {major} on this machine; name them with TENSORRT_ROOT")
    build.target(name)
    return build.folder / "plugins" / f"lib{name}.so"


def compiled(folder: Path, name: str, source: str) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to make a foreign library with")
    path = folder / name
    path.with_suffix(".c").write_text(source)
    run(compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", path.with_suffix(".c"), "-o", path)
    return path


@pytest.mark.parametrize("major", [10, 11])
def test_an_adapter_exports_one_function_and_links_no_tensorrt(build: Build, major: int) -> None:
    path = adapter(build, major)
    symbols = [line.split()[-1] for line in run("nm", "-D", "--defined-only", path).splitlines()]
    assert symbols == ["serpent_engine_adapter"]
    needed = run("readelf", "-d", path)
    assert not {name for name in ("nvinfer", "tensorrt", "cuda") if name in needed.lower()}


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (120000, "is TensorRT 12.0.0, and there is no adapter for it: .*libserpent_engine_trt12.so does not exist"),
        (8601, "is TensorRT 8.6.1, and there is no adapter for it"),
        (10601, "is TensorRT-RTX 1.6.1; this library has an adapter for TensorRT-RTX 1.7 and later 1.x alone"),
        (20100, "is TensorRT-RTX 2.1.0; this library has an adapter for TensorRT-RTX 1.7 and later 1.x alone"),
    ],
)
def test_a_version_without_an_adapter_is_named(build: Build, tmp_path: Path, version: int, message: str) -> None:
    library = compiled(tmp_path, "libfake.so", f"int getInferLibVersion(void) {{ return {version}; }}")
    status, said = open_plan(build, write_plan(tmp_path), tensorrt_library=str(library))
    assert status == UNSUPPORTED
    assert re.search(message, said), said


def test_a_program_may_leave_the_folder_that_it_loaded_the_library_from(build: Build, tmp_path: Path) -> None:
    # As a server does that starts with a relative LD_LIBRARY_PATH and goes to /.
    code = """
import ctypes, os, sys
from pathlib import Path
from cpp_engine import Engine, EngineError
ctypes.CDLL("libserpent_engine.so")
os.chdir("/")
try:
    Engine(Path("libserpent_engine.so"), Path(sys.argv[1]), tensorrt_library=sys.argv[2])
except EngineError as error:
    print(error.message)
"""
    library = compiled(tmp_path, "libfake.so", "int getInferLibVersion(void) { return 120000; }")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    environment = environment | {"LD_LIBRARY_PATH": build.library.parent.name}
    environment.pop("SERPENT_ENGINE_ADAPTER", None)
    command = (sys.executable, "-c", code, write_plan(tmp_path), library)
    said = run(*command, env=environment, cwd=build.library.parents[1])
    assert f": {build.library.parent}/libserpent_engine_trt12.so does not exist" in said


def test_what_is_no_tensorrt_library_is_named(build: Build, tmp_path: Path) -> None:
    plan = write_plan(tmp_path)
    library = compiled(tmp_path, "libother.so", "int unrelated;")
    status, said = open_plan(build, plan, tensorrt_library=str(library))
    assert (status, said) == (UNSUPPORTED, f"{library} is no TensorRT library: it has no getInferLibVersion")
    status, said = open_plan(build, plan, tensorrt_library=str(tmp_path / "missing.so"))
    assert status == UNSUPPORTED
    assert said.startswith(f"TensorRT-RTX 1.7.1.116, which {plan} needs, cannot be loaded: ")
    assert said.endswith("; install it, or set tensorrt_library to its file")


def rtx_library() -> str:
    spec = importlib.util.find_spec("tensorrt_rtx_libs")
    if spec is None or spec.origin is None:
        pytest.skip("tensorrt_rtx is not installed; pip install 'serpent-restoration[rtx]'")
    return str(Path(spec.origin).parent / "libtensorrt_rtx.so.1")


@pytest.mark.parametrize("major", [10, 11])
def test_an_adapter_runs_a_plan_between_fakes(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, major: int
) -> None:
    # Every line of the adapter but what only a GPU does: a TensorRT made with the same headers, and a CUDA driver, both
    # over host memory.
    adapter(build, major)
    if not build.has_target("serpent_fake_cuda"):
        pytest.skip("the fakes are written for x86-64")
    for target in ("serpent_fake_cuda", f"serpent_fake_tensorrt{major}", f"serpent_fake_plugin{major}"):
        build.target(target)
    fakes = build.folder / "fake_tensorrt"
    tensorrt = fakes / f"libserpent_fake_tensorrt{major}.so"
    driver = str(build.folder / "fake_cuda")
    plan = write_plan(tmp_path)
    fields = json.loads(plan.with_suffix(".json").read_text())
    engine = fields["files"][plan.name]["engine"]
    engine["flavour"], engine["version"] = "trt", {10: "10.16.0.5", 11: "11.1.0.5"}[major]
    plan.with_suffix(".json").write_text(json.dumps(fields))
    plugin = fakes / f"libserpent_fake_plugin{major}.so"
    foreign = Path(shutil.copy(plugin, tmp_path / "foreign.so"))
    nothing = compiled(tmp_path, "nothing.so", "void* getCreators(int* count) { *count = 0; return 0; }")
    broken = tmp_path / "broken.so"
    broken.touch()

    def answer(*libraries: Path, **options: object) -> tuple[int, str]:
        common = {"tensorrt_library": str(tensorrt), **options}
        return open_plans(build, plan, driver, [{"plugin_library": str(path), **common} for path in libraries])

    assert answer(plugin) == (0, "")
    assert answer(plugin, plugin) == (0, "")
    with monkeypatch.context() as elsewhere:
        elsewhere.chdir(fakes)
        assert answer(Path(plugin.name)) == (0, "")  # the file there, not one in the system's folders
    status, said = answer(plugin, device=1)
    assert (status, said) == (UNSUPPORTED, "there is no CUDA device 1: CUDA sees 1")
    status, said = answer(broken)
    assert status == UNSUPPORTED
    assert said == f"TensorRT cannot load the plugin library {broken}: the fake cannot load this"
    status, said = answer(nothing)
    assert status == UNSUPPORTED
    assert said.startswith(f"the plugin library {nothing} does not have serpent::SelectiveScan2D version 1")
    # Somebody else's plugin of this name is in the registry, whose code need not be what the plan was built with.
    for ours in (plugin, nothing, broken, tmp_path / "missing.so"):
        status, said = answer(foreign, ours)
        assert status == UNSUPPORTED
        assert said.startswith(
            f"another library, {foreign}, has registered the plugin serpent::SelectiveScan2D version 1 in this "
            f"process, not {ours}; set plugin_library to the former"
        )
    engine["version"] = {10: "10.16.1.5", 11: "11.0.0.5"}[major]
    plan.with_suffix(".json").write_text(json.dumps(fields))
    status, said = answer(plugin)
    assert status == UNSUPPORTED
    assert f"was built with TensorRT {engine['version']}; loaded is TensorRT {major}." in said


# A driver that agrees to everything, for a GPU of compute capability 8.9: TensorRT's own checks come next.
STUB_DRIVER = """
#include <string.h>
#define YES(name) int name() { return 0; }
YES(cuInit) YES(cuDevicePrimaryCtxRelease_v2) YES(cuCtxPushCurrent_v2) YES(cuCtxPopCurrent_v2) YES(cuMemAlloc_v2)
YES(cuMemFree_v2) YES(cuMemcpy2DAsync_v2) YES(cuPointerGetAttribute) YES(cuEventCreate) YES(cuEventDestroy_v2)
YES(cuEventRecord) YES(cuEventSynchronize) YES(cuStreamWaitEvent) YES(cuStreamSynchronize)
int cuGetErrorString(int error, const char** text) { *text = "an error of the stub"; return 0; }
int cuDeviceGetCount(int* count) { *count = 1; return 0; }
int cuDeviceGet(int* device, int number) { *device = number; return 0; }
int cuDeviceGetName(char* name, int size, int device) { strncpy(name, "stub GPU", size); return 0; }
int cuDeviceGetAttribute(int* value, int which, int device) { *value = which == 75 ? 8 : 9; return 0; }
int cuDevicePrimaryCtxRetain(void** context, int device) { *context = (void*)64; return 0; }
"""


@pytest.mark.require("tensorrt")
def test_a_machine_without_a_driver_is_told_so(build: Build, exported: Exported) -> None:
    if shutil.which("nvidia-smi") is not None:
        pytest.skip("this machine has an NVIDIA driver")
    adapter(build, 11)
    status, said = open_plan(build, exported.plan, tensorrt_library=rtx_library())
    assert status == UNSUPPORTED
    assert said.startswith("this machine has no NVIDIA driver (libcuda.so.1")
    assert said.endswith("run the .onnx file of the same export instead")


@pytest.mark.require("tensorrt")
def test_the_calls_into_tensorrt_itself(build: Build, exported: Exported, tmp_path: Path) -> None:
    # The real TensorRT-RTX behind the adapter, up to where it looks for a GPU: runtime, plugin registry, the plan.
    adapter(build, 11)
    driver = compiled(tmp_path, "libcuda.so.1", STUB_DRIVER)
    no_plugin = compiled(tmp_path, "libother.so", "int unrelated;")

    def answer(plan: Path, **options: object) -> tuple[int, str]:
        return open_plan(build, plan, str(driver.parent), tensorrt_library=rtx_library(), **options)

    status, said = answer(exported.plan, plugin_library=str(tmp_path / "missing.so"))
    assert status == UNSUPPORTED
    assert said.startswith("the plan needs the plugin serpent::SelectiveScan2D version 1, and its library ")
    status, said = answer(exported.plan, plugin_library=str(no_plugin))
    assert status == UNSUPPORTED
    assert said.startswith(f"TensorRT cannot load the plugin library {no_plugin}: ")
    assert "gave no reason" not in said
    # A plan that brings its plugin along needs no library: loading it is next.
    plan = Path(shutil.copy(exported.plan, tmp_path))
    fields = json.loads(exported.manifest.read_text())
    fields["files"][plan.name]["engine"]["plugin"]["embedded"] = True
    plan.with_suffix(".json").write_text(json.dumps(fields))
    status, said = answer(plan, allow_native_code=1)
    assert status == TENSORRT
    assert said.startswith("TensorRT cannot load the plan: ")
    assert "gave no reason" not in said


@pytest.mark.require("tensorrt")
@pytest.mark.require("plugin")
def test_the_real_registry_keeps_plugins_apart(build: Build, tmp_path: Path) -> None:
    # Up to the plan, which is none: reaching it means that the plugin was taken.
    adapter(build, 11)
    driver = compiled(tmp_path, "libcuda.so.1", STUB_DRIVER)
    plan = write_plan(tmp_path)
    fields = json.loads(plan.with_suffix(".json").read_text())
    fields["files"][plan.name]["engine"]["version"] = installed_version(RTX)
    plan.with_suffix(".json").write_text(json.dumps(fields))
    ours = {"tensorrt_library": rtx_library(), "plugin_library": str(plugin_library())}
    copied = ours | {"plugin_library": str(shutil.copy(plugin_library(), tmp_path))}
    taken = (TENSORRT, "TensorRT cannot load the plan: ")

    def answer(*entries: object) -> tuple[int, str]:
        status, said = open_plans(build, plan, str(driver.parent), entries)
        return status, said[: len(taken[1])]

    assert answer(ours) == taken
    assert answer(ours, ours) == taken
    for other, file in ((copied, copied["plugin_library"]), ("python", "")):
        status, said = open_plans(build, plan, str(driver.parent), [other, ours])
        assert status == UNSUPPORTED
        assert said.startswith(f"another library, {file}")
        assert (
            f"registered the plugin serpent::SelectiveScan2D version 1 in this process, not {plugin_library()}" in said
        )
