"""From the exporter's raw graph to the file: nothing but the network, the function and our metadata.

Equal weights give equal bytes: the exporter's stack traces (which hold local paths) are dropped, names are
fixed, and serialisation is deterministic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import onnx
from google.protobuf.message import Message

import serpent
from serpent.errors import ModelFileError
from serpent.identity import NAME, NAMESPACE
from serpent.runtime.onnx_file import FORMAT, GRAPH_DIGEST, METADATA_PREFIX, graph_digest
from serpent.runtime.onnx_split import is_scan
from serpent_export.scan_function import scan_function


def finish(raw: onnx.ModelProto, *, name: str) -> onnx.ModelProto:
    """Canonical model without metadata: traces stripped, function added, producer and graph named.

    Args:
        raw: what :func:`serpent_export.tracing.trace` gave.
        name: the graph's name; engines carry it, so it identifies a bare plan.
    """
    model = onnx.ModelProto()
    model.CopyFrom(raw)
    for message in _messages(model):
        for field in ("metadata_props", "doc_string"):
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)
    model.producer_name, model.producer_version = "serpent-export", serpent.__version__
    model.graph.name = name
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    model.functions.append(scan_function(opset))
    if not any(entry.domain == NAMESPACE for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(NAMESPACE, 1))
    onnx.checker.check_model(model)
    return model


def add_metadata(model: onnx.ModelProto, fields: Mapping[str, str]) -> None:
    """Set ``metadata_props``: ``fields`` under our prefix, and the digest of everything else."""
    entries = {**fields, "format": FORMAT, GRAPH_DIGEST: graph_digest(model)}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_PREFIX + key: value for key, value in sorted(entries.items())})


def scan_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The ``serpent::SelectiveScan2D`` nodes of the main graph, in order."""
    return [node for node in model.graph.node if is_scan(node)]


def check_structure(model: onnx.ModelProto, *, num_scans: int) -> None:
    """Insist on what the file promises: its scans, its function, no Einsum, no loop outside the function.

    Raises:
        ModelFileError: the exporter produced something else.
    """
    found = len(scan_nodes(model))
    if found != num_scans:
        raise ModelFileError(f"the exported graph has {found} {NAME} nodes; expected {num_scans}")
    if [function.name for function in model.functions] != [NAME]:
        raise ModelFileError(f"the exported model lacks the function {NAMESPACE}::{NAME}")
    banned = sorted({node.op_type for node in model.graph.node} & {"Einsum", "Loop", "Scan", "If"})
    if banned:
        raise ModelFileError(f"the exported graph has {', '.join(banned)} outside the scan function")


def _messages(message: Message) -> Iterator[Any]:
    """``message`` and every message below it, tensors' bytes left alone."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for child in value if field.is_repeated else [value]:
            yield from _messages(child)
