"""The same graph at another image size, and the proof that nothing but shape constants differs."""

from __future__ import annotations

from collections.abc import Hashable

import onnx
from onnx import TensorProto

from serpent.errors import ParityError


def check_same_but_shapes(full: onnx.ModelProto, small: onnx.ModelProto) -> None:
    """Insist that two models are one graph with the same constants, traced at two image sizes.

    Names are ignored; every node must have the same operator, attributes and sources, every constant the
    same bytes. Only the target shapes of ``Reshape`` and the image sizes of input and output may differ.

    Raises:
        ParityError: names the first difference.
    """
    if len(full.graph.node) != len(small.graph.node):
        raise ParityError(f"the graphs differ: {len(full.graph.node)} nodes and {len(small.graph.node)}")
    sources = [_Sources(full), _Sources(small)]
    for index, nodes in enumerate(zip(full.graph.node, small.graph.node, strict=True)):
        signatures = [source.signature(node) for source, node in zip(sources, nodes, strict=True)]
        if signatures[0] != signatures[1]:
            what = f"{nodes[0].op_type} and {nodes[1].op_type}, node {index} ({nodes[0].name})"
            raise ParityError(f"the graphs differ in more than shape constants: {what}")
    if sources[0].outputs() != sources[1].outputs():
        raise ParityError("the graphs differ in more than shape constants: their outputs")
    for what in ("functions", "opset_import"):
        left, right = ([item.SerializeToString(deterministic=True) for item in getattr(m, what)] for m in (full, small))
        if left != right:
            raise ParityError(f"the graphs differ in more than shape constants: {what}")


class _Sources:
    """Where each tensor of a graph comes from, independent of names."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._origin: dict[str, Hashable] = {"": None}
        self._shapes: set[str] = set()
        for tensor in model.graph.initializer:
            self._origin[tensor.name] = (tensor.data_type, tuple(tensor.dims), tensor.raw_data)
            if not tensor.raw_data:
                self._origin[tensor.name] = tensor.SerializeToString(deterministic=True)
            if tensor.data_type == TensorProto.INT64:
                self._shapes.add(tensor.name)
        for position, info in enumerate(model.graph.input):
            self._origin[info.name] = ("input", position)
        for index, node in enumerate(model.graph.node):
            for position, name in enumerate(node.output):
                self._origin[name] = (index, position)

    def signature(self, node: onnx.NodeProto) -> Hashable:
        origins = [self._origin[name] for name in node.input]
        if node.op_type == "Reshape" and node.input[1] in self._shapes:
            origins[1] = "shape"
        attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
        return node.domain, node.op_type, len(node.output), tuple(origins), tuple(attributes)

    def outputs(self) -> list[Hashable]:
        return [self._origin[info.name] for info in self._graph.output]
