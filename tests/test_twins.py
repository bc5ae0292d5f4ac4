"""The bf16 twin rounds where the bf16 graph rounds, and nowhere else; the f32 twin does not round."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from serpent.errors import ModelFileError
from serpent.runtime.onnx_twins import bf16_twin, f32_twin
from traced import graph

BF16 = TensorProto.BFLOAT16


def as_bf16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def small_graph() -> onnx.ModelProto:
    """restored = f32(bf16(image) * weight + weight), all of it in bf16."""
    weight = numpy_helper.from_array(np.array([0.1, -3.3, 7.7], ml_dtypes.bfloat16), "weight")
    nodes = [
        helper.make_node("Cast", ["image"], ["low"], to=BF16),
        helper.make_node("Mul", ["low", "weight"], ["product"]),
        helper.make_node("Add", ["product", "weight"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["restored"], to=TensorProto.FLOAT),
    ]
    border = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [5, 3]) for name in ("image", "restored")]
    inner = [helper.make_tensor_value_info(name, BF16, [5, 3]) for name in ("low", "product", "sum")]
    body = helper.make_graph(nodes, "small", border[:1], border[1:], [weight], value_info=inner)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def run(model: onnx.ModelProto, image: NDArray[np.float32]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"image": image})[0]
    return result


def test_twin_equals_bf16_arithmetic_bit_for_bit() -> None:
    image = np.random.default_rng(0).standard_normal((5, 3), dtype=np.float32) * 10
    weight = torch.tensor([0.1, -3.3, 7.7], dtype=torch.bfloat16)
    low = torch.from_numpy(image).bfloat16()
    expected = ((low * weight) + weight).float().numpy()
    result = run(bf16_twin(small_graph()), image)
    np.testing.assert_array_equal(result, expected)
    # Without the rounding in between the result would differ: the twin is not just f32.
    unrounded = as_bf16(as_bf16(image) * as_bf16(weight.float().numpy()) + as_bf16(weight.float().numpy()))
    assert (result != unrounded).any()


def test_twin_of_the_network_holds_no_bf16_but_in_its_casts() -> None:
    twin = bf16_twin(graph("B", "64", "bf16"))
    assert not [tensor.name for tensor in twin.graph.initializer if tensor.data_type == BF16]
    casts = [n for n in twin.graph.node if any(a.name == "to" and a.i == BF16 for a in n.attribute)]
    rounded = [n for n in twin.graph.node if any(name.endswith(".exact") for name in n.output)]
    assert len(casts) >= len(rounded) > 300
    onnx.checker.check_model(twin)


def test_unrecorded_type_is_an_error() -> None:
    model = small_graph()
    del model.graph.value_info[:]
    with pytest.raises(ModelFileError, match="does not record the type of low"):
        bf16_twin(model)


def test_f32_twin_rounds_nothing_but_its_constants() -> None:
    image = np.random.default_rng(0).standard_normal((5, 3), dtype=np.float32) * 10
    weight = as_bf16(np.array([0.1, -3.3, 7.7], np.float32))
    np.testing.assert_array_equal(run(f32_twin(small_graph()), image), image * weight + weight)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_f32_twin_of_the_network_holds_no_16_bit_tensor(precision: str) -> None:
    twin = f32_twin(graph("B", "64", precision))
    kinds = {tensor.data_type for tensor in twin.graph.initializer}
    kinds |= {info.type.tensor_type.elem_type for info in twin.graph.value_info}
    assert not kinds & {TensorProto.FLOAT16, BF16}
    onnx.checker.check_model(twin)
