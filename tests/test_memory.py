"""Peak memory: predicted against measured, and tiles where a picture would not fit."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import serpent
from serpent.config import SerpentConfig
from serpent.errors import UsageError
from serpent.pictures import Picture
from serpent.runtime import restore_picture
from serpent.runtime.live_memory import run_bytes
from serpent.runtime.memory import Memory, free_memory
from serpent.runtime.memory_plan import MARGIN, MemoryPlan, plan_memory
from serpent.runtime.tiling import Tiling
from serpent.shapes import Range, parse_profile
from tests.fakes import FakeSession, profile

WORKER = Path(__file__).with_name("memory_process.py")
MOST_ERROR = 0.15
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")


def check(model: Path, sizes: str, *options: str) -> None:
    command = [sys.executable, str(WORKER), str(model), sizes, *options]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for predicted, measured in json.loads(run.stdout):
        assert abs(predicted - measured) <= MOST_ERROR * measured, (model.name, sizes, predicted, measured)


@pytest.fixture(scope="module")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def make(variant: str) -> Path:
        path = tmp_path_factory.mktemp("memory") / f"{variant}.safetensors"
        serpent.save_model(serpent.create_model(variant, seed=0), path)
        return path

    return make


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """ONNX files, each traced once."""
    from serpent.runtime.onnx_file import serialize
    from serpent_export.canonical import add_metadata, finish
    from serpent_export.tracing import trace

    @functools.cache
    def make(variant: str) -> Path:
        model = serpent.create_model(variant, seed=0)
        sides = parse_profile(model.config, "64:256:4096")
        graph = finish(trace(model, sides, "fp32"), name="memory")
        fields = {"config": json.dumps(model.config.to_dict()), "profile": json.dumps(sides.to_dict())}
        add_metadata(graph, {**fields, "task": "deblur", "precision": "fp32", "weights": "untrained"})
        path = tmp_path_factory.mktemp("memory") / f"{variant}.onnx"
        path.write_bytes(serialize(graph))
        return path

    return make


@needs_proc
def test_pytorch_takes_what_was_predicted(checkpoint_of: Callable[[str], Path]) -> None:
    check(checkpoint_of("B"), "700x531")


# Sizes: ragged, wide, of several pictures in one process (the second finds a used heap), and, with 1792x2304, tensors
# that are mapped rather than taken from the heap.
@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize(
    ("variant", "sizes", "options"),
    [
        ("B", "1792x2304", ()),
        ("B", "1x1,500x333,900x700,500x333", ()),
        ("B", "200x3001", ()),
        ("B", "640x600", ("precision=bf16",)),
        ("B", "640x600", ("precision=fp16",)),
        ("L", "411x630", ()),
        ("H", "250x311", ()),
    ],
)
def test_pytorch_takes_what_was_predicted_at_any_size(
    checkpoint_of: Callable[[str], Path], variant: str, sizes: str, options: tuple[str, ...]
) -> None:
    check(checkpoint_of(variant), sizes, *options)


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize(
    ("variant", "sizes", "options"),
    [
        ("B", "256x256", ()),
        ("B", "500x333,900x700", ()),
        ("B", "400x400,300x900,1500x1100", ()),
        ("B", "1024x1024", ()),
        ("B", "1792x2304", ()),
        ("L", "411x630", ()),
        ("H", "250x311", ()),
        ("B", "256x256,256x256,500x333,700x800", ("scan=function",)),
        ("L", "300x200,411x330", ("scan=function",)),
        ("H", "160x180", ("scan=function",)),
    ],
)
def test_onnx_runtime_takes_what_was_predicted(
    file_of: Callable[[str], Path], variant: str, sizes: str, options: tuple[str, ...]
) -> None:
    check(file_of(variant), sizes, *options)


def test_the_tensors_of_a_run_grow_with_the_pixels() -> None:
    config = SerpentConfig.from_variant("B")

    def tensors(side: int) -> int:
        return run_bytes(config, 1, side, side, itemsize=4, runtime="torch", heap=False)

    assert tensors(1024) == 4 * tensors(512)
    assert 10 * 256 * 256 * 32 * 4 < tensors(1024) < 12 * 256 * 256 * 32 * 4  # between 10 and 12 feature maps


class Measured(FakeSession):
    """Predicts 100 bytes a pixel, and has ``free`` bytes."""

    def __init__(self, free: int | None, sizes: Range | None = None) -> None:
        super().__init__()
        object.__setattr__(self.info, "profile", profile(sizes or Range(8, 8, None)))
        self.free = free

    def run_bytes(self, batch: int, height: int, width: int) -> int:
        return 100 * batch * height * width

    def memory(self) -> Memory:
        return Memory(1_000_000, 2_000_000, self.free)


def test_what_fits_goes_through_whole() -> None:
    plan = plan_memory(Measured(10**9), 800, 600, Tiling())
    assert plan == MemoryPlan(Tiling(), 1_000_000 + 112 * 800 * 600, 10**9, reached=2_000_000)


@pytest.mark.parametrize("free", [30_000_000, 16_000_000])
def test_what_does_not_fit_goes_through_in_the_largest_tiles_that_do(free: int) -> None:
    plan = plan_memory(Measured(free), 800, 600, Tiling())
    tile = plan.tiling.tile
    assert isinstance(tile, int)
    held = 12 * 800 * 600
    assert held + 112 * tile**2 <= MARGIN * free < held + 112 * (tile + 64) ** 2
    assert plan.note == f"tiles of {tile} pixels: the whole picture would take 54 MB, {free / 1e6:.0f} MB are free"


@pytest.mark.parametrize("tiling", [Tiling("off"), Tiling(512)])
def test_what_was_asked_for_is_done(tiling: Tiling) -> None:
    assert plan_memory(Measured(1_000_000), 800, 600, tiling).tiling == tiling


def test_all_views_of_a_self_ensemble_are_planned() -> None:
    wide = Measured(10**9)
    sides = Range(8, 400, 400), Range(8, 600, 600)
    object.__setattr__(wide.info, "profile", dataclasses.replace(wide.info.profile, height=sides[0], width=sides[1]))
    plan_memory(wide, 400, 600, Tiling("off"))
    with pytest.raises(UsageError, match="a side of 600 pixels exceeds what the model takes in one run"):
        plan_memory(wide, 400, 600, Tiling("off"), self_ensemble=True)
    # Turned, it goes through in tiles of 400 x 400 or so: the view as it lies takes more.
    plan = plan_memory(wide, 400, 600, Tiling(), self_ensemble=True)
    assert plan.predicted == 1_000_000 + (112 + 3 * 12) * 400 * 600


def test_tiles_stay_within_the_profile() -> None:
    plan = plan_memory(Measured(30_000_000, Range(256, 512, 768)), 2000, 2000, Tiling())
    assert plan.tiling == Tiling("auto")  # no tile of 256 to 768 leaves room for the picture itself
    plan = plan_memory(Measured(112_000_000, Range(256, 704, 768)), 2000, 2000, Tiling())
    assert plan.tiling.tile == 320


def test_nothing_is_predicted_where_nothing_is_known() -> None:
    plan = plan_memory(FakeSession(), 800, 600, Tiling())
    assert plan.predicted is None
    assert plan.tiling == Tiling()


def test_a_restored_picture_says_that_it_was_cut_and_why() -> None:
    pixels: NDArray[np.float32] = np.random.default_rng(0).random((300, 400, 3), dtype=np.float32)
    seen: list[MemoryPlan] = []
    session = Measured(10_000_000)
    restored = restore_picture(session, Picture(pixels), on_plan=seen.append)
    assert restored.notes == (seen[0].note,)
    assert {shape[-1] for shape in session.shapes} == {seen[0].tiling.tile}
    np.testing.assert_allclose(restored.pixels, 1 - pixels, atol=1e-6)


def test_free_memory_heeds_control_groups(tmp_path: Path) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:  8000 kB\n")
    assert free_memory(proc, cgroups) == 8000 * 1024
    (proc / "self/cgroup").write_text("0::/a/b\n")
    group = cgroups / "a"
    (group / "b").mkdir(parents=True)
    (group / "b/memory.max").write_text("max\n")
    (group / "b/memory.current").write_text("100000\n")
    (group / "memory.max").write_text("3000000\n")
    (group / "memory.current").write_text("1000000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 200000\n")
    assert free_memory(proc, cgroups) == 2_200_000
    (proc / "self/cgroup").write_text("4:cpu,memory:/job\n")
    (cgroups / "memory/job").mkdir(parents=True)
    (cgroups / "memory/job/memory.limit_in_bytes").write_text("700000\n")
    (cgroups / "memory/job/memory.usage_in_bytes").write_text("600000\n")
    assert free_memory(proc, cgroups) == 100_000
    assert free_memory(tmp_path / "none", cgroups) is None


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="the heap is asked through glibc's mallinfo2",
)
def test_freed_memory_of_the_heap_is_not_in_use_whether_returned_or_not() -> None:
    program = """
import ctypes
import dataclasses
from serpent.runtime.memory import process_memory
used = [process_memory().used]
blocks = [bytearray(100_000) for _ in range(1000)]  # small enough for the heap
used.append(process_memory().used)
del blocks[:-1]  # the last one keeps the heap from shrinking by itself
used.append(process_memory().used)
ctypes.CDLL(None).malloc_trim(0)
used.append(process_memory().used)
print([figure - used[0] for figure in used[1:]])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    taken, freed, returned = json.loads(run.stdout)
    assert 95e6 < taken < 110e6
    assert abs(freed) < 5e6
    assert abs(returned) < 5e6
