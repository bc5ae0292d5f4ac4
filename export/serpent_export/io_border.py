"""``--io``: conversions between the file's border and the network's f32 (B, 3, H, W), as nodes of the graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serpent.runtime.border import BORDERS
from serpent.runtime.onnx_twins import replace_nodes

_INSIDE = {"image": "image_f32", "restored": "restored_f32"}
_TO_LAST, _TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def with_border(model: onnx.ModelProto, io: str) -> onnx.ModelProto:
    """A copy of ``model`` whose ``image`` and ``restored`` have the type and layout of ``io``.

    f16-nchw casts. u8-nhwc scales by 1/255, and back with clamping to [0, 1] and rounding half to even. The
    casts are the first and the last node: TensorRT takes 8-bit tensors nowhere else.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    if io == "f32-nchw":
        return changed
    graph = changed.graph
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [_INSIDE.get(name, name) for name in names]
    for info in (graph.input[0], graph.output[0]):
        inside = graph.value_info.add()
        inside.CopyFrom(info)
        inside.name = _INSIDE[info.name]
        _retype(info, io)
    before, after = _eight_bit(graph) if io == "u8-nhwc" else _half()
    replace_nodes(graph, [*before, *graph.node, *after])
    onnx.checker.check_model(changed)
    return changed


def _half() -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    before = [helper.make_node("Cast", ["image"], ["image_f32"], "border_in_cast", to=TensorProto.FLOAT)]
    after = [helper.make_node("Cast", ["restored_f32"], ["restored"], "border_out_cast", to=TensorProto.FLOAT16)]
    return before, after


def _eight_bit(graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    constants = {"border_255": 255.0, "border_zero": 0.0, "border_one": 1.0}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()
    )
    before = [
        helper.make_node("Cast", ["image"], ["border_levels"], "border_in_cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["border_levels"], ["border_planes"], "border_in_order", perm=_TO_FIRST),
        helper.make_node("Div", ["border_planes", "border_255"], ["image_f32"], "border_in_scale"),
    ]
    after = [
        helper.make_node("Clip", ["restored_f32", "border_zero", "border_one"], ["border_clamped"], "border_out_clamp"),
        helper.make_node("Mul", ["border_clamped", "border_255"], ["border_scaled"], "border_out_scale"),
        helper.make_node("Round", ["border_scaled"], ["border_rounded"], "border_out_round"),
        helper.make_node("Transpose", ["border_rounded"], ["border_last"], "border_out_order", perm=_TO_LAST),
        helper.make_node("Cast", ["border_last"], ["restored"], "border_out_cast", to=TensorProto.UINT8),
    ]
    dims = [list(info.type.tensor_type.shape.dim) for info in (graph.input[0], graph.output[0])]
    inner_in, inner_out = ([axes[axis] for axis in _TO_FIRST] for axes in dims)
    for name, shape in (
        ("border_levels", dims[0]),
        ("border_planes", inner_in),
        *((name, inner_out) for name in ("border_clamped", "border_scaled", "border_rounded")),
        ("border_last", dims[1]),
    ):
        info = graph.value_info.add()
        info.name = name
        info.type.tensor_type.elem_type = TensorProto.FLOAT
        info.type.tensor_type.shape.dim.extend(shape)
    return before, after


def _retype(info: onnx.ValueInfoProto, io: str) -> None:
    kind = info.type.tensor_type
    kind.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(BORDERS[io].dtype))
    if BORDERS[io].channels_last:
        dims = list(kind.shape.dim)
        del kind.shape.dim[:]
        kind.shape.dim.extend(dims[axis] for axis in _TO_LAST)
