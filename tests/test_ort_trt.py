"""The variant of a file for ONNX Runtime's TensorRT provider."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest

from serpent.errors import ModelFileError
from serpent.runtime.onnx_file import read_onnx, serialize
from serpent.runtime.onnx_split import is_scan
from serpent_export.canonical import add_metadata
from serpent_export.ort_trt import for_ort_trt
from traced import graph


def test_only_domain_function_and_format_differ() -> None:
    model = graph()
    add_metadata(model, {"task": "deblur"})
    before = serialize(model)
    changed = for_ort_trt(model)
    assert serialize(model) == before
    scans = [node for node in changed.graph.node if node.domain == "trt.plugins"]
    assert len(scans) == sum(is_scan(node) for node in model.graph.node) == 14
    for node in scans:
        assert node.op_type == "SelectiveScan2D"
        fields = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert fields == {"plugin_namespace": b"serpent", "plugin_version": b"1"}
    assert list(changed.functions) == []
    assert {entry.domain for entry in changed.opset_import} == {"", "trt.plugins"}
    onnx.checker.check_model(changed)
    for node in scans:
        node.domain = "serpent"
    changed.functions.extend(model.functions)
    del changed.opset_import[:]
    changed.opset_import.extend(model.opset_import)
    assert serialize(for_format_of(changed, model)) == before


def for_format_of(changed: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    assert next(entry for entry in changed.metadata_props if entry.key == "serpent.format").value == "serpent-ort-trt-1"
    del changed.metadata_props[:]
    changed.metadata_props.extend(model.metadata_props)
    return changed


def test_our_sessions_and_onnx_runtime_without_the_provider_refuse_it(tmp_path: Path) -> None:
    model = graph()
    add_metadata(model, {"task": "deblur"})
    path = tmp_path / "network.ort-trt.onnx"
    path.write_bytes(serialize(for_ort_trt(model)))
    with pytest.raises(ModelFileError, match="is the variant for ONNX Runtime's TensorRT provider"):
        read_onnx(path)
    with pytest.raises(Exception, match=r"trt\.plugins:SelectiveScan2D\(-1\) is not a registered function/op"):
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
