"""Plans over host memory: an error in every call, the order of release, the borders, and the session around it all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serpent.config import SerpentConfig
from serpent.errors import EngineError, ModelFileError, UsageError
from serpent.files import sha256_file
from serpent.runtime import tensorrt_session
from serpent.runtime.open import open_session
from serpent.runtime.tensorrt_runner import PlanRunner
from serpent.runtime.tensorrt_session import TensorRTSession
from serpent.shapes import Range, ShapeProfile
from standin_device import HostDevice
from standin_plan import StandInEngine, expected

PROFILE = ShapeProfile(Range(1, 1, 1), Range(8, 16, 64), Range(8, 16, 64), 8)


def open_runner(device: HostDevice, engine: StandInEngine, **changes: Any) -> PlanRunner:
    options: dict[str, Any] = {"profile": PROFILE, "io": "f32-nchw", "contexts": 2, "cuda_graphs": True} | changes
    return PlanRunner(engine, device, name="a.plan", **options)


def nothing_left(device: HostDevice, engine: StandInEngine) -> bool:
    return engine.closed and not engine.contexts and not any(device.alive.values())


def picture(seed: int = 0, side: int = 16) -> Any:
    return np.random.default_rng(seed).random((1, 3, side, side), dtype=np.float32)


OPENING = ["active", "free_bytes", "create_stream", "create_event", "create_context"]
RUNNING = [
    *("active", "allocate", "allocate_pinned", "copy_in", "set_shape", "enqueue", "record", "copy_out"),
    *("synchronize", "capture", "launch"),
]


@pytest.mark.parametrize("name", OPENING)
def test_an_error_while_opening_frees_everything(name: str) -> None:
    device = HostDevice()
    engine = StandInEngine(device, PROFILE)
    device.failing = engine.failing = name
    with pytest.raises(EngineError, match=rf"a\.plan cannot run: {name} failed: as the test asked"):
        open_runner(device, engine)
    device.failing = engine.failing = ""
    assert nothing_left(device, engine)


@pytest.mark.parametrize("passing", [0, 1, 2])
@pytest.mark.parametrize("name", RUNNING)
def test_an_error_in_any_call_of_a_run_is_reported_and_the_next_run_works(name: str, passing: int) -> None:
    device = HostDevice()
    engine = StandInEngine(device, PROFILE)
    plan = open_runner(device, engine)
    device.failing, device.passing = name, passing
    engine.failing = name if passing == 0 else ""
    failures: list[str] = []
    for seed in range(5):  # capture and launch come with repetition
        try:
            restored = plan.run(picture(seed))
        except EngineError as error:
            failures.append(str(error))
            device.failing = engine.failing = ""
        else:
            assert np.array_equal(restored, expected(picture(seed)))
    reached_later = name in ("allocate", "allocate_pinned") and passing == 2  # there are two of each in all
    spared = reached_later or (passing > 0 and name in ("set_shape", "enqueue", "capture"))
    assert failures == ([] if spared else [f"a.plan: {name} failed: as the test asked"])
    plan.close()
    assert nothing_left(device, engine)


def test_release_is_in_the_opposite_order() -> None:
    device = HostDevice()
    engine = StandInEngine(device, PROFILE)
    plan = open_runner(device, engine, contexts=1)
    for _ in range(3):
        plan.run(picture())
    made = [entry for entry in device.log if entry[0].startswith(("create", "allocate", "capture"))]
    plan.close()
    freed = device.log[len(made) :]
    assert [handle for _, handle in freed] == [handle for _, handle in reversed(made)]
    assert [name for name, _ in freed] == [
        *("destroy_graph", "free", "free", "free_pinned", "free_pinned"),
        *("destroy_event", "destroy_stream"),
    ]
    assert engine.saves == 2  # after the first run, and at the end


def test_a_larger_picture_replaces_the_buffers_and_a_smaller_one_uses_them() -> None:
    device = HostDevice()
    engine = StandInEngine(device, PROFILE)
    plan = open_runner(device, engine, contexts=1)
    for seed, side in enumerate([16, 64, 8, 64, 16]):
        assert np.array_equal(plan.run(picture(seed, side)), expected(picture(seed, side)))
    assert (device.count("allocate"), device.count("allocate_pinned")) == (4, 4)
    assert (device.count("free"), device.count("free_pinned")) == (2, 2)
    plan.close()
    assert nothing_left(device, engine)


@pytest.mark.parametrize(("io", "step"), [("f32-nchw", 0.0), ("f16-nchw", 2**-10), ("u8-nhwc", 1 / 255)])
def test_every_border_is_converted_to_and_from(io: str, step: float) -> None:
    device = HostDevice()
    engine = StandInEngine(device, PROFILE, io)
    plan = open_runner(device, engine, io=io)
    image = picture() * np.float32(0.5) + np.float32(0.25)
    exact = expected(image)
    restored = plan.run(image)
    assert restored.dtype == np.float32
    assert restored.flags.c_contiguous
    inside = (exact > 0) & (exact < 1)
    # In and out are rounded once each; the network, which is linear in x but for its step sizes, adds its gain.
    gain = 4 * max(1.0, float(np.abs(exact).max() / image.min()))
    assert float(np.abs(restored - exact)[inside].max()) <= gain * step
    plan.close()


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    config = SerpentConfig.from_variant("B")
    plan = tmp_path / "network.plan"
    plan.write_bytes(b"a plan")
    side = {"height": [64, 64, 128], "width": [64, 64, 128], "batch": [1, 1, 1], "multiple": 32}
    fields = {
        "format": "serpent-manifest",
        "format_version": 1,
        "config": config.to_dict(),
        "profile": side,
        "task": "deblur",
        "precision": "fp32",
        "weights": "untrained",
        "files": {plan.name: {"sha256": sha256_file(plan), "engine": {"flavour": "rtx"}}},
    }
    plan.with_suffix(".json").write_text(json.dumps(fields))
    return plan


@pytest.fixture
def loaded(plan_file: Path, monkeypatch: pytest.MonkeyPatch) -> StandInEngine:
    """The plan loads, onto a stand-in."""
    profile = ShapeProfile(Range(1, 1, 1), Range(64, 64, 128), Range(64, 64, 128), 32)
    device = HostDevice(index=1)
    engine = StandInEngine(device, profile)
    monkeypatch.setattr(tensorrt_session, "open_plan", lambda *_, **__: (engine, device))
    assert plan_file.is_file()
    return engine


def test_a_session_restores_pictures_of_any_size_and_streams_them_in_order(
    plan_file: Path, loaded: StandInEngine
) -> None:
    generator = np.random.default_rng(3)
    pictures = [generator.random(size, dtype=np.float32) for size in [(64, 64, 3), (50, 70, 3), (200, 90, 3)] * 3]
    with open_session(plan_file, contexts=3) as session:
        assert isinstance(session, TensorRTSession)
        assert (session.info.device, session.info.scan, session.info.io) == ("cuda:1", "plugin", "f32-nchw")
        one_by_one = [session(one) for one in pictures]
        streamed = list(session.stream(iter(pictures)))
        assert len(loaded.contexts) in (2, 3)
    assert [one.shape for one in streamed] == [one.shape for one in pictures]
    assert all(np.array_equal(one, other) for one, other in zip(one_by_one, streamed, strict=True))
    exact = expected(pictures[0].transpose(2, 0, 1)[None])[0].transpose(1, 2, 0).clip(0, 1)
    assert np.array_equal(streamed[0], exact)
    assert nothing_left(loaded.device, loaded)


@pytest.mark.usefixtures("loaded")
def test_options_of_a_plan_are_checked(plan_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="contexts is 0; expected at least 1"):
        open_session(plan_file, contexts=0)
    (tmp_path / "a.onnx").write_bytes(b"model")
    with pytest.raises(UsageError, match=r"contexts was given for .*a\.onnx; only \.plan files"):
        open_session(tmp_path / "a.onnx", contexts=2)


@pytest.mark.usefixtures("loaded")
def test_an_unknown_border_of_a_manifest_is_refused(plan_file: Path) -> None:
    manifest = plan_file.with_suffix(".json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"io": "u16-nchw"}))
    with pytest.raises(ModelFileError, match="border 'u16-nchw' is unknown"):
        TensorRTSession(plan_file)
