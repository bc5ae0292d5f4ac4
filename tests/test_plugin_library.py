"""The TensorRT plugin's library files, looked at and loaded without a GPU, each time in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serpent import native
from serpent.errors import NativeLibraryError
from serpent.identity import NAME, NAMESPACE, VERSION
from serpent.runtime.plugin_library import autoreg_library, plugin_library
from serpent.runtime.tensorrt_library import RTX, installed_version

pytestmark = pytest.mark.require("plugin")
needs_rtx = pytest.mark.skipif(installed_version(RTX) is None, reason=f"needs {RTX.title}: {RTX.install_command}")

IDENTITY = [NAME, VERSION, NAMESPACE]
PROCESS = Path(__file__).with_name("plugin_process.py")

# The lean runtimes load plugins and need neither the full libraries nor a GPU for that.
LEAN = {10: "10.16.1.11", 11: "11.1.0.106"}


def run(*words: str) -> tuple[dict[str, Any], str]:
    """What the process says, and what was printed beside it."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)}
    finished = subprocess.run(
        [sys.executable, str(PROCESS), *words], capture_output=True, text=True, env=environment, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1]), finished.stderr


def listing(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}, of binutils")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def needed(library: Path) -> list[str]:
    return re.findall(r"\(NEEDED\).*\[(.*)\]", listing("readelf", "-d", str(library)))


def exported(library: Path) -> set[str]:
    return {line.split()[-1] for line in listing("nm", "-D", "--defined-only", str(library)).splitlines()}


def autoreg_libraries() -> dict[int, Path]:
    found = {}
    for major in LEAN:
        try:
            found[major] = autoreg_library(major)
        except NativeLibraryError:
            continue  # there were no headers of this version
    return found


def autoreg(major: int) -> str:
    path = autoreg_libraries().get(major)
    if path is None:
        pytest.skip(f"no headers of TensorRT {major} when the native library was built")
    return str(path)


@pytest.fixture(scope="session")
def lean(request: pytest.FixtureRequest) -> tuple[int, str]:
    """Major version, and the folder that its wheels are unpacked in; kept between runs."""
    major = request.param
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "serpent-tests"
    folder = cache / f"tensorrt-lean-{LEAN[major]}-{sys.implementation.cache_tag}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        aside = cache / f"{folder.name}.{os.getpid()}"
        wheels = [f"tensorrt-lean-cu13-{part}=={LEAN[major]}" for part in ("libs", "bindings")]
        options = ["-qq", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--target", str(aside)]
        installed = subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, *wheels], capture_output=True, text=True
        )
        if installed.returncode != 0:
            shutil.rmtree(aside, ignore_errors=True)
            said = (installed.stderr.strip().splitlines() or ["no message"])[-1]
            pytest.skip(f"pip cannot install {' and '.join(wheels)}: {said}")
        aside.rename(folder)
    return major, str(folder)


both_lean = pytest.mark.parametrize("lean", LEAN, indirect=True, ids=lambda major: f"lean{major}")


def test_the_plugin_exports_what_tensorrt_looks_up_and_nothing_else() -> None:
    assert exported(plugin_library()) == {"getCreators", "setLoggerFinder"}
    for library in autoreg_libraries().values():
        assert exported(library) == set()


def test_neither_tensorrt_nor_cuda_is_linked() -> None:
    for library in (plugin_library(), *autoreg_libraries().values()):
        assert [name for name in needed(library) if re.search("nvinfer|tensorrt|cuda|cudart", name)] == []
    for library in autoreg_libraries().values():
        assert "libserpent_trt.so" in needed(library)
        assert "$ORIGIN" in listing("readelf", "-d", str(library))


def test_both_libraries_carry_the_same_kernel_archive() -> None:
    def digests(library: Path) -> list[bytes]:
        return re.findall(rb"serpent-kernels-sha256:([0-9a-f]{64})", library.read_bytes())

    (ours,) = digests(plugin_library())
    assert digests(native.find_library()) == [ours]


def test_a_library_of_this_machine_names_no_folder_of_it() -> None:
    for library in (plugin_library(), *autoreg_libraries().values()):
        assert str(Path(__file__).parents[1]).encode() not in library.read_bytes()


def assert_works(found: dict[str, Any]) -> None:
    assert found["before"] == []
    assert found["loaded"] == [True]
    assert found["after"] == [IDENTITY]
    assert found["made"] == IDENTITY
    assert not found["without_schema"]


@needs_rtx
def test_tensorrt_rtx_loads_the_plugin() -> None:
    found, said = run("probe", "rtx", str(plugin_library()))
    assert found["version"] == installed_version(RTX)
    assert_works(found)
    assert f"{NAME}, createPlugin: the plan lacks the field 'schema'" in said


@pytest.mark.slow
@both_lean
def test_tensorrt_loads_the_plugin(lean: tuple[int, str]) -> None:
    major, folder = lean
    found, _ = run("probe", folder, str(plugin_library()))
    assert found["version"] == LEAN[major]
    assert_works(found)


@needs_rtx
def test_tensorrt_rtx_counts_as_11() -> None:
    found, said = run("probe", "rtx", autoreg(11))
    assert_works(found)
    assert "autoreg" not in said
    found, said = run("probe", "rtx", autoreg(10))
    assert found["after"] == []
    assert re.search(
        r"libserpent_trt_autoreg10: registered nothing: this library is for TensorRT 10; this process has loaded "
        r"libtensorrt_rtx\.so\.1 \(version 1\.\d+\.\d+\); load the libserpent_trt_autoreg of its version",
        said,
    )


@pytest.mark.slow
@both_lean
def test_autoreg_registers_with_its_own_major_version_alone(lean: tuple[int, str]) -> None:
    major, folder = lean
    found, said = run("probe", folder, autoreg(major))
    assert_works(found)
    assert "autoreg" not in said
    other = 21 - major
    found, said = run("probe", folder, autoreg(other))
    assert found["after"] == []
    assert f"libserpent_trt_autoreg{other}: registered nothing" in said
    assert f"libnvinfer_lean.so.{major} (version {major}." in said


@needs_rtx
def test_the_second_of_two_registrations_is_refused_in_one_sentence() -> None:
    found, said = run("probe", "rtx", str(plugin_library()), autoreg(11))
    assert found["after"] == [IDENTITY]
    assert (
        "libserpent_trt_autoreg11: libtensorrt_rtx.so.1 refused the plugin serpent::SelectiveScan2D: "
        "is it registered already?\n" in said
    )
    found, _ = run("probe", "rtx", autoreg(11), str(plugin_library()))
    assert found["loaded"] == [True, False]
    assert found["after"] == [IDENTITY]
    assert found["made"] == IDENTITY


def test_autoreg_without_tensorrt_says_so() -> None:
    for major, library in autoreg_libraries().items():
        script = f"import ctypes; ctypes.CDLL({str(library)!r})"
        finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert finished.returncode == 0
        assert finished.stderr.startswith(f"libserpent_trt_autoreg{major}: registered nothing")
        assert finished.stderr.endswith("this process has loaded no TensorRT; load that first\n")


@pytest.mark.parametrize(
    ("file", "version", "title"),
    [
        ("libnvinfer.so.12", 120000, "libnvinfer.so.12 (version 12.0.0)"),
        ("libnvinfer.so.9", 9300, "libnvinfer.so.9 (version 9.3.0)"),
        ("libnvinfer_lean.so.8", 8601, "libnvinfer_lean.so.8 (version 8.6.1)"),
        ("libtensorrt_rtx.so.1", 10601, "libtensorrt_rtx.so.1 (version 1.6.1)"),
        ("libtensorrt_rtx.so.2", 20100, "libtensorrt_rtx.so.2 (version 2.1.0)"),
        ("libnvinfer.so.13.1.2", None, "libnvinfer.so.13.1.2 (which tells no version)"),
    ],
)
def test_autoreg_names_a_version_that_the_plugin_does_not_know(
    tmp_path: Path, file: str, version: int | None, title: str
) -> None:
    if shutil.which("cc") is None:
        pytest.skip("needs cc, to make a library of that name")
    source = tmp_path / "other.c"
    source.write_text("" if version is None else f"int getInferLibVersion(void) {{ return {version}; }}\n")
    other = tmp_path / file
    subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{file}", str(source), "-o", str(other)], check=True)
    for library in autoreg_libraries().values():
        script = f"import ctypes; ctypes.CDLL({str(other)!r}); ctypes.CDLL({str(library)!r})"
        finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert finished.returncode == 0
        assert finished.stderr.endswith(
            f"this process has loaded {title}; the plugin runs in TensorRT 10, 11 and TensorRT-RTX 1.7 and later 1.x "
            "alone\n"
        )


def plan(folder: Path, name: str, glue: str, onnx: Path, *sizes: str) -> bytes:
    path = folder / f"{name}.plan"
    found, _ = run("build", glue, str(onnx), str(path), *sizes)
    assert found["built"], found["messages"]
    assert found["scans"] == 3
    return path.read_bytes()


@needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_python_and_cpp_build_the_same_plan(tmp_path: Path, precision: str) -> None:
    samples = pytest.importorskip("tests.onnx_samples", reason="the sample networks are made with onnx")
    fixed = samples.scan_network(tmp_path / "fixed.onnx", precision=precision, scans=3)
    ours = plan(tmp_path, "cpp", str(plugin_library()), fixed)
    assert ours == plan(tmp_path, "python", "python", fixed)
    assert len(ours) > 10_000
    ranged = samples.scan_network(tmp_path / "ranged.onnx", precision=precision, scans=3, sizes=("b", "h", "w"))
    sizes = ("64", "256")
    theirs = plan(tmp_path, "python ranged", "python", ranged, *sizes)
    assert plan(tmp_path, "cpp ranged", str(plugin_library()), ranged, *sizes) == theirs != ours


@needs_rtx
def test_a_registered_plugin_builds_the_same_plan(tmp_path: Path) -> None:
    samples = pytest.importorskip("tests.onnx_samples", reason="the sample networks are made with onnx")
    onnx = samples.scan_network(tmp_path / "network.onnx", scans=3)
    registered = plan(tmp_path, "autoreg", autoreg(11), onnx)
    assert registered == plan(tmp_path, "cpp", str(plugin_library()), onnx)


@needs_rtx
def test_a_plan_can_carry_the_library(tmp_path: Path) -> None:
    samples = pytest.importorskip("tests.onnx_samples", reason="the sample networks are made with onnx")
    onnx = samples.scan_network(tmp_path / "network.onnx", scans=3)
    library = plugin_library().read_bytes()
    bare = plan(tmp_path, "bare", str(plugin_library()), onnx)
    carrying = plan(tmp_path, "carrying", f"embed:{plugin_library()}", onnx)
    assert library in carrying
    assert library not in bare
    assert plan(tmp_path, "again", f"embed:{plugin_library()}", onnx) == carrying


@needs_rtx
@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"scan_precision": "fp16"}, "getOutputDataTypes: input dt_weight has type HALF; expected FLOAT"),
        (
            {"inputs": 5},
            "getOutputDataTypes: 5 inputs and 1 outputs; expected 6 (x, x_dbl, dt_weight, dt_bias, A, D_skip) and 1",
        ),
        ({"state": 65}, "configurePlugin: d_state is 65; expected >= 1 and <= 64"),
    ],
    ids=["type", "count", "size"],
)
def test_what_the_plugin_refuses_is_said(tmp_path: Path, sample: dict[str, Any], message: str) -> None:
    samples = pytest.importorskip("tests.onnx_samples", reason="the sample networks are made with onnx")
    onnx = samples.scan_network(tmp_path / "network.onnx", scans=1, **sample)
    found, said = run("build", str(plugin_library()), str(onnx), str(tmp_path / "network.plan"))
    assert not found["built"]
    # TensorRT-RTX 1.7.1 hands a plugin no logger while it builds: then stderr has to do.
    assert f"{NAME}, {message}\n" in said, found["messages"]
