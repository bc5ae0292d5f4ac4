"""Cutting an exported graph at its scan nodes into segments of standard operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from serpent.errors import ModelFileError
from serpent.identity import NAME, NAMESPACE
from serpent.native import ScanShape

_DTYPES = {"tensor(float)": "f32", "tensor(float16)": "f16"}


@dataclass(frozen=True)
class Segment:
    """A sub-model without scans; runs when ``inputs`` are there, gives ``outputs``."""

    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class ScanStep:
    """One scan: two tensors in, four weights (f32, as ``serpent/scan.h`` lays them out), one tensor out."""

    inputs: tuple[str, str]
    weights: tuple[NDArray[np.float32], ...]
    output: str

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.output,)

    def shape(self, x: Any) -> ScanShape:
        """The sizes of this scan of ``x``, an ``OrtValue`` (B, H, W, D) f32 or f16."""
        dt_weight, _, A, _ = self.weights
        batch, height, width, channels = x.shape()
        return ScanShape(batch, height, width, channels, A.shape[2], dt_weight.shape[2], _DTYPES[x.data_type()])


@dataclass(frozen=True)
class Plan:
    """Steps in execution order, and for each step the tensors that no later step reads."""

    steps: tuple[Segment | ScanStep, ...]
    dead_after: tuple[tuple[str, ...], ...]


@dataclass
class _Level:
    """Everything that can run once the scans of the levels above are done."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    scans: list[onnx.NodeProto] = field(default_factory=list)


def is_scan(node: onnx.NodeProto) -> bool:
    """Whether ``node`` is a ``serpent::SelectiveScan2D``."""
    return bool(node.domain == NAMESPACE and node.op_type == NAME)


def split_at_scans(model: onnx.ModelProto) -> Plan:
    """Plan the execution of ``model`` with its scans taken out.

    Raises:
        ModelFileError: a node nests a graph, or a scan's weights are no constants.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    levels = _assign_levels(graph, set(constants))
    types = {info.name: info for info in [*graph.input, *graph.value_info, *graph.output]}

    drafts: list[tuple[list[onnx.NodeProto], tuple[str, ...]] | ScanStep] = []
    for level in levels:
        if level.nodes:
            made = {name for node in level.nodes for name in node.output}
            read = [name for node in level.nodes for name in node.input if name]
            inputs = tuple(dict.fromkeys(name for name in read if name not in made and name not in constants))
            drafts.append((level.nodes, inputs))
        drafts.extend(_scan_step(node, constants) for node in level.scans)

    wanted = {info.name for info in graph.output}
    last_reader: dict[str, int] = {}
    for index, draft in enumerate(drafts):
        for name in draft.inputs if isinstance(draft, ScanStep) else draft[1]:
            last_reader[name] = index
    steps = tuple(
        draft if isinstance(draft, ScanStep) else _segment(model, *draft, wanted | set(last_reader), constants, types)
        for draft in drafts
    )
    dead: list[list[str]] = [[] for _ in steps]
    for name, index in last_reader.items():
        if name not in wanted:
            dead[index].append(name)
    return Plan(steps, tuple(tuple(names) for names in dead))


def _assign_levels(graph: onnx.GraphProto, constants: set[str]) -> list[_Level]:
    level_of = dict.fromkeys([*constants, *(info.name for info in graph.input), ""], 0)
    levels = [_Level()]
    for node in graph.node:
        if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
            raise ModelFileError(f"node {node.name} ({node.op_type}) nests a graph; such a model cannot be split")
        level = max((level_of[name] for name in node.input), default=0)
        (levels[level].scans if is_scan(node) else levels[level].nodes).append(node)
        after = level + 1 if is_scan(node) else level
        if after == len(levels):
            levels.append(_Level())
        level_of.update(dict.fromkeys(node.output, after))
    return levels


def _scan_step(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> ScanStep:
    missing = [name for name in node.input[2:] if name not in constants]
    if missing:
        raise ModelFileError(f"scan {node.name} computes its weights {', '.join(missing)}; expected constants")
    weights = tuple(np.ascontiguousarray(numpy_helper.to_array(constants[name])) for name in node.input[2:])
    return ScanStep((node.input[0], node.input[1]), weights, node.output[0])


def _segment(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: tuple[str, ...],
    read_later: set[str],
    constants: dict[str, onnx.TensorProto],
    types: dict[str, onnx.ValueInfoProto],
) -> Segment:
    used = {name for node in nodes for name in node.input}
    outputs = tuple(name for node in nodes for name in node.output if name in read_later)
    untyped = [name for name in (*inputs, *outputs) if name not in types]
    if untyped:
        raise ModelFileError(f"the graph does not record the types of {', '.join(untyped)}; it cannot be split")
    graph = onnx.GraphProto(name=model.graph.name)
    graph.node.extend(nodes)
    graph.initializer.extend(tensor for name, tensor in constants.items() if name in used)
    graph.input.extend(types[name] for name in inputs)
    graph.output.extend(types[name] for name in outputs)
    standard = [entry for entry in model.opset_import if entry.domain != NAMESPACE]
    part = onnx.helper.make_model(graph, opset_imports=standard, ir_version=model.ir_version)
    return Segment(part, inputs, outputs)
