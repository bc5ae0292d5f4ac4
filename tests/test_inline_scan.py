"""``--inline-scan``: the same network in standard operators alone."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from serpent.errors import UsageError
from serpent.native import default_threads
from serpent.runtime import open_session
from serpent.runtime.onnx_file import serialize
from serpent.runtime.onnx_session import RunTimes, make_runner
from serpent.runtime.sample_picture import picture_recipe
from serpent_export.canonical import add_metadata
from serpent_export.inline_scan import inline_scans
from traced import graph, network, profile


@functools.cache
def _inlined(resolution: str, precision: str, batch: str) -> bytes:
    data: bytes = inline_scans(graph("B", resolution, precision, batch)).SerializeToString()
    return data


def inlined(resolution: str = "64", precision: str = "fp32", batch: str = "1") -> onnx.ModelProto:
    return onnx.load_model_from_string(_inlined(resolution, precision, batch))


def bodies(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield attribute.g


def captured(body: onnx.GraphProto) -> set[str]:
    """Names that a body reads and neither makes nor takes."""
    own = {info.name for info in body.input} | {tensor.name for tensor in body.initializer}
    outside = set()
    for node in body.node:
        outside |= {name for name in node.input if name and name not in own}
        own |= set(node.output)
    return outside


def test_there_is_no_function_no_domain_of_ours_and_no_captured_tensor() -> None:
    model = inlined()
    assert not model.functions
    assert {entry.domain for entry in model.opset_import} == {""}
    assert {node.domain for node in model.graph.node} == {""}
    scans = list(bodies(model))
    assert len(scans) == 14
    assert [captured(body) for body in scans] == [set()] * 14
    onnx.checker.check_model(model)


def test_the_function_of_usual_files_does_capture() -> None:
    """Else the test above would show nothing."""
    usual = onnx.inliner.inline_local_functions(graph())
    assert all(captured(body) for body in bodies(usual))


@pytest.mark.parametrize(
    ("sizes", "precision", "shape"),
    [
        (("64", "1"), "fp32", (1, 64, 64)),
        (("64", "1"), "fp16", (1, 64, 64)),
        pytest.param(("32:64:128", "1:1:4"), "fp32", (2, 64, 32), marks=pytest.mark.slow),
    ],
    ids=["fp32", "fp16", "free sizes"],
)
def test_onnx_runtime_gives_the_same_values(
    sizes: tuple[str, str], precision: str, shape: tuple[int, int, int]
) -> None:
    batch, height, width = shape
    _, image = picture_recipe(height, width, batch=batch)
    models = graph("B", sizes[0], precision, sizes[1]), inlined(sizes[0], precision, sizes[1])
    usual, closed = (make_runner(m, "function", default_threads(), RunTimes())(image) for m in models)
    np.testing.assert_array_equal(usual, closed)


def test_a_session_that_cannot_take_its_scans_apart_says_so(tmp_path: Path) -> None:
    model = inlined()
    fields = {"config": network().config.to_dict(), "profile": profile().to_dict()}
    texts = {"task": "deblur", "precision": "fp32", "weights": "untrained", "scan": "inline"}
    add_metadata(model, texts | {key: json.dumps(value) for key, value in fields.items()})
    path = tmp_path / "inline.onnx"
    path.write_bytes(serialize(model))
    with open_session(path) as session:
        assert session.info.scan == "function"
    with pytest.raises(UsageError, match=r"has its scans as standard operators.*\n.*--scan function") as refusal:
        open_session(path, scan="native")
    assert str(path) in refusal.value.message


def test_openvino_takes_the_file() -> None:
    reason = "openvino is none of the development packages; pip install openvino"
    openvino = pytest.importorskip("openvino", reason=reason)
    core = openvino.Core()
    with pytest.raises(RuntimeError, match=r"serpent\.SelectiveScan2D"):
        core.read_model(graph().SerializeToString())  # it refuses functions: when it no longer does, say so in the docs
    compiled = core.compile_model(
        core.read_model(_inlined("64", "fp32", "1")), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    _, image = picture_recipe(64, 64)
    expected = make_runner(graph(), "native", default_threads(), RunTimes())(image)
    np.testing.assert_allclose(compiled(image)[0], expected, rtol=0, atol=1e-5)
