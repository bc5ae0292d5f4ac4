"""A process of its own with one TensorRT and one plugin library in it; prints what it finds as JSON.

    plugin_process.py probe FLAVOUR LIBRARY ...
    plugin_process.py build GLUE ONNX PLAN [LOW HIGH]

FLAVOUR is "rtx", or a folder that holds the wheels of TensorRT's lean runtime. GLUE is "python", or the C++ library
that takes its place, or "embed:" and that library, which the plan then carries. LOW and HIGH are the least and the
greatest height and width. A library with "autoreg" in its name is just loaded, others TensorRT is told to load.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from serpent.identity import NAME, NAMESPACE, VERSION


def tensorrt(flavour: str) -> Any:
    if flavour == "rtx":
        from serpent.runtime.tensorrt_library import RTX, load

        return load(RTX)
    sys.path.insert(0, flavour)
    return importlib.import_module("tensorrt_lean_bindings")


def add_library(trt: Any, library: str) -> bool:
    if "autoreg" in Path(library).name:
        ctypes.CDLL(library)
        return True
    return trt.get_plugin_registry().load_library(library) is not None


def creators(trt: Any) -> list[list[str]]:
    found = trt.get_plugin_registry().all_creators
    return [[known.name, known.plugin_version, known.plugin_namespace] for known in found if known.name == NAME]


def probe(flavour: str, *libraries: str) -> dict[str, Any]:
    trt = tensorrt(flavour)
    found: dict[str, Any] = {"version": trt.__version__, "before": creators(trt)}
    found["loaded"] = [add_library(trt, library) for library in libraries]
    found["after"] = creators(trt)
    if found["after"]:
        creator = trt.get_plugin_registry().get_creator(NAME, VERSION, NAMESPACE)
        nothing = trt.PluginFieldCollection([])
        made = creator.create_plugin("scan", nothing, trt.TensorRTPhase.BUILD)
        core = made.get_capability_interface(trt.PluginCapabilityType.CORE)
        found["made"] = [core.plugin_name, core.plugin_version, core.plugin_namespace]
        found["without_schema"] = creator.create_plugin("scan", nothing, trt.TensorRTPhase.RUNTIME) is not None
    return found


def build(glue: str, onnx: str, plan: str, low: str = "", high: str = "") -> dict[str, Any]:
    from serpent.runtime import tensorrt_plugin
    from serpent.runtime.tensorrt_library import make_logger

    trt = tensorrt("rtx")
    embedded, glue = glue.startswith("embed:"), glue.removeprefix("embed:")
    if glue == "python":
        tensorrt_plugin.register(trt)
    elif not add_library(trt, glue):
        raise SystemExit(f"TensorRT did not load {glue}")
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(Path(onnx).read_bytes())
    config = builder.create_builder_config()
    if embedded:
        config.plugins_to_serialize = [glue]
    if high:
        shapes = builder.create_optimization_profile()
        least, most = (1, 3, int(low), int(low)), (2, 3, int(high), int(high))
        shapes.set_shape("image", least, least, most)
        config.add_optimization_profile(shapes)
    made = builder.build_serialized_network(network, config) if parsed else None
    if made is not None:
        Path(plan).write_bytes(made)
    kinds = [network.get_layer(index).type for index in range(network.num_layers)]
    return {"built": made is not None, "scans": kinds.count(trt.LayerType.PLUGIN_V3), "messages": logger.messages}


if __name__ == "__main__":
    commands = {"probe": probe, "build": build}
    answer = commands[sys.argv[1]](*sys.argv[2:])
    sys.stdout.write(json.dumps(answer) + "\n")
