"""The process that :mod:`serpent_export.engine` starts: parses an ONNX file and builds its plan.

Reads one JSON object from stdin, writes one JSON object a line to stdout: ``{"stage": text}`` any number of
times, then ``{"result": fields}`` or ``{"error": {"kind", "message", "hint"}}``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serpent import native
from serpent.errors import EngineError, SerpentError
from serpent.identity import NAME, NAMESPACE, VERSION
from serpent.runtime import tensorrt_plugin as plugin
from serpent.runtime.tensorrt_library import FLAVOURS, RTX, check_installed, load, make_logger
from serpent.shapes import ShapeProfile

_EXPORT_AGAIN = (
    "export the ONNX file again with this version of serpent-export, "
    f"whose plugin is {NAME}, version {VERSION}, namespace {NAMESPACE}"
)


def build(spec: dict[str, Any], on_stage: Callable[[str], None]) -> dict[str, Any]:
    """Build the plan that ``spec`` describes and write it.

    Args:
        spec: "onnx" and "plan" paths, "flavour", "targets", "profile", "expected_scans".
        on_stage: told what is being done.

    Returns:
        The fields of ``EngineResult`` that only this process knows.

    Raises:
        SerpentError: whatever prevents the plan, as one message.
    """
    flavour = FLAVOURS[spec["flavour"]]
    on_stage(f"loading {flavour.title}")
    trt = load(flavour)
    creator = plugin.register(trt)
    logger = make_logger(trt)
    try:
        builder = trt.Builder(logger)
    except TypeError:  # how the bindings report a builder that could not be made
        raise EngineError(f"{flavour.title} cannot build on this machine: {logger.sentence()}") from None

    on_stage("parsing the ONNX file")
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    # Bytes, not the path: nothing of where the file lies can reach the plan.
    if not parser.parse(Path(spec["onnx"]).read_bytes()) or creator.errors:
        raise EngineError(
            f"{Path(spec['onnx']).name} cannot be parsed: {_parser_errors(parser, creator)}", hint=_EXPORT_AGAIN
        )
    kinds = [network.get_layer(index).type for index in range(network.num_layers)]
    scans = kinds.count(trt.LayerType.PLUGIN_V3)
    if scans != spec["expected_scans"]:
        raise EngineError(
            f"{Path(spec['onnx']).name} has {scans} scans that became plugin layers; expected {spec['expected_scans']}",
            hint=_EXPORT_AGAIN,
        )

    on_stage(f"building the plan for {', '.join(spec['targets'])}")
    config = builder.create_builder_config()
    if flavour is RTX:
        _set_targets(trt, config, spec["targets"])
    _add_profile(builder, config, network.get_input(0), ShapeProfile.from_dict(spec["profile"]))
    plan = builder.build_serialized_network(network, config)
    if plan is None or creator.errors:
        reason = "; ".join([*dict.fromkeys(creator.errors), logger.sentence()]).strip("; ")
        hint = "TensorRT-RTX takes Turing (sm75) with --precision fp16 alone" if "sm75" in spec["targets"] else None
        raise EngineError(f"{flavour.title} cannot build {Path(spec['onnx']).name}: {reason}", hint=hint)

    on_stage("writing the plan")
    try:
        Path(spec["plan"]).write_bytes(plan)
    except OSError as error:
        folder = Path(spec["plan"]).parent
        raise SerpentError(f"cannot write into {folder}: {error.strerror}", hint="choose another folder") from None
    return {
        "version": check_installed(flavour),
        "layers": network.num_layers,
        "plugin_layers": scans,
        "plugin": {
            "name": NAME,
            "version": VERSION,
            "namespace": NAMESPACE,
            "schema": native.library().schema,
        },
    }


def _network_flags(trt: Any) -> int:
    """Strongly typed: TensorRT 10 must be asked for it, later versions and TensorRT-RTX know nothing else."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _set_targets(trt: Any, config: Any, targets: list[str]) -> None:
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        capability = getattr(trt.ComputeCapability, target.upper(), None)
        # A refused capability raises nothing: the plan would silently be built for other GPUs.
        if capability is None or not config.set_compute_capability(capability, index):
            raise EngineError(f"TensorRT-RTX {trt.__version__} does not build for {target}")


def _add_profile(builder: Any, config: Any, image: Any, profile: ShapeProfile) -> None:
    """Tell the builder the accepted shapes; a file of fixed shape must have the profile's."""
    ranges = [profile.batch, None, profile.height, profile.width]
    smallest = [3 if size is None else size.min for size in ranges]
    usual = [3 if size is None else size.opt for size in ranges]
    largest = [3 if size is None else size.max for size in ranges]
    if None in largest:
        raise EngineError(f"the profile {profile.to_dict()} has no largest size, which a plan needs")
    shape = list(image.shape)
    fits = len(shape) == 4 and all(
        size in (-1, low) and (size == -1 or low == high)
        for size, low, high in zip(shape, smallest, largest, strict=True)
    )
    if image.name != "image" or not fits:
        raise EngineError(
            f"the ONNX input {image.name} has shape {shape}; expected image, between {smallest} and {largest}",
            hint=_EXPORT_AGAIN,
        )
    if -1 not in shape:
        return
    shapes = builder.create_optimization_profile()
    shapes.set_shape(image.name, smallest, usual, largest)
    if config.add_optimization_profile(shapes) < 0:
        raise EngineError(f"TensorRT refused the shapes {smallest}, {usual}, {largest} (min, opt, max)")


def _parser_errors(parser: Any, creator: Any) -> str:
    """All errors of the parser as one line; what the plugin said itself is clearer and stands alone."""
    found = [parser.get_error(index) for index in range(parser.num_errors)]
    nodes = list(dict.fromkeys(error.node_name() for error in found if error.node_name()))
    others = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    where = f"at node {nodes[0]}{others}: " if nodes else ""
    said = creator.errors or [" ".join(error.desc().split()) for error in found] or ["no reason was given"]
    return where + "; ".join(dict.fromkeys(said))


def main() -> None:
    """Serve one request."""
    # Messages go to a private copy of stdout; what libraries print there joins stderr.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as channel:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

        def send(message: dict[str, Any]) -> None:
            channel.write(json.dumps(message) + "\n")
            channel.flush()

        try:
            send({"result": build(json.load(sys.stdin), lambda stage: send({"stage": stage}))})
        except SerpentError as error:
            send({"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}})


if __name__ == "__main__":
    main()
