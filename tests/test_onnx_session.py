"""Splitting at the scans changes nothing; files that are not ours are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from serpent import native
from serpent.errors import EngineError, ModelFileError, NativeLibraryError, SerpentError, UsageError
from serpent.runtime.onnx_file import serialize
from serpent.runtime.onnx_session import OnnxSession, RunTimes, make_runner
from serpent.runtime.onnx_split import ScanStep, Segment, split_at_scans
from serpent_export.canonical import add_metadata
from traced import graph, network, profile

FIELDS = {"task": "deblur", "precision": "fp32", "weights": "untrained"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "serpent-b-64-fp32.onnx"
    write(path, graph())
    return path


def write(path: Path, model: onnx.ModelProto, **changes: str) -> None:
    config, sizes = json.dumps(network().config.to_dict()), json.dumps(profile().to_dict())
    add_metadata(model, {"config": config, "profile": sizes, **FIELDS, **changes})
    path.write_bytes(serialize(model))


def image(height: int = 64, width: int = 64, batch: int = 1) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(0).random((batch, 3, height, width), dtype=np.float32)


def test_split_covers_every_node_once_and_drops_every_tensor() -> None:
    model = graph()
    plan = split_at_scans(model)
    scans = [step for step in plan.steps if isinstance(step, ScanStep)]
    segments = [step for step in plan.steps if isinstance(step, Segment)]
    assert (len(scans), len(segments)) == (14, 15)
    names = [node.name for step in segments for node in step.model.graph.node]
    assert len(names) == len(set(names)) == len(model.graph.node) - 14
    made = {name for step in plan.steps for name in step.outputs} | {"image"}
    dropped = [name for names in plan.dead_after for name in names]
    assert len(dropped) == len(set(dropped))
    assert set(dropped) == made - {"restored"}


SCAN_CASES = [
    pytest.param(("B", "64"), id="static"),
    pytest.param(("B", "64", "fp16"), id="fp16"),
    pytest.param(("B", "64:96:256", "fp32", "1:1:4"), id="dynamic", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("kind", SCAN_CASES)
def test_native_and_function_scans_agree_with_pytorch(kind: tuple[str, ...]) -> None:
    """Each route's error against f64 is at most twice that of PyTorch in the same precision, plus a roundoff."""
    from serpent_export.parity import ParitySubject, certify

    dynamic = len(kind) > 3
    subject = ParitySubject(graph(*kind), 3 if dynamic else 1, 96 if dynamic else 64, 64)
    precision = kind[2] if len(kind) > 2 else "fp32"
    for case in certify(network(), [subject], precision=precision, description="test").cases:
        assert set(case.measured) == {"function", "native"}


def test_times_add_up() -> None:
    times = RunTimes()
    make_runner(graph(), "native", 1, times)(image())
    assert times.segments > 0
    assert times.scans > 0
    assert times.segments + times.scans <= times.total


def test_session_restores_numpy_pictures(file: Path) -> None:
    picture = image()[0].transpose(1, 2, 0).copy()
    with OnnxSession(file, threads=1) as session:
        restored = session(picture)
        assert session.info.scan == "native"
        assert session.info.notes == ()
        assert session.info.weights == "untrained"
    with torch.inference_mode():
        expected = network()(torch.from_numpy(image()))[0].numpy().transpose(1, 2, 0).clip(0, 1)
    assert restored.shape == picture.shape
    assert np.abs(restored - expected).max() < 0.5 / 255
    with pytest.raises(SerpentError, match="closed\n  open it again"):
        session.run(image())


def test_missing_library_is_said_in_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERPENT_LIBRARY", "/nowhere/libserpent.so")
    native.library.cache_clear()
    try:
        session = OnnxSession(file)
        assert session.info.scan == "function"
        [note] = session.info.notes
        assert "/nowhere/libserpent.so" in note
        assert "\n" not in note
        with pytest.raises(NativeLibraryError, match=r"nowhere"):
            OnnxSession(file, scan="native")
    finally:
        monkeypatch.undo()
        native.library.cache_clear()


def test_unknown_scan_and_device_are_refused(file: Path) -> None:
    with pytest.raises(UsageError, match="scan 'fast'"):
        OnnxSession(file, scan="fast")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cuda:0"):
        OnnxSession(file, "cuda:0")


def test_foreign_and_changed_files_are_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing.onnx"
    with pytest.raises(ModelFileError, match="does not exist"):
        OnnxSession(missing)
    foreign = tmp_path / "foreign.onnx"
    foreign.write_bytes(serialize(graph()))
    with pytest.raises(ModelFileError, match="no Serpent metadata"):
        OnnxSession(foreign)
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"\x00\x01garbage" * 50)
    with pytest.raises(ModelFileError, match="garbage.onnx"):
        OnnxSession(garbage)
    changed = tmp_path / "changed.onnx"
    model = graph()
    add_metadata(model, FIELDS)
    model.graph.node[5].op_type = "Tanh"
    changed.write_bytes(serialize(model))
    with pytest.raises(ModelFileError, match="does not match the digest"):
        OnnxSession(changed)
    damaged = tmp_path / "damaged.onnx"
    write(damaged, graph(), profile="{}")
    with pytest.raises(ModelFileError, match="damaged Serpent metadata"):
        OnnxSession(damaged)


def test_bf16_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "bf16.onnx"
    write(path, graph("B", "64", "bf16"), precision="bf16")
    with pytest.raises(EngineError, match="no CPU kernels") as failure:
        OnnxSession(path)
    assert "--precision fp32" in str(failure.value)


def test_onnx_session_needs_no_torch(file: Path) -> None:
    script = (
        "import sys, numpy as np; from serpent.runtime import open_session;"
        f"s = open_session({str(file)!r}, threads=1); s(np.zeros((64, 64, 3), np.float32));"
        "assert 'torch' not in sys.modules, 'torch was imported'; assert s.info.scan == 'native'"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
