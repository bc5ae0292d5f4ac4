"""What the exported graph is made of."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from serpent.errors import ModelFileError
from serpent_export.canonical import check_structure, scan_nodes
from traced import graph, network

DYNAMIC = ("B", "64:96:256", "fp32", "1:1:4")
CASES = [
    pytest.param(("B", "64"), id="static"),
    pytest.param(DYNAMIC, id="dynamic", marks=pytest.mark.slow),
    pytest.param(("B", "64", "fp16"), id="fp16"),
    pytest.param(("B", "64", "bf16"), id="bf16"),
    pytest.param(("H", "512"), id="H-512", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("case", CASES)
def test_graph_holds_its_scans_and_nothing_that_loops(case: tuple[str, ...]) -> None:
    model = graph(*case)
    operators = Counter(node.op_type for node in model.graph.node)
    assert len(scan_nodes(model)) == 14
    assert not operators.keys() & {"Einsum", "Loop", "Scan", "If"}
    assert len(model.graph.node) < 500
    assert len(model.SerializeToString()) < 25_000_000
    onnx.checker.check_model(model, full_check=True)


def test_every_scan_names_its_plugin_and_the_function_stands_beside_it() -> None:
    model = graph()
    for node in scan_nodes(model):
        attributes = {attribute.name: attribute.s for attribute in node.attribute}
        assert attributes == {"plugin_namespace": b"serpent", "plugin_version": b"1"}
    [function] = model.functions
    assert (function.domain, function.name) == ("serpent", "SelectiveScan2D")
    assert set(function.attribute) == {"plugin_namespace", "plugin_version"}
    assert [node.op_type for node in function.node].count("Scan") == 1


def test_decay_rates_are_folded_constants() -> None:
    model = graph()
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in scan_nodes(model):
        decay = constants[node.input[4]]
        assert decay.dtype == np.float32
        assert (decay < 0).all()
    first = network().down[0][0].ssm
    expected = -np.exp(first.A_log.detach().numpy())
    np.testing.assert_allclose(constants[scan_nodes(model)[0].input[4]], expected, rtol=1e-6)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_scan_weights_stay_f32_in_16_bit_graphs(precision: str) -> None:
    model = graph("B", "64", precision)
    constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    types = {info.name: info.type.tensor_type.elem_type for info in model.graph.value_info}
    storage = onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.BFLOAT16
    for node in scan_nodes(model):
        assert [types[name] for name in node.input[:2]] == [storage, storage]
        assert {constants[name] for name in node.input[2:]} == {onnx.TensorProto.FLOAT}
    border = [*model.graph.input, *model.graph.output]
    assert {info.type.tensor_type.elem_type for info in border} == {onnx.TensorProto.FLOAT}


def test_no_trace_of_the_exporting_machine_is_left() -> None:
    model = graph()
    assert not model.graph.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    data = model.SerializeToString()
    for trace in (b"pkg.torch", b"/serpent/", b".py", b"File "):
        assert trace not in data


@pytest.mark.slow
def test_dynamic_dimensions_are_symbolic() -> None:
    model = graph(*DYNAMIC)
    [image] = model.graph.input
    batch, colours, height, width = image.type.tensor_type.shape.dim
    assert (batch.dim_param, colours.dim_value) == ("batch", 3)
    assert height.dim_param
    assert width.dim_param not in ("", height.dim_param)


def test_structure_check_refuses_other_graphs() -> None:
    missing = graph()
    missing.graph.node.remove(scan_nodes(missing)[0])
    with pytest.raises(ModelFileError, match="13 SelectiveScan2D nodes; expected 14"):
        check_structure(missing, num_scans=14)
    bare = graph()
    del bare.functions[:]
    with pytest.raises(ModelFileError, match="lacks the function"):
        check_structure(bare, num_scans=14)
    looping = graph()
    looping.graph.node.append(onnx.helper.make_node("Einsum", ["image"], ["other"], equation="abcd->abcd"))
    with pytest.raises(ModelFileError, match="Einsum outside"):
        check_structure(looping, num_scans=14)
