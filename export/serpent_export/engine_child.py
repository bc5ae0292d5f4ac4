"""The process that :mod:`serpent_export.engine` starts: parses an ONNX file and builds its plan.

Reads one JSON object from stdin, writes one JSON object a line to stdout: ``{"stage": text}`` any number of
times, then ``{"result": fields}`` or ``{"error": {"kind", "message", "hint"}}``.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serpent.errors import EngineError, SerpentError
from serpent.files import written_aside
from serpent.identity import NAME, NAMESPACE, VERSION
from serpent.runtime.border import BORDERS
from serpent.runtime.tensorrt_library import FLAVOURS, RTX, Flavour, check_installed, load, make_logger
from serpent.shapes import ShapeProfile
from serpent_export.plugin_choice import RegisteredPlugin, register_plugin
from serpent_export.progress import StageCallback
from serpent_export.targets import own_target

_EXPORT_AGAIN = (
    "export the ONNX file again with this version of serpent-export, "
    f"whose plugin is {NAME}, version {VERSION}, namespace {NAMESPACE}"
)


def build(spec: dict[str, Any], on_stage: StageCallback) -> dict[str, Any]:
    """Build the plan that ``spec`` describes and write it.

    Args:
        spec: "onnx" and "plan" paths, "flavour", "targets", "profile", "expected_scans", "name", "io", and the
            builder's options, each None by default: "workspace", "optimization_level", "timing_cache", "embed_plugin".
        on_stage: told what is being done.

    Returns:
        The fields of ``EngineResult`` that only this process knows.

    Raises:
        SerpentError: whatever prevents the plan, as one message.
    """
    flavour = FLAVOURS[spec["flavour"]]
    targets = spec["targets"] if flavour is RTX else own_target(spec["targets"])
    file = Path(spec["onnx"])
    on_stage(f"loading {flavour.title}")
    trt = load(flavour)
    logger = make_logger(trt)
    try:
        builder = trt.Builder(logger)
    except TypeError:  # how the bindings report a builder that could not be made
        raise EngineError(f"{flavour.title} cannot build on this machine: {logger.sentence()}") from None
    config = builder.create_builder_config()
    plugin = register_plugin(trt, config, None if spec["embed_plugin"] is None else Path(spec["embed_plugin"]))

    on_stage("parsing the ONNX file")
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    # Bytes, not the path: nothing of where the file lies can reach the plan.
    if not parser.parse(file.read_bytes()) or plugin.errors:
        raise EngineError(f"{file.name} cannot be parsed: {_parser_errors(parser, plugin)}", hint=_EXPORT_AGAIN)
    network.name = spec["name"]
    scans = _count_scans(trt, network, file, spec["expected_scans"])

    on_stage(f"building the plan for {', '.join(targets)}")
    if flavour is RTX:
        _set_targets(trt, config, targets)
    _set_options(trt, config, spec)
    _add_profile(trt, builder, config, network, ShapeProfile.from_dict(spec["profile"]), spec["io"])
    plan = builder.build_serialized_network(network, config)
    if plan is None or plugin.errors:
        reason = "; ".join([*dict.fromkeys(plugin.errors), logger.sentence()]).strip("; ")
        hint = "TensorRT-RTX takes Turing (sm75) with --precision fp16 alone" if "sm75" in targets else None
        raise EngineError(f"{flavour.title} cannot build {file.name}: {reason}", hint=hint)

    on_stage("writing the plan")
    try:
        Path(spec["plan"]).write_bytes(plan)
    except OSError as error:
        folder = Path(spec["plan"]).parent
        raise SerpentError(f"cannot write into {folder}: {error.strerror}", hint="choose another folder") from None
    _keep_timings(config, spec)
    return {
        "version": check_installed(flavour),
        "cuda": _cuda_major(flavour),
        "targets": list(targets),
        "layers": network.num_layers,
        "plugin_layers": scans,
        "plugin": plugin.to_manifest(),
    }


def _count_scans(trt: Any, network: Any, file: Path, expected: int) -> int:
    kinds = [network.get_layer(index).type for index in range(network.num_layers)]
    scans = kinds.count(trt.LayerType.PLUGIN_V3)
    if scans != expected:
        raise EngineError(
            f"{file.name} has {scans} scans that became plugin layers; expected {expected}", hint=_EXPORT_AGAIN
        )
    return scans


def _cuda_major(flavour: Flavour) -> str | None:
    """Which CUDA the installed wheels are for: their names say it."""
    for major in ("13", "12"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(f"{flavour.module.replace('_', '-')}-cu{major}")
            return major
    return None


def _network_flags(trt: Any) -> int:
    """Strongly typed: TensorRT 10 must be asked for it, later versions and TensorRT-RTX know nothing else."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _set_targets(trt: Any, config: Any, targets: Sequence[str]) -> None:
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        capability = getattr(trt.ComputeCapability, target.upper(), None)
        # A refused capability raises nothing: the plan would silently be built for other GPUs.
        if capability is None or not config.set_compute_capability(capability, index):
            raise EngineError(f"TensorRT-RTX {trt.__version__} does not build for {target}")


def _set_options(trt: Any, config: Any, spec: dict[str, Any]) -> None:
    # f32 means f32: TensorRT's default would round the factors of products to 10 bits, far beyond the certificate.
    tf32 = getattr(trt.BuilderFlag, "TF32", None)
    if tf32 is not None:
        config.clear_flag(tf32)
    if spec["workspace"] is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, spec["workspace"])
    if spec["optimization_level"] is not None:
        config.builder_optimization_level = spec["optimization_level"]
    if spec["timing_cache"] is not None:
        path = Path(spec["timing_cache"])
        # An empty buffer is a new cache; one of another GPU or version is refused rather than mixed in.
        cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
        if cache is None or not config.set_timing_cache(cache, False):
            raise EngineError(
                f"the timing cache {path} is damaged, or of another GPU or TensorRT",
                hint="remove it, or name another file: --timing-cache FILE",
            )


def _keep_timings(config: Any, spec: dict[str, Any]) -> None:
    """Write the cache back, with what this build measured."""
    if spec["timing_cache"] is not None:
        with written_aside(Path(spec["timing_cache"])) as aside:
            aside.write_bytes(config.get_timing_cache().serialize())


def _add_profile(trt: Any, builder: Any, config: Any, network: Any, profile: ShapeProfile, io: str) -> None:
    """Tell the builder the accepted shapes; a file of fixed shape must have the profile's."""
    border = BORDERS[io]
    for tensor in (network.get_input(0), network.get_output(0)):
        if tensor.dtype != getattr(trt.DataType, border.tensorrt):
            raise EngineError(
                f"the ONNX tensor {tensor.name} has type {tensor.dtype}; expected {border.tensorrt} ({io})",
                hint=_EXPORT_AGAIN,
            )
    image = network.get_input(0)
    sides = [profile.height, profile.width]
    ranges = [profile.batch, *sides, None] if border.channels_last else [profile.batch, None, *sides]
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


def _parser_errors(parser: Any, plugin: RegisteredPlugin) -> str:
    """All errors of the parser as one line; what the plugin said itself is clearer and stands alone."""
    found = [parser.get_error(index) for index in range(parser.num_errors)]
    nodes = list(dict.fromkeys(error.node_name() for error in found if error.node_name()))
    others = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    where = f"at node {nodes[0]}{others}: " if nodes else ""
    said = plugin.errors or [" ".join(error.desc().split()) for error in found] or ["no reason was given"]
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
