"""The same graph at another image size, and the proof that nothing but shape constants differs."""

from __future__ import annotations

from collections.abc import Hashable

import onnx
from onnx import TensorProto, numpy_helper

from serpent.errors import ParityError


def check_same_but_shapes(full: onnx.ModelProto, small: onnx.ModelProto) -> None:
    """Insist that two models are one graph with the same constants, traced at two image sizes.

    Names are ignored; every node must have the same operator, attributes and sources, every constant the
    same bytes. Only the image sizes of input and output may differ, and the target shapes of ``Reshape``, whose
    entries must be equal or scale with them.

    Raises:
        ParityError: names the first difference.
    """
    if len(full.graph.node) != len(small.graph.node):
        raise ParityError(f"the graphs differ: {len(full.graph.node)} nodes and {len(small.graph.node)}")
    sources = [_Sources(full), _Sources(small)]
    for index, nodes in enumerate(zip(full.graph.node, small.graph.node, strict=True)):
        signatures = [source.signature(node) for source, node in zip(sources, nodes, strict=True)]
        if signatures[0] != signatures[1] or not _scales(sources, nodes):
            what = f"{nodes[0].op_type} and {nodes[1].op_type}, node {index} ({nodes[0].name})"
            raise ParityError(f"the graphs differ in more than shape constants: {what}")
    if sources[0].outputs() != sources[1].outputs():
        raise ParityError("the graphs differ in more than shape constants: their outputs")
    for what in ("functions", "opset_import"):
        left, right = ([item.SerializeToString(deterministic=True) for item in getattr(m, what)] for m in (full, small))
        if left != right:
            raise ParityError(f"the graphs differ in more than shape constants: {what}")


def _scales(sources: list[_Sources], nodes: tuple[onnx.NodeProto, onnx.NodeProto]) -> bool:
    """Whether a target shape's entries are equal, or scale as the image's height, width or area does."""
    shapes = [source.target_shape(node) for source, node in zip(sources, nodes, strict=True)]
    if shapes[0] is None or shapes[1] is None:
        return shapes == [None, None]
    (height, width), (small_height, small_width) = (source.image_size() for source in sources)
    ratios = [(1, 1), (height, small_height), (width, small_width), (height * width, small_height * small_width)]
    return len(shapes[0]) == len(shapes[1]) and all(
        any(full * below == small * above for above, below in ratios)
        for full, small in zip(shapes[0], shapes[1], strict=True)
    )


class _Sources:
    """Where each tensor of a graph comes from, independent of names."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._origin: dict[str, Hashable] = {"": None}
        self._shapes: dict[str, list[int]] = {}
        for tensor in model.graph.initializer:
            self._origin[tensor.name] = (tensor.data_type, tuple(tensor.dims), tensor.raw_data)
            if not tensor.raw_data:
                self._origin[tensor.name] = tensor.SerializeToString(deterministic=True)
            if tensor.data_type == TensorProto.INT64:
                self._shapes[tensor.name] = numpy_helper.to_array(tensor).ravel().tolist()
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

    def target_shape(self, node: onnx.NodeProto) -> list[int] | None:
        """The constant target of a ``Reshape``."""
        return self._shapes.get(node.input[1]) if node.op_type == "Reshape" else None

    def image_size(self) -> tuple[int, int]:
        """Height and width of the graph's input, pixels."""
        dims = self._graph.input[0].type.tensor_type.shape.dim
        return dims[2].dim_value, dims[3].dim_value

    def outputs(self) -> list[Hashable]:
        return [self._origin[info.name] for info in self._graph.output]
