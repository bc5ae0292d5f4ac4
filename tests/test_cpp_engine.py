"""The C++ runtime: its own test programs, what it exports, and the same bytes as the Python runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cmake_build import run
from cpp_engine import INVALID_ARGUMENT, PROFILE, Build, Engine, EngineError, network, shared_build, write_plan
from serpent.runtime.border import from_border, to_border
from serpent.runtime.tiling import restore_any_size
from serpent.shapes import ShapeProfile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the C++ runtime is built for Linux")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return shared_build(tmp_path_factory)


@pytest.fixture
def engine(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("SERPENT_ENGINE_ADAPTER", str(build.stand_in))
    return Engine(build.library, write_plan(tmp_path))


@pytest.mark.parametrize("program", ["test_engine_parts", "test_engine_engine", "test_engine_refusals"])
def test_program(build: Build, program: str) -> None:
    build.target(program)
    (path,) = build.folder.rglob(program)
    result = subprocess.run([path, build.stand_in], capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stdout) == (0, "all checks passed\n"), result.stderr


@pytest.mark.parametrize("program", ["test_engine_engine_cuda", "test_engine_refusals_cuda"])
def test_program_over_a_cuda_driver_that_needs_no_gpu(build: Build, program: str) -> None:
    if not build.has_target(program):
        pytest.skip("no headers of CUDA on this machine; pip install '.[cuda-build]' brings them")
    for target in (program, "serpent_fake_cuda"):
        build.target(target)
    (path,) = build.folder.rglob(program)
    environment = os.environ | {"LD_LIBRARY_PATH": str(build.folder / "fake_cuda")}
    stand_in = build.folder / "plugins" / "libserpent_engine_standin_cuda.so"
    result = subprocess.run([path, stand_in], capture_output=True, text=True, timeout=300, env=environment)
    assert (result.returncode, result.stdout) == (0, "all checks passed\n"), result.stderr


def test_the_library_exports_its_interface_alone_and_needs_no_cuda(build: Build) -> None:
    symbols = {line.split()[-1] for line in run("nm", "-D", "--defined-only", build.library).splitlines()}
    assert symbols == {
        f"serpent_engine_{name}" for name in ("abi_version", "default_options", "open", "close", "describe", "run")
    }
    needed = run("readelf", "-d", build.library)
    assert not {name for name in ("nvinfer", "tensorrt", "cuda") if name in needed.lower()}


SIZES = pytest.mark.parametrize(
    ("batch", "height", "width"),
    [
        pytest.param(1, 16, 16, id="unpadded"),
        pytest.param(1, 17, 16, id="one row over a multiple"),
        pytest.param(1, 16, 31, id="one column under a multiple"),
        pytest.param(1, 5, 3, id="below the least, reflection runs out"),
        pytest.param(1, 1, 1, id="one pixel"),
        pytest.param(1, 64, 48, id="largest"),
        pytest.param(2, 33, 45, id="two pictures"),
    ],
)


@SIZES
def test_the_same_bytes_as_the_python_runtime(engine: Engine, batch: int, height: int, width: int) -> None:
    pictures = np.random.default_rng(height * width).random((batch, height, width, 3), dtype=np.float32)
    wanted = restore_any_size(network, pictures, ShapeProfile.from_dict(PROFILE))
    found = engine.run(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
    assert found.tobytes() == np.ascontiguousarray(wanted.transpose(0, 3, 1, 2)).tobytes()
    engine.close()


@SIZES
@pytest.mark.parametrize("io", ["f16-nchw", "u8-nhwc"])
def test_other_types_and_layouts_are_padded_and_cropped_as_they_are(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, io: str, batch: int, height: int, width: int
) -> None:
    monkeypatch.setenv("SERPENT_ENGINE_ADAPTER", str(build.stand_in))
    engine = Engine(build.library, write_plan(tmp_path, io=io))
    random = np.random.default_rng(height * width)
    image = to_border(random.random((batch, 3, height, width), dtype=np.float32), io)
    profile = ShapeProfile.from_dict(PROFILE)

    def in_its_types(padded: NDArray[np.float32]) -> NDArray[np.float32]:
        return from_border(to_border(network(padded), io), io)

    pictures = np.ascontiguousarray(from_border(image, io).transpose(0, 2, 3, 1))
    wanted = restore_any_size(in_its_types, pictures, profile).transpose(0, 3, 1, 2)
    found = engine.run(image)
    assert found.tobytes() == to_border(wanted, io).tobytes()
    engine.close()


def test_what_the_plan_does_not_take_is_told_what_it_takes(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERPENT_ENGINE_ADAPTER", str(build.stand_in))
    engine = Engine(build.library, write_plan(tmp_path, io="u8-nhwc"))
    with pytest.raises(EngineError) as refusal:
        engine.run(np.zeros((1, 3, 16, 16), np.float32))
    assert refusal.value.message == (
        f"image.io is 0 (f32-nchw); expected 2 (u8-nhwc), which {tmp_path}/net.plan was exported for (--io)"
    )
    engine.close()


def test_a_picture_outside_the_profile_is_told_the_profile(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as refusal:
        engine.run(np.zeros((1, 3, 65, 16), np.float32))
    assert refusal.value.status == INVALID_ARGUMENT
    assert refusal.value.message == (
        f"image has shape (1, 3, 65, 16), outside the profile of {tmp_path}/net.plan: batch 1:1:2, height 16:32:64, "
        "width 16:32:48 (min:opt:max); cut larger pictures into tiles, or export with a larger --res"
    )
    engine.close()
