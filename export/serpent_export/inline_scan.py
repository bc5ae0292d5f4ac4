"""``--inline-scan``: the scans as standard operators of the main graph, for runtimes that refuse functions."""

from __future__ import annotations

import onnx
import onnx.inliner

from serpent.identity import NAMESPACE
from serpent_export.scan_function import scan_function


def inline_scans(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without functions and without our domain.

    The bodies of its ``Scan`` nodes read nothing from outside: the decay rates, which do not change, pass from
    step to step beside the state.
    """
    closed = onnx.ModelProto()
    closed.CopyFrom(model)
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    del closed.functions[:]
    closed.functions.append(scan_function(opset, closed_body=True))
    inlined = onnx.inliner.inline_local_functions(closed)
    standard = [onnx.helper.make_opsetid(e.domain, e.version) for e in inlined.opset_import if e.domain != NAMESPACE]
    del inlined.opset_import[:]
    inlined.opset_import.extend(standard)
    onnx.checker.check_model(inlined)
    return inlined
