"""Plans where a call fails, and the order of release: over host memory and, where there is a GPU, over CUDA."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("numpy", reason="plans need numpy, which is not installed")

from serpent.errors import EngineError
from serpent.runtime.tensorrt_runner import PlanRunner
from serpent.shapes import Range, ShapeProfile
from standin_plan import StandInEngine, agrees, picture
from watched_device import WatchedDevice

PROFILE = ShapeProfile(Range(1, 1, 1), Range(8, 16, 64), Range(8, 16, 64), 8)


@pytest.fixture
def watched(machine: Any) -> WatchedDevice:
    return WatchedDevice(machine)


@pytest.fixture
def engine(machine: Any) -> StandInEngine:
    return StandInEngine(machine, PROFILE)


def open_runner(watched: WatchedDevice, engine: StandInEngine, contexts: int = 2) -> PlanRunner:
    options: dict[str, Any] = {"profile": PROFILE, "io": "f32-nchw", "cuda_graphs": True, "free_before": 0}
    return PlanRunner(engine, watched, name="a.plan", contexts=contexts, **options)


def nothing_left(watched: WatchedDevice, engine: StandInEngine) -> bool:
    return engine.closed and not engine.contexts and not watched.alive()


OPENING = ["active", "free_bytes", "create_stream", "create_event", "create_context"]
RUNNING = [
    *("active", "allocate", "allocate_pinned", "copy_in", "set_shape", "enqueue", "record", "copy_out"),
    *("synchronize", "capture", "launch"),
]


@pytest.mark.parametrize("name", OPENING)
def test_an_error_while_opening_frees_everything(watched: WatchedDevice, engine: StandInEngine, name: str) -> None:
    watched.failing = engine.failing = name
    with pytest.raises(EngineError, match=rf"a\.plan cannot run: {name} failed: as the test asked"):
        open_runner(watched, engine)
    assert nothing_left(watched, engine)


@pytest.mark.parametrize("passing", [0, 1, 2])
@pytest.mark.parametrize("name", RUNNING)
def test_an_error_in_any_call_of_a_run_is_reported_and_the_next_run_works(
    watched: WatchedDevice, engine: StandInEngine, name: str, passing: int
) -> None:
    plan = open_runner(watched, engine)
    watched.failing, watched.passing = name, passing
    engine.failing = name if passing == 0 else ""
    failures: list[str] = []
    for seed in range(5):  # capture and launch come with repetition
        try:
            restored = plan.run(picture(seed))
        except EngineError as error:
            failures.append(str(error))
            watched.failing = engine.failing = ""
        else:
            assert agrees(restored, picture(seed))
    reached_later = name in ("allocate", "allocate_pinned") and passing == 2  # there are two of each in all
    spared = reached_later or (passing > 0 and name in ("set_shape", "enqueue", "capture"))
    assert failures == ([] if spared else [f"a.plan: {name} failed: as the test asked"])
    plan.close()
    assert nothing_left(watched, engine)


def test_release_is_in_the_opposite_order(watched: WatchedDevice, engine: StandInEngine) -> None:
    plan = open_runner(watched, engine, contexts=1)
    for _ in range(3):
        plan.run(picture(0))
    made = watched.alive()
    assert made == watched.log  # nothing was freed so far
    plan.close()
    freed = watched.log[len(made) :]
    assert [handle for _, handle in freed] == [handle for _, handle in reversed(made)]
    assert [name for name, _ in freed] == [
        *("destroy_graph", "free", "free", "free_pinned", "free_pinned"),
        *("destroy_event", "destroy_stream"),
    ]
    assert engine.saves == 2  # after the first run, and at the end


def test_a_larger_picture_replaces_the_buffers_and_a_smaller_one_uses_them(
    watched: WatchedDevice, engine: StandInEngine
) -> None:
    plan = open_runner(watched, engine, contexts=1)
    for seed, side in enumerate([16, 64, 8, 64, 16]):
        assert agrees(plan.run(picture(seed, side, side)), picture(seed, side, side))
    assert (watched.count("allocate"), watched.count("allocate_pinned")) == (4, 4)
    assert (watched.count("free"), watched.count("free_pinned")) == (2, 2)
    plan.close()
    assert nothing_left(watched, engine)
