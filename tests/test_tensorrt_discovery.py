"""How CMake finds the headers of TensorRT, shown with stand-ins: folders with the two files that it looks for."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the plugin is for Linux")

# Places where SDKs and toolkits usually lie are the caller's: this machine's own must not answer.
ASK = f"""
cmake_minimum_required(VERSION 3.22)
set(CMAKE_SYSTEM_NAME Linux)
include("{ROOT}/cmake/find_nvcc.cmake")
include("{ROOT}/cmake/find_tensorrt.cmake")
message("majors=${{serpent_tensorrt_majors}}")
message("includes10=${{serpent_tensorrt_10_includes}}")
message("includes11=${{serpent_tensorrt_11_includes}}")
message("state=${{SERPENT_TENSORRT_STATE}}")
"""

ABSENT = (
    "not built, it needs NvInfer.h; unpack a TensorRT SDK and name its folder with -DTENSORRT_ROOT=<folder> or the "
    "environment variable TENSORRT_ROOT"
)


@dataclass(frozen=True)
class Answer:
    status: int
    found: dict[str, str]
    output: str


def sdk(folder: Path, version: str, *, include: str = "include", names: str = "TRT_{}_ENTERPRISE") -> Path:
    place = folder / include
    place.mkdir(parents=True)
    (place / "NvInfer.h").touch()
    parts = zip(("MAJOR", "MINOR", "PATCH"), version.split("."), strict=True)
    lines = [f"#define {names.format(part)} {value}\n" for part, value in parts]
    (place / "NvInferVersion.h").write_text("".join(lines))
    return folder


@pytest.fixture
def cuda(tmp_path: Path) -> Path:
    headers = tmp_path / "cuda" / "include"
    (headers / "crt").mkdir(parents=True)
    (headers / "cuda_runtime_api.h").touch()
    (headers / "crt" / "host_defines.h").touch()
    return headers.parent


def ask(folder: Path, *definitions: str, usual: str = "none", cuda: Path | None = None, root: str = "") -> Answer:
    script = folder / "ask.cmake"
    script.write_text(ASK)
    run = subprocess.run(
        [
            "cmake",
            f"-DSERPENT_TENSORRT_PREFIXES={usual}",
            f"-DSERPENT_CUDA_PREFIXES={cuda or 'none'}",
            "-DPython3_EXECUTABLE=/bin/false",
            *definitions,
            "-P",
            str(script),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "TENSORRT_ROOT": root, "CUDA_PATH": "", "CUDACXX": ""},
    )
    lines = [line.split("=", 1) for line in run.stderr.splitlines() if "=" in line]
    return Answer(run.returncode, dict(lines), " ".join((run.stdout + run.stderr).split()))


def test_none_is_found_where_there_is_none(tmp_path: Path, cuda: Path) -> None:
    answer = ask(tmp_path, cuda=cuda)
    assert answer.status == 0
    assert answer.found["majors"] == ""
    assert answer.found["state"] == ABSENT
    assert f"-- TensorRT plugin: {ABSENT}" in answer.output


def test_of_each_major_version_the_newest_is_taken(tmp_path: Path, cuda: Path) -> None:
    sdk(tmp_path / "tensorrt-10.9", "10.9.0", names="NV_TENSORRT_{}")
    newer = sdk(tmp_path / "tensorrt-10.16", "10.16.1")
    latest = sdk(tmp_path / "tensorrt-11.1", "11.1.0", include="include/x86_64-linux-gnu")
    sdk(tmp_path / "tensorrt-8.6", "8.6.1", names="NV_TENSORRT_{}")
    answer = ask(tmp_path, usual=f"{tmp_path}/tensorrt*", cuda=cuda)
    assert answer.found["majors"] == "10;11"
    assert answer.found["includes10"] == f"{newer}/include;{cuda}/include"
    assert answer.found["includes11"] == f"{latest}/include/x86_64-linux-gnu;{cuda}/include"
    assert answer.found["state"] == "built with the headers of 10.16.1 and 11.1.0"


@pytest.mark.parametrize("how", ["variable", "environment", "environment with colons"])
def test_what_is_named_stands_alone(tmp_path: Path, cuda: Path, how: str) -> None:
    usual = sdk(tmp_path / "usual", "11.4.0")
    named = [sdk(tmp_path / "a", "10.16.1"), sdk(tmp_path / "b", "11.1.0")]
    roots = (":" if "colons" in how else ";").join(map(str, named))
    definitions, root = ([f"-DTENSORRT_ROOT={roots}"], "") if how == "variable" else ([], roots)
    answer = ask(tmp_path, *definitions, usual=str(usual), cuda=cuda, root=root)
    assert answer.found["state"] == "built with the headers of 10.16.1 and 11.1.0"
    only = ask(tmp_path, f"-DTENSORRT_ROOT={named[0]}", usual=str(usual), cuda=cuda)
    assert only.found["majors"] == "10"


def test_a_named_folder_without_the_headers_is_an_error(tmp_path: Path, cuda: Path) -> None:
    sdk(tmp_path / "usual", "11.1.0")
    answer = ask(tmp_path, f"-DTENSORRT_ROOT={tmp_path}/absent", usual=f"{tmp_path}/usual", cuda=cuda)
    assert answer.status != 0
    assert f"TENSORRT_ROOT: {tmp_path}/absent has no NvInfer.h" in answer.output


@pytest.mark.parametrize("how", ["variable", "environment"])
def test_a_relative_folder_is_an_error(tmp_path: Path, cuda: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    sdk(tmp_path / "sdk", "11.1.0")
    monkeypatch.chdir(tmp_path)
    definitions, root = (["-DTENSORRT_ROOT=sdk"], "") if how == "variable" else ([], "sdk")
    answer = ask(tmp_path, *definitions, cuda=cuda, root=root)
    assert answer.status != 0
    assert "TENSORRT_ROOT: sdk is a relative path; name the whole one" in answer.output


def test_a_named_folder_of_an_unknown_version_is_an_error(tmp_path: Path, cuda: Path) -> None:
    other = sdk(tmp_path / "tensorrt", "12.0.1")
    answer = ask(tmp_path, f"-DTENSORRT_ROOT={other}", cuda=cuda)
    assert answer.status != 0
    assert "is of version 12.0.1; expected 10 or 11" in answer.output


def test_without_the_headers_of_cuda_there_is_no_plugin(tmp_path: Path) -> None:
    answer = ask(tmp_path, f"-DTENSORRT_ROOT={sdk(tmp_path / 'sdk', '11.1.0')}")
    assert answer.status == 0
    assert answer.found["majors"] == ""
    assert answer.found["state"].startswith("not built, it needs cuda_runtime_api.h; install the CUDA toolkit")
