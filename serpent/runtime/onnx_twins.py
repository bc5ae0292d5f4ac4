"""Mechanical f32 twins of 16-bit graphs: one that rounds as the original does, one that does not round at all."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serpent.errors import ModelFileError

_BF16 = TensorProto.BFLOAT16
_F16 = TensorProto.FLOAT16
_F32 = TensorProto.FLOAT


def bf16_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace every bf16 tensor by an f32 tensor that holds bf16 values, for runtimes without bf16 kernels.

    Constants keep their values. Each node result that was bf16 is cast to bf16 and back, so it is rounded
    where the original rounds. Nothing else changes: same nodes, same order, same function.

    Raises:
        ModelFileError: the type of a node's result is not recorded in the graph.
    """
    types = {info.name: info.type.tensor_type.elem_type for info in _infos(model.graph)}
    twin = f32_twin(model)
    infos = {info.name: info for info in _infos(twin.graph)}
    nodes: list[onnx.NodeProto] = []
    for node in twin.graph.node:
        nodes.append(node)
        for position, name in enumerate(node.output):
            if name not in types:
                raise ModelFileError(f"the graph does not record the type of {name} ({node.op_type})")
            if types[name] == _BF16:
                node.output[position] = f"{name}.exact"
                exact = twin.graph.value_info.add()
                exact.CopyFrom(infos[name])
                exact.name = f"{name}.exact"
                nodes.append(helper.make_node("Cast", [f"{name}.exact"], [f"{name}.bf16"], to=_BF16))
                nodes.append(helper.make_node("Cast", [f"{name}.bf16"], [name], to=_F32))
    replace_nodes(twin.graph, nodes)
    return twin


def f32_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every f16 and bf16 tensor made f32; constants keep their 16-bit values.

    Without rounding between its nodes it must agree with the network of the rounded weights to f32 accuracy,
    so a fault that 16-bit rounding would hide shows.
    """
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    for index, tensor in enumerate(twin.graph.initializer):
        if tensor.data_type in (_F16, _BF16):
            exact = numpy_helper.to_array(tensor).astype(np.float32)
            twin.graph.initializer[index].CopyFrom(numpy_helper.from_array(exact, tensor.name))
    for info in _infos(twin.graph):
        if info.type.tensor_type.elem_type in (_F16, _BF16):
            info.type.tensor_type.elem_type = _F32
    for node in twin.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in (_F16, _BF16):
                attribute.i = _F32
    return twin


def replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Make ``nodes``, which may be the graph's own, the graph's only ones."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]  # from here on, messages that belonged to it are no more
    graph.node.extend(copies)


def _infos(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    return [*graph.input, *graph.output, *graph.value_info]
