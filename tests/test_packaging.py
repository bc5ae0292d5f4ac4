"""The package as users get it: a wheel, an editable install, a plain CMake build, an install without compiler."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from serpent import native

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ["pyproject.toml", "README.md", "LICENSE", "CMakeLists.txt", "cmake", "plugins", "serpent", "export", "cli"]
PACKAGES = ["serpent", "serpent_export", "serpent_cli"]
WITHOUT_CUDA = "-Ccmake.define.SERPENT_CUDA=OFF"

# Where an interpreter finds the package and its library, and whether a scan runs. Printed as JSON.
PROBE = """
import json, numpy as np, serpent
from serpent import native
ones = lambda *shape: np.ones(shape, np.float32)
y = native.selective_scan_2d(ones(1, 2, 3, 5), ones(1, 2, 3, 12), ones(4, 5, 1), ones(4, 5), -ones(4, 5, 1), ones(4, 5))
print(json.dumps({
    "package": serpent.__file__, "library": str(native.library().path), "version": serpent.__version__,
    "finite": bool(np.isfinite(y).all()),
}))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that no build touches the working tree."""
    copy = tmp_path_factory.mktemp("checkout")
    leave_out = shutil.ignore_patterns("__pycache__", "*.so", "build")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=leave_out)
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(checkout, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_serves_every_python_of_the_platform(wheel: Path) -> None:
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name.split("-")[2:] == ["py3", "none", f"{platform}.whl"]


def test_the_wheel_holds_the_packages_the_library_and_the_headers(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    libraries = {name.removeprefix("serpent/lib/") for name in names if name.endswith(".so")}
    # What is made for TensorRT is there where its headers were, and then whole.
    optional = {name for name in libraries if "_trt" in name}
    assert libraries - optional == {native.library_file_name(), "libserpent_engine.so"}
    for one, several in (("libserpent_trt.so", "libserpent_trt_autoreg"), ("", "libserpent_engine_trt")):
        allowed = {f"{several}{major}.so" for major in (10, 11)}
        present = {name for name in optional if name.startswith(several)}
        assert present <= allowed
        assert not one or (one in optional) == bool(present)
    headers = {"scan.h", "export.h", "engine.h", "engine.hpp"}
    assert {f"serpent/include/serpent/{header}" for header in headers} <= set(names)
    assert "serpent/lib/cmake/serpent/serpentConfig.cmake" in names
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert {f"{package}/__init__.py" for package in PACKAGES} <= set(names)
    assert {f"serpent_cli/report_page/page.{kind}" for kind in ("html", "css", "js")} <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    strangers = [name for name in names if not name.startswith((*(f"{p}/" for p in PACKAGES), "serpent_restoration-"))]
    assert strangers == []


def test_an_installed_wheel_finds_its_library(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    install(python, str(wheel))
    found = probe(python, tmp_path)
    assert Path(found["package"]).is_relative_to(tmp_path / "venv")
    assert Path(found["library"]).parent == Path(found["package"]).parent / "lib"
    assert found["version"] == wheel.name.split("-")[1]
    assert found["finite"]


def test_an_editable_install_finds_its_library(checkout: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    install(python, "--no-build-isolation", WITHOUT_CUDA, "--editable", str(checkout))
    found = probe(python, tmp_path)
    assert Path(found["package"]) == checkout / "serpent" / "__init__.py"
    assert Path(found["library"]).is_relative_to(tmp_path / "venv")
    assert found["finite"]


def test_an_installed_wheel_knows_its_cmake_folder(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    install(python, str(wheel))
    folder = Path(run([str(python), "-m", "serpent", "--cmake-dir"], tmp_path).strip())
    assert folder.is_relative_to(tmp_path / "venv")
    # The targets' own file refuses where a library or a header folder that it names is not there.
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(outside LANGUAGES CXX)\nfind_package(serpent REQUIRED)\n"
        "foreach(target serpent::scan serpent::engine)\n  get_target_property(type ${target} TYPE)\nendforeach()\n"
    )
    run(["cmake", "-S", ".", "-B", "build", f"-Dserpent_DIR={folder}"], tmp_path)


def test_the_commands_are_installed(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    install(python, str(wheel))
    for command in ("serpent", "serpent-export", "serpent-infer", "serpent-doctor"):
        answer = run([str(python.with_name(command)), "--help"], tmp_path)
        assert answer.startswith(f"Usage: {command}"), answer


def test_a_plain_cmake_build_is_found(checkout: Path, tmp_path: Path) -> None:
    build = checkout / "build"
    run(["cmake", "-S", str(checkout), "-B", str(build), "-DSERPENT_CUDA=OFF"], tmp_path)
    run(["cmake", "--build", str(build)], tmp_path)
    try:
        found = probe(environment(tmp_path / "venv"), checkout)
    finally:
        shutil.rmtree(build)
    assert Path(found["library"]).parent == build / "plugins"
    assert found["finite"]


def test_an_install_without_compiler_says_what_is_missing(checkout: Path, tmp_path: Path) -> None:
    pure = build_wheel(checkout, tmp_path / "wheel", "-Cwheel.cmake=false")
    assert pure.name.endswith("-py3-none-any.whl")
    python = environment(tmp_path / "venv")
    install(python, str(pure))
    answer = subprocess.run([str(python), "-c", PROBE], capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode != 0
    assert "NativeLibraryError: the native library was not found" in answer.stderr
    assert "SERPENT_LIBRARY" in answer.stderr


def build_wheel(source: Path, folder: Path, *options: str) -> Path:
    # The build backend comes from the environment that runs the tests: no network is needed.
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", WITHOUT_CUDA, *options]
    run([*command, "-o", str(folder), str(source)], source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def environment(folder: Path) -> Path:
    """The interpreter of a new virtual environment that has every package of this one but the project."""
    venv.create(folder, with_pip=False, symlinks=True)
    target = next(folder.glob("lib/python*/site-packages"))
    # Not site.getsitepackages(), which for Debian's Python names folders that are not there.
    for source in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(source).iterdir():
            # Path files would bring the editable install of this environment along.
            ours = entry.name.startswith("serpent") or entry.suffix == ".pth" or "editable" in entry.name
            if not ours and not (target / entry.name).exists():
                (target / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def install(python: Path, *what: str) -> None:
    run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", *what], python.parent)


def probe(python: Path, folder: Path) -> dict[str, object]:
    return json.loads(run([str(python), "-c", PROBE], folder).splitlines()[-1])


def run(command: list[str], folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    answer = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert answer.returncode == 0, f"{' '.join(command)}\n{answer.stdout}\n{answer.stderr}"
    return answer.stdout
