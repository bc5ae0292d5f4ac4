"""find_package(serpent): outside projects build against the installed package, and one restores a picture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmake_build import REPOSITORY, run
from cpp_engine import Build, network, shared_build, write_plan
from serpent import __main__ as command
from serpent.errors import NativeLibraryError
from serpent.padding import crop, pad

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the C++ runtime is built for Linux")

# The least project: what a user's CMakeLists.txt says, with a C and a C++ source.
PROJECT = """
cmake_minimum_required(VERSION 3.22)
project(outside LANGUAGES C CXX)
find_package(serpent 0.1 REQUIRED)
add_executable(outside outside.cpp scan.c)
target_compile_options(outside PRIVATE -Wall -Wextra -Wpedantic -Werror)
target_link_libraries(outside PRIVATE serpent::scan serpent::engine)
"""
SOURCES = {
    "outside.cpp": """
#include <cstdio>
#include <serpent/engine.hpp>
extern "C" int scan_schema(void);
int main(int, char** arguments) {
  try {
    serpent::Engine engine(arguments[1], {.contexts = 1});
  } catch (const serpent::Error& error) {
    std::printf("%d %d %s", scan_schema(), error.status(), error.what());
  }
}
""",
    "scan.c": """
#include <serpent/engine.h>
#include <serpent/scan.h>
int scan_schema(void) { return serpent_scan_schema(); }
""",
}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return shared_build(tmp_path_factory)


@pytest.fixture(scope="module")
def package(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of serpentConfig.cmake in an installation that was moved after it was made."""
    prefix = tmp_path_factory.mktemp("install") / "first"
    build.target("all")
    run("cmake", "--install", build.folder, "--prefix", prefix)
    moved = prefix.rename(prefix.with_name("moved"))
    (config,) = moved.rglob("serpentConfig.cmake")
    return config.parent


def built(source: Path, folder: Path, package: Path) -> Path:
    run("cmake", "-S", source, "-B", folder, f"-Dserpent_DIR={package}")
    run("cmake", "--build", folder)
    return folder


@pytest.mark.slow
def test_an_outside_project_uses_both_libraries(package: Path, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    for name, text in SOURCES.items():
        (tmp_path / name).write_text(text)
    program = built(tmp_path, tmp_path / "build", package) / "outside"
    assert run(program, tmp_path / "net.plan").startswith(f"1 6 the plan {tmp_path}/net.plan does not exist")


def test_a_project_may_add_this_one_to_its_build_in_a_folder_of_its_own(tmp_path: Path) -> None:
    # The engine looks for its adapters and the plugin beside itself, wherever the project wants its libraries.
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(outside LANGUAGES C CXX)\n"
        "set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/libraries)\n"
        f"add_subdirectory({REPOSITORY} serpent)\n"
        "add_executable(outside outside.cpp scan.c)\n"
        "target_link_libraries(outside PRIVATE serpent::scan serpent::engine)\n"
        "foreach(target serpent serpent_engine serpent_engine_trt10 serpent_engine_trt11 serpent_trt)\n"
        "  if(TARGET ${target})\n"
        "    file(GENERATE OUTPUT ${target}.folder CONTENT $<TARGET_FILE_DIR:${target}>)\n"
        "  endif()\nendforeach()\n"
    )
    for name, text in SOURCES.items():
        (tmp_path / name).write_text(text)
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", "-DSERPENT_CUDA=OFF")
    folders = {path.read_text() for path in (tmp_path / "build").glob("*.folder")}
    assert folders == {f"{tmp_path}/build/libraries"}


@pytest.mark.slow
def test_the_example_restores_a_picture(build: Build, package: Path, tmp_path: Path) -> None:
    if not any(Path(folder, "png.h").is_file() for folder in ("/usr/include", "/usr/local/include")):
        pytest.skip("the example needs png.h, of the package libpng-dev (Debian, Ubuntu) or libpng-devel (Fedora)")
    program = built(REPOSITORY / "plugins" / "examples", tmp_path / "build", package) / "restore"
    plan = write_plan(tmp_path)
    picture, result = tmp_path / "in.png", tmp_path / "out.png"
    levels = np.random.default_rng(0).integers(0, 256, (37, 21, 3), dtype=np.uint8)
    Image.fromarray(levels).save(picture)
    environment = os.environ | {"SERPENT_ENGINE_ADAPTER": str(build.stand_in)}
    run(program, plan, picture, result, env=environment)

    # As the Python runtime does it: pad to multiples of 8, one run, crop, round to 8 bits.
    image = pad(levels[None].astype(np.float32) / np.float32(255), 40, 24).transpose(0, 3, 1, 2)
    restored = crop(network(image).transpose(0, 2, 3, 1), 37, 21)[0]
    wanted = np.rint(np.clip(restored, 0, 1) * np.float32(255)).astype(np.uint8)
    assert (np.asarray(Image.open(result)) == wanted).all()

    (tmp_path / "bytes").mkdir()
    run(program, write_plan(tmp_path / "bytes", io="u8-nhwc"), picture, result, env=environment)
    assert (np.asarray(Image.open(result)) == wanted).all()

    folder = tmp_path / "folder.png"
    folder.mkdir()
    answer = subprocess.run([program, plan, picture, folder], env=environment, capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (1, f"error: {folder}: Is a directory\n")
    assert not list(tmp_path.glob("*.part"))

    Image.fromarray(levels.repeat(3, axis=0)).save(picture)
    answer = subprocess.run([program, plan, picture, result], env=environment, capture_output=True, text=True)
    assert answer.returncode == 1
    assert f"outside the profile of {plan}: batch 1:1:2, height 16:32:64" in answer.stderr


def test_the_example_names_the_package_that_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "serpentConfig.cmake").touch()
    command = ["cmake", "-S", str(REPOSITORY / "plugins" / "examples"), "-B", str(tmp_path / "build")]
    # As on a machine without libpng.
    command += [f"-Dserpent_DIR={tmp_path}", "-DCMAKE_DISABLE_FIND_PACKAGE_PNG=ON"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert answer.returncode != 0
    said = " ".join(answer.stderr.split())  # CMake breaks lines
    assert "libpng's headers were not found; install libpng-dev (Debian, Ubuntu) or libpng-devel (Fedora)" in said


def test_the_command_prints_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "serpent"
    folder = package / "lib" / "cmake" / "serpent"
    folder.mkdir(parents=True)
    (folder / "serpentConfig.cmake").touch()
    monkeypatch.setattr(command, "__file__", str(package / "__main__.py"))
    assert command.cmake_dir() == folder


def test_an_installation_without_it_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "__file__", str(tmp_path / "__main__.py"))
    monkeypatch.setattr(command, "installed_files", lambda _name: [])
    with pytest.raises(NativeLibraryError, match="serpentConfig.cmake was not found; sought"):
        command.cmake_dir()
    monkeypatch.setattr(sys, "argv", ["serpent", "--cmake-dir"])
    assert command.main() == 1
    assert capsys.readouterr().err.startswith("error: serpentConfig.cmake was not found")
