"""What nvcc made of the CUDA kernels: registers, architectures, symbols, and their C interface without a GPU.

`make test-cuda-build` builds them for all architectures and runs these tests on the result.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from cuda_build import Build, finished_build
from serpent.errors import ArgumentError
from serpent.native import Library, ScanPointers, ScanShape

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def build(pytestconfig: pytest.Config) -> Build:
    return finished_build(pytestconfig)


@pytest.fixture(scope="module")
def library(build: Build) -> Library:
    return Library(build.library)


# What ptxas -v says of one kernel on one architecture.
REPORT = re.compile(
    r"Compiling entry function '(?P<kernel>\S+)' for 'sm_(?P<architecture>\d+)'\n"
    r"ptxas info    : Function properties for (?P=kernel)\n"
    r"    (?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads\n"
)


def demangled(names: list[str]) -> list[str]:
    """Readable names where c++filt is there, else as they are."""
    if shutil.which("c++filt") is None:
        return names
    run = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def reports(build: Build) -> list[Path]:
    """The reports of the objects that are there (a report outlives its object when a source is renamed)."""
    return [path for path in build.folder.rglob("*.ptxas") if path.with_suffix("").is_file()]


def test_no_kernel_spills_registers(build: Build) -> None:
    found = [match for path in reports(build) for match in REPORT.finditer(path.read_text())]
    on = Counter(match["architecture"] for match in found)
    wanted = {name.removesuffix("-real") for name in build.architectures if not name.endswith("-virtual")}
    assert set(on) == wanted
    assert len(set(on.values())) == 1, f"kernels by architecture: {on}"
    spilling = [match for match in found if match["stores"] != "0" or match["loads"] != "0"]
    names = demangled([match["kernel"] for match in spilling])
    assert [
        f"{name} on sm_{match['architecture']}: {match['stores']} bytes stored, {match['loads']} loaded"
        for name, match in zip(names, spilling, strict=True)
    ] == []


def cuobjdump() -> str:
    beside = Path(sysconfig.get_path("purelib")).glob("nvidia/cu*/bin/cuobjdump")
    found = shutil.which("cuobjdump") or next((str(path) for path in beside), None)
    if found is None:
        pytest.skip("cuobjdump is missing; pip install nvidia-cuda-cuobjdump")
    return found


def test_the_library_holds_code_for_every_architecture(build: Build) -> None:
    listed = {
        kind: subprocess.run([cuobjdump(), f"--list-{kind}", str(build.library)], capture_output=True, text=True).stdout
        for kind in ("elf", "ptx")
    }
    code = Counter(re.findall(r"\.sm_(\d+)\.cubin", listed["elf"]))
    ptx = Counter(re.findall(r"\.sm_(\d+)\.ptx", listed["ptx"]))
    kinds = [name.partition("-") for name in build.architectures]
    sources = len(reports(build))
    assert sources >= 1
    assert code == {architecture: sources for architecture, _, kind in kinds if kind != "virtual"}
    assert ptx == {architecture: sources for architecture, _, kind in kinds if kind != "real"}


def test_by_default_all_generations_and_the_newest_ptx_are_built() -> None:
    (names,) = re.findall(r"set\(SERPENT_CUDA_ARCHITECTURES ([^)]*)\)", (ROOT / "cmake" / "cuda.cmake").read_text())
    seven = [f"{number}-real" for number in (75, 80, 86, 89, 90, 100, 120)]
    assert names.split() == [*seven, "120-virtual"]


def test_the_library_exports_its_interface_and_nothing_else(build: Build) -> None:
    answer = subprocess.run(
        ["nm", "--dynamic", "--defined-only", str(build.library)], capture_output=True, text=True, check=True
    )
    exported = {line.split()[-1] for line in answer.stdout.splitlines()}
    header = (ROOT / "plugins" / "include" / "serpent" / "scan.h").read_text()
    assert exported == set(re.findall(r"^SERPENT_API .*?\b(serpent_\w+)\(", header, re.MULTILINE))


def test_the_library_needs_no_cuda_library(build: Build) -> None:
    answer = subprocess.run(["readelf", "--dynamic", str(build.library)], capture_output=True, text=True, check=True)
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", answer.stdout)
    assert "libc.so.6" in needed
    assert [name for name in needed if re.match(r"lib(cu|nv)", name)] == []


SHAPE = ScanShape(batch=1, height=3, width=5, channels=8, d_state=2, dt_rank=1, dtype="f32")


def test_the_library_says_that_it_has_the_kernels(library: Library) -> None:
    assert library.has_cuda


def test_workspaces_are_those_of_the_library_without_kernels(library: Library) -> None:
    from serpent import native

    plain = native.library()
    for shape in (SHAPE, ScanShape(2, 512, 512, 64, 6, 2, "bf16"), ScanShape(1, 64, 64, 512, 43, 16, "f16")):
        assert library.workspace_size(shape) == plain.workspace_size(shape) > 0
        assert library.backward_workspace_size(shape) == plain.backward_workspace_size(shape) > 0


def launch(library: Library, shape: ScanShape = SHAPE, workspace_bytes: int | None = None, **pointers: int) -> None:
    """A scan on addresses that lead nowhere: only calls that are refused beforehand return."""
    names = ("x", "x_dbl", "dt_weight", "dt_bias", "A", "D_skip", "y")
    given = ScanPointers(**{name: pointers.get(name, 0x1000) for name in names})
    size = library.workspace_size(SHAPE) if workspace_bytes is None else workspace_bytes
    library.scan_cuda(shape, given, 0x1000, size, 0)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        pytest.param({"shape": ScanShape(1, 3, 5, 8, 65, 1, "f32")}, "d_state is 65", id="states"),
        pytest.param({"shape": ScanShape(1, 3, 5, 8, 2, 65, "f32")}, "dt_rank is 65", id="rank"),
        pytest.param({"shape": ScanShape(1, 0, 5, 8, 2, 1, "f32")}, "height is 0", id="height"),
        pytest.param({"shape": ScanShape(1, 3, 5, 8, 2, 1, "f64")}, "dtype", id="f64"),
        pytest.param({"A": 0}, "A is NULL", id="null"),
        pytest.param({"workspace_bytes": 16}, "workspace has 16 bytes", id="workspace"),
    ],
)
def test_a_wrong_argument_is_named(library: Library, changed: dict, named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        launch(library, **changed)


def test_an_empty_batch_launches_nothing(library: Library) -> None:
    launch(library, ScanShape(0, 3, 5, 8, 2, 1, "f32"))


def no_gpu() -> bool:
    """Whether CUDA sees no device here; where it sees one, a launch on made-up addresses would harm it."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    count = ctypes.c_int()
    return driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0


LAUNCH = """
import sys
from pathlib import Path
from serpent.errors import NativeLibraryError
from serpent.native import Library, ScanGradients, ScanPointers, ScanShape

library, shape = Library(Path(sys.argv[1])), ScanShape(1, 3, 5, 8, 2, 1, "f32")
inputs, gradients = ScanPointers(*[4096] * 7), ScanGradients(*[4096] * 7)
try:
    if sys.argv[2] == "forward":
        library.scan_cuda(shape, inputs, 4096, library.workspace_size(shape), 0)
    else:
        library.scan_backward_cuda(shape, inputs, gradients, 4096, library.backward_workspace_size(shape), 0)
except NativeLibraryError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize("which", ["forward", "backward"])
def test_a_launch_without_a_gpu_fails_with_a_message(build: Build, which: str) -> None:
    if not no_gpu():
        pytest.skip("there is a GPU")
    # In a process of its own, which a crash would end.
    command = [sys.executable, "-c", LAUNCH, str(build.library), which]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert re.search(r"^refused: .*CUDA(-capable device| driver)", run.stdout), run.stdout


def kernel_code(build: Build, folder: Path) -> dict[str, bytes]:
    """The GPU code of each object in the archive of kernels, which linking takes over byte by byte."""
    archive = build.folder / "plugins" / "libserpent_kernels.a"
    subprocess.run(["ar", "x", str(archive)], cwd=folder, check=True)
    found = {}
    for member in sorted(folder.glob("*.cu.o")):
        code = member.with_suffix(".fatbin")
        subprocess.run(["objcopy", "-O", "binary", "--only-section=.nv_fatbin", str(member), str(code)], check=True)
        found[member.name] = code.read_bytes()
    return found


def test_the_tensorrt_plugin_carries_the_same_gpu_code(build: Build, tmp_path: Path) -> None:
    plugin = build.library.with_name("libserpent_trt.so")
    if not plugin.is_file():
        pytest.skip("the TensorRT plugin was not built; CMake says what it needs")
    code = kernel_code(build, tmp_path)
    library, glue = build.library.read_bytes(), plugin.read_bytes()
    assert all(part and part in library for part in code.values())
    forward = {name for name in code if name.startswith("scan_")}
    assert {name for name, part in code.items() if part in glue} == forward != set(code)
