"""How many elements the tensors of a graph have at its largest size, before TensorRT 10 is asked to build it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from serpent.errors import EngineError, UsageError
from serpent.runtime.onnx_split import is_scan
from serpent.runtime.onnx_twins import replace_nodes
from serpent.runtime.tensorrt_library import TRT, Flavour, check_installed
from serpent.shapes import MAX_ELEMENTS, ShapeProfile

_LAST_LIMITED_MAJOR = 10


@dataclass(frozen=True)
class Volume:
    """A tensor and its number of elements."""

    name: str
    elements: int


def check_volumes(model: onnx.ModelProto, profile: ShapeProfile, flavour: Flavour) -> None:
    """Refuse sizes at which a tensor has more elements than TensorRT 10 can index; other versions have no limit.

    Raises:
        UsageError: such a tensor, with the largest resolution that fits.
    """
    if flavour is not TRT or int(check_installed(flavour).partition(".")[0]) > _LAST_LIMITED_MAJOR:
        return
    largest = largest_volume(model, profile)
    if largest.elements <= MAX_ELEMENTS:
        return
    assert profile.height.max is not None
    assert profile.width.max is not None
    # Elements grow with the number of pixels; the sides keep their ratio.
    shrink = math.sqrt(MAX_ELEMENTS / largest.elements)
    height, width = (
        max(profile.multiple, math.floor(side.max * shrink / profile.multiple) * profile.multiple)
        for side in (profile.height, profile.width)
        if side.max is not None
    )
    fitting = str(height) if height == width else f"{height}x{width}"
    raise UsageError(
        f"at {profile.height.max}x{profile.width.max} the tensor {largest.name} has {largest.elements} elements, more "
        f"than the {MAX_ELEMENTS} that TensorRT {_LAST_LIMITED_MAJOR} can index",
        hint=f"the largest size that fits is {fitting}; larger pictures go through in tiles, and TensorRT-RTX "
        "(--engine rtx) has no such limit",
    )


def largest_volume(model: onnx.ModelProto, profile: ShapeProfile) -> Volume:
    """The largest tensor of a graph at the profile's largest batch and size.

    Raises:
        EngineError: the shape of a node's result cannot be inferred.
    """
    fixed = _at_largest(model, profile)
    inferred = onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)
    shapes = {info.name: info.type.tensor_type.shape for info in [*inferred.graph.value_info, *inferred.graph.output]}
    volumes = []
    for node in inferred.graph.node:
        for name in node.output:
            dims = [dim.dim_value for dim in shapes[name].dim] if name in shapes else [0]
            if 0 in dims:
                raise EngineError(f"the shape of {name} ({node.op_type}) at the largest size is not known")
            volumes.append(Volume(name, math.prod(dims)))
    return max(volumes, key=lambda volume: volume.elements)


def _at_largest(model: onnx.ModelProto, profile: ShapeProfile) -> onnx.ModelProto:
    """The graph with its input at its largest, shape arithmetic computed, and weights and scans left out."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    graph = fixed.graph
    del fixed.functions[:]
    del graph.value_info[:]
    image = graph.input[0].type.tensor_type
    channels_last = image.shape.dim[3].dim_value == 3
    sides = [profile.height.max, profile.width.max]
    sizes = [profile.batch.max, *sides, 3] if channels_last else [profile.batch.max, 3, *sides]
    for dim, size in zip(image.shape.dim, sizes, strict=True):
        assert size is not None
        dim.dim_value = size
    for dim in graph.output[0].type.tensor_type.shape.dim:
        dim.Clear()
    constants = _shape_constants(model, tuple(dim.dim_value for dim in image.shape.dim))
    nodes = []
    for node in model.graph.node:
        if is_scan(node):  # its result has the shape of x
            nodes.append(helper.make_node("Identity", [node.input[0]], list(node.output)))
        elif not constants.keys() >= set(node.output):
            nodes.append(node)
    replace_nodes(graph, nodes)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return fixed


def _shape_constants(model: onnx.ModelProto, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Values of the integer arithmetic that computes shapes from the input's shape."""
    kinds = {info.name: info.type.tensor_type.elem_type for info in model.graph.value_info}
    nodes = [n for n in model.graph.node if all(kinds.get(name) == TensorProto.INT64 for name in n.output)]
    if not nodes:
        return {}
    names = [name for node in nodes for name in node.output]
    read = {name for node in nodes for name in node.input}
    # The picture as the network sees it: f32 (B, 3, H, W), under another name where the border converts.
    picture = "image_f32" if "image_f32" in read else "image"
    if shape[3] == 3:
        shape = (shape[0], shape[3], shape[1], shape[2])
    part = helper.make_graph(
        nodes,
        "shapes",
        [helper.make_tensor_value_info(picture, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in names],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    # A picture of this size would take gigabytes; one zero with strides of 0 has its shape.
    image = np.broadcast_to(np.zeros((), np.float32), shape)
    standard = [entry for entry in model.opset_import if entry.domain == ""]
    values = ReferenceEvaluator(helper.make_model(part, opset_imports=standard)).run(None, {picture: image})
    return dict(zip(names, map(np.asarray, values), strict=True))
