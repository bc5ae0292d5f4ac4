"""The ONNX function of standard operators against the f64 kernel, on stock ONNX Runtime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from serpent import native
from serpent.identity import INPUTS
from serpent_export.scan_function import scan_function

SHAPES = [
    pytest.param((1, 1, 1, 3, 2, 1), id="1x1"),
    pytest.param((1, 1, 7, 5, 1, 1), id="1x7"),
    pytest.param((1, 7, 1, 5, 3, 2), id="7x1"),
    pytest.param((3, 5, 9, 20, 6, 2), id="5x9-batch3"),
    pytest.param((1, 33, 17, 17, 11, 4), id="33x17"),
    pytest.param((1, 8, 8, 512, 43, 16), id="bottleneck-of-H"),
]


def arguments(shape: tuple[int, ...], seed: int = 0) -> list[NDArray[np.float32]]:
    batch, height, width, channels, states, rank = shape
    random = np.random.default_rng(seed)
    sizes = [
        (batch, height, width, channels),
        (batch, height, width, 4 * (rank + 2 * states)),
        (4, channels, rank),
        (4, channels),
        (4, channels, states),
        (4, channels),
    ]
    values = [random.standard_normal(size, dtype=np.float32) for size in sizes]
    values[2] *= 0.3
    values[3] -= 5  # dt around 0.007, Mamba's range
    values[4] = -np.exp(values[4])
    return values


def one_node_model(shape: tuple[int, ...], storage: int, opset: int = 20) -> onnx.ModelProto:
    sizes = [value.shape for value in arguments(shape)]
    kinds = [storage, storage] + [TensorProto.FLOAT] * 4
    inputs = [helper.make_tensor_value_info(*entry) for entry in zip(INPUTS, kinds, sizes, strict=True)]
    names = {"plugin_namespace": "serpent", "plugin_version": "1"}
    node = helper.make_node("SelectiveScan2D", list(INPUTS), ["y"], domain="serpent", **names)
    graph = helper.make_graph([node], "one", inputs, [helper.make_tensor_value_info("y", storage, sizes[0])])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("serpent", 1)]
    model = helper.make_model(graph, functions=[scan_function(opset)], opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, values: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, dict(zip(INPUTS, values, strict=True)))[0]
    return result


def in_f64(values: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    return native.selective_scan_2d(*(value.astype(np.float64) for value in values))


def relative_error(result: NDArray[np.float32], truth: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(result - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize("shape", SHAPES)
def test_function_is_f32_accurate(shape: tuple[int, ...]) -> None:
    values = arguments(shape)
    truth = in_f64(values)
    error = relative_error(run(one_node_model(shape, TensorProto.FLOAT), values), truth)
    assert error <= 2e-6  # the bound that the native f32 kernel has to meet


def test_softplus_keeps_small_steps_exact() -> None:
    """dt = log1p(exp(v)) at v = -9: 1 + exp(v) alone would lose 4 digits."""
    shape = (1, 1, 64, 16, 4, 1)
    values = arguments(shape)
    values[2][:] = 0
    values[3][:] = -9
    assert relative_error(run(one_node_model(shape, TensorProto.FLOAT), values), in_f64(values)) <= 2e-6


def test_f16_storage_is_computed_in_f32() -> None:
    shape = (1, 9, 5, 16, 6, 2)
    values = arguments(shape)
    halves = [value.astype(np.float16) if index < 2 else value for index, value in enumerate(values)]
    rounded = [value.astype(np.float32) for value in halves]
    result = run(one_node_model(shape, TensorProto.FLOAT16), halves)  # type: ignore[arg-type]
    truth = in_f64(rounded)
    assert result.dtype == np.float16
    # One rounding of the result, 2^-11 of its size, beside the f32 error.
    assert (np.abs(result - truth) <= 2.0**-11 * np.abs(truth) + 2e-6 * np.abs(truth).max()).all()


@pytest.mark.parametrize("opset", [20, 22])
def test_bf16_model_is_valid(opset: int) -> None:
    model = one_node_model((1, 3, 4, 8, 2, 1), TensorProto.BFLOAT16, opset)
    values = arguments((1, 3, 4, 8, 2, 1))
    stored = [value.astype(ml_dtypes.bfloat16) if index < 2 else value for index, value in enumerate(values)]
    feeds = {
        name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(value.view(np.uint16), TensorProto.BFLOAT16)
        if value.dtype == ml_dtypes.bfloat16
        else ort.OrtValue.ortvalue_from_numpy(value)
        for name, value in zip(INPUTS, stored, strict=True)
    }
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    [y] = session.run_with_ort_values(["y"], feeds)
    assert y.data_type() == "tensor(bfloat16)"
    assert y.shape() == [1, 3, 4, 8]
