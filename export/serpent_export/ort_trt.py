"""The variant of an exported file for ONNX Runtime's TensorRT provider.

That provider hands custom operators to TensorRT only in a domain of its own, which it fills with whatever plugins are
registered; and it would inline a local function before TensorRT sees the node. Without the function the file runs
nowhere else.
"""

from __future__ import annotations

import onnx

from serpent.identity import NAMESPACE
from serpent.runtime.onnx_file import GRAPH_DIGEST, METADATA_PREFIX, ORT_TRT_FORMAT, graph_digest
from serpent.runtime.onnx_split import is_scan

DOMAIN = "trt.plugins"


def for_ort_trt(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` with its scans in the provider's domain, without the function, and with its own digest.

    The nodes keep ``plugin_namespace`` and ``plugin_version``, by which TensorRT finds the plugin.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for node in changed.graph.node:
        if is_scan(node):
            node.domain = DOMAIN
    del changed.functions[:]
    kept = [entry for entry in changed.opset_import if entry.domain != NAMESPACE]
    del changed.opset_import[:]
    changed.opset_import.extend([*kept, onnx.helper.make_opsetid(DOMAIN, 1)])
    own = {"format": ORT_TRT_FORMAT, GRAPH_DIGEST: graph_digest(changed)}
    for entry in changed.metadata_props:
        entry.value = own.get(entry.key.removeprefix(METADATA_PREFIX), entry.value)
    return changed
