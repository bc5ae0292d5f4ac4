"""A bf16 graph's mechanical twin for runtimes without bf16 kernels: f32 arithmetic, rounded at every tensor."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serpent.errors import ModelFileError

_BF16 = TensorProto.BFLOAT16
_F32 = TensorProto.FLOAT


def bf16_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace every bf16 tensor by an f32 tensor that holds bf16 values.

    Constants keep their values. Each node result that was bf16 is cast to bf16 and back, so it is rounded
    where the original rounds. Nothing else changes: same nodes, same order, same function.

    Raises:
        ModelFileError: the type of a node's result is not recorded in the graph.
    """
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    graph = twin.graph
    infos = {info.name: info for info in [*graph.input, *graph.output, *graph.value_info]}
    types = {name: info.type.tensor_type.elem_type for name, info in infos.items()}
    for index, tensor in enumerate(graph.initializer):
        if tensor.data_type == _BF16:
            exact = numpy_helper.to_array(tensor).astype(np.float32)
            graph.initializer[index].CopyFrom(numpy_helper.from_array(exact, tensor.name))
    for info in infos.values():
        if info.type.tensor_type.elem_type == _BF16:
            info.type.tensor_type.elem_type = _F32

    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for attribute in copy.attribute:
            if attribute.name == "to" and attribute.i == _BF16:
                attribute.i = _F32
        nodes.append(copy)
        for position, name in enumerate(node.output):
            if name not in types:
                raise ModelFileError(f"the graph does not record the type of {name} ({node.op_type})")
            if types[name] == _BF16:
                copy.output[position] = f"{name}.exact"
                graph.value_info.append(_named(f"{name}.exact", infos[name]))
                nodes.append(helper.make_node("Cast", [f"{name}.exact"], [f"{name}.bf16"], to=_BF16))
                nodes.append(helper.make_node("Cast", [f"{name}.bf16"], [name], to=_F32))
    del graph.node[:]
    graph.node.extend(nodes)
    return twin


def _named(name: str, like: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    info = onnx.ValueInfoProto()
    info.CopyFrom(like)
    info.name = name
    return info
