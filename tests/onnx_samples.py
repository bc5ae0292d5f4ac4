"""Small ONNX files with scan nodes, for tests of the engine: a convolution, N scans, a convolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, RANK, DIRECTIONS = 16, 1, 4
TYPES = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
SCAN_ATTRIBUTES = {"plugin_namespace": "serpent", "plugin_version": "1"}


def scan_network(
    path: Path,
    *,
    precision: str = "fp32",
    scans: int = 14,
    sizes: tuple[int | str, int | str, int | str] = (1, 64, 64),
    operator: str = "SelectiveScan2D",
    attributes: dict[str, Any] = SCAN_ATTRIBUTES,
    scan_precision: str = "fp32",
    inputs: int = 6,
    state: int = 2,
) -> Path:
    """Write a network image -> restored, (B, 3, H, W) f32 at the border, ``precision`` inside.

    Args:
        path: the file to write.
        precision: "fp32", "fp16" or "bf16", storage type of features and of x_dbl.
        scans: how many scan nodes.
        sizes: B, H, W; a text is a free dimension.
        operator: op type of the scan nodes.
        attributes: of the scan nodes.
        scan_precision: type of the scan's weights (the contract says fp32).
        inputs: how many of the six inputs the scan nodes get.
        state: N.
    """
    inside, weights = TYPES[precision], TYPES[scan_precision]
    generator = np.random.default_rng(0)
    initializers = []

    def constant(name: str, shape: tuple[int, ...], kind: int, scale: float = 0.1) -> str:
        values = generator.normal(0.0, scale, shape).astype(np.float32)
        initializers.append(_tensor(name, -np.abs(values) if name.startswith("A_") else values, kind))
        return name

    nodes = [
        helper.make_node("Cast", ["image"], ["image_t"], to=inside),
        helper.make_node("Conv", ["image_t", constant("w_in", (CHANNELS, 3, 3, 3), inside)], ["f"], pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["f"], ["x_0"], perm=[0, 2, 3, 1]),
    ]
    for i in range(scans):
        project = constant(f"x_proj_{i}", (CHANNELS, DIRECTIONS * (RANK + 2 * state)), inside)
        nodes.append(helper.make_node("MatMul", [f"x_{i}", project], [f"x_dbl_{i}"]))
        arguments = [
            f"x_{i}",
            f"x_dbl_{i}",
            constant(f"dt_weight_{i}", (DIRECTIONS, CHANNELS, RANK), weights),
            constant(f"dt_bias_{i}", (DIRECTIONS, CHANNELS), weights),
            constant(f"A_{i}", (DIRECTIONS, CHANNELS, state), weights),
            constant(f"D_skip_{i}", (DIRECTIONS, CHANNELS), weights),
        ]
        nodes.append(
            helper.make_node(operator, arguments[:inputs], [f"x_{i + 1}"], f"scan_{i}", domain="serpent", **attributes)
        )
    nodes += [
        helper.make_node("Transpose", [f"x_{scans}"], ["g"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["g", constant("w_out", (3, CHANNELS, 3, 3), inside)], ["r"], pads=[1, 1, 1, 1]),
        helper.make_node("Cast", ["r"], ["restored"], to=TensorProto.FLOAT),
    ]
    shape = [sizes[0], 3, sizes[1], sizes[2]]
    graph = helper.make_graph(
        nodes,
        "sample",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("restored", TensorProto.FLOAT, shape)],
        initializers,
    )
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid("serpent", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def _tensor(name: str, values: np.ndarray[Any, np.dtype[np.float32]], kind: int) -> TensorProto:
    if kind == TensorProto.BFLOAT16:
        return helper.make_tensor(name, kind, values.shape, values.flatten().tolist())
    return numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(kind)), name)
