"""Plans over host memory: the borders, and the session around it all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serpent.config import SerpentConfig
from serpent.errors import ModelFileError, UsageError
from serpent.evaluation import Pairs, evaluate
from serpent.files import sha256_file
from serpent.pictures import Picture
from serpent.runtime import tensorrt_session
from serpent.runtime.memory_plan import MemoryPlan
from serpent.runtime.open import open_session
from serpent.runtime.restoration import restore_picture
from serpent.runtime.tensorrt_runner import PlanRunner
from serpent.runtime.tensorrt_session import LoadedPlan, TensorRTSession
from serpent.shapes import Range, ShapeProfile
from serpent_cli.evaluation import evaluate as evaluation
from standin_device import HostDevice
from standin_plan import StandInEngine, expected, picture
from tests.photographs import saved

FREE = HostDevice().memory_bytes
PROFILE = ShapeProfile(Range(1, 1, 1), Range(8, 16, 64), Range(8, 16, 64), 8)


@pytest.mark.parametrize(("io", "step"), [("f32-nchw", 0.0), ("f16-nchw", 2**-10), ("u8-nhwc", 1 / 255)])
def test_every_border_is_converted_to_and_from(io: str, step: float) -> None:
    device = HostDevice()
    engine = StandInEngine(device, PROFILE, io)
    plan = PlanRunner(
        engine, device, name="a.plan", profile=PROFILE, io=io, contexts=1, cuda_graphs=True, free_before=0
    )
    image = picture(0) * np.float32(0.5) + np.float32(0.25)
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
    monkeypatch.setattr(tensorrt_session, "open_plan", lambda *_, **__: LoadedPlan(engine, device, FREE))
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
    assert loaded.closed
    assert not any(loaded.device.alive.values())


def test_the_memory_of_a_plan_is_predicted_and_measured(plan_file: Path, loaded: StandInEngine) -> None:
    plans: list[MemoryPlan] = []
    with open_session(plan_file, contexts=1) as session:
        for height, width in ((120, 100), (128, 128), (64, 64)):  # of which the first two run as 128x128
            pixels = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
            restore_picture(session, Picture(pixels), on_plan=plans.append)
            assert session.memory().peak == plans[-1].predicted
        assert {plan.predicted for plan in plans} == {loaded.context_bytes + 2 * 3 * 128 * 128 * 4}
        assert plans[0].free == FREE - loaded.context_bytes


@pytest.mark.usefixtures("loaded")
def test_serpent_eval_measures_a_plan(plan_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = saved(tmp_path / "data", "a.png", "b.png", height=70, width=90)
    evaluation.main([str(plan_file), str(data), "--crop", "64", "--no-wiener", "--json"], standalone_mode=False)
    summary = json.loads(capsys.readouterr().out)

    def restore(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return expected(pixels.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0).clip(0, 1)

    assert (summary["backend"], summary["device"]) == ("tensorrt", "cuda:1")
    figures = evaluate(restore, Pairs(data, "deblur", 0, 64)).mean("model")
    assert summary["means"]["model"]["psnr"] == pytest.approx(figures.psnr, abs=1e-4)


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
