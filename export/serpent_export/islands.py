"""Islands of f32 inside an f16 graph: casts around what f16 cannot hold."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serpent.errors import ModelFileError
from serpent.runtime.onnx_twins import replace_nodes
from serpent_export.ranges import half_tensors

_F16, _F32 = TensorProto.FLOAT16, TensorProto.FLOAT


def keep_in_f32(model: onnx.ModelProto, tensors: Collection[str]) -> onnx.ModelProto:
    """A copy of an f16 graph in which the named tensors are f32.

    A node that reads or writes one of them computes in f32: its f16 inputs are cast before it, its other f16
    results after it, and its f16 weights are stored in f32 with the same values. Everything else stays as it is.

    Raises:
        ModelFileError: a name is no f16 result of the graph.
    """
    unknown = sorted(set(tensors) - set(half_tensors(model)))
    if unknown:
        raise ModelFileError(f"the graph has no f16 tensors {', '.join(unknown)}, which were to stay in f32")
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    return _Rewrite(changed, set(tensors)).run() if tensors else changed


class _Rewrite:
    def __init__(self, model: onnx.ModelProto, kept: set[str]) -> None:
        self._model, self._graph, self._kept = model, model.graph, kept
        self._infos = {info.name: info for info in [*model.graph.value_info, *model.graph.output]}
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._widened: set[str] = set()
        self._nodes: list[onnx.NodeProto] = []

    def run(self) -> onnx.ModelProto:
        for node in self._graph.node:
            touched = self._kept.intersection([*node.input, *node.output])
            if touched and node.op_type != "Cast":  # a cast takes and gives any type by itself
                self._widen(node)
            else:
                if touched.intersection(node.output):
                    next(attribute for attribute in node.attribute if attribute.name == "to").i = _F32
                self._nodes.append(node)
        for name in self._kept:
            self._infos[name].type.tensor_type.elem_type = _F32
        replace_nodes(self._graph, self._nodes)
        _drop_unread_weights(self._graph)
        onnx.checker.check_model(self._model)
        return self._model

    def _widen(self, node: onnx.NodeProto) -> None:
        node.input[:] = [self._wide_input(name) for name in node.input]
        casts = []
        for position, name in enumerate(node.output):
            if self._is_half(name) and name not in self._kept:
                node.output[position] = wide = f"{name}.f32_result"
                self._record(name, wide)
                casts.append(helper.make_node("Cast", [wide], [name], f"{node.name}_to_f16_{position}", to=_F16))
        self._nodes += [node, *casts]

    def _wide_input(self, name: str) -> str:
        if name in self._kept or not self._is_half(name):
            return name
        wide = f"{name}.f32"
        if wide not in self._widened:
            self._widened.add(wide)
            if name in self._weights:
                values = numpy_helper.to_array(self._weights[name]).astype(np.float32)
                self._graph.initializer.append(numpy_helper.from_array(values, wide))
            else:
                self._record(name, wide)
                self._nodes.append(helper.make_node("Cast", [name], [wide], f"{name}_to_f32", to=_F32))
        return wide

    def _is_half(self, name: str) -> bool:
        if name in self._weights:
            return bool(self._weights[name].data_type == _F16)
        return name in self._infos and self._infos[name].type.tensor_type.elem_type == _F16

    def _record(self, name: str, wide: str) -> None:
        info = self._graph.value_info.add()
        info.CopyFrom(self._infos[name])
        info.name = wide
        info.type.tensor_type.elem_type = _F32


def _drop_unread_weights(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del graph.initializer[:]
    graph.initializer.extend(copies)
