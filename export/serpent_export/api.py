"""``serpent_export.export``: one call from a network to certified files."""

from __future__ import annotations

import importlib.metadata
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import onnx
import onnxruntime

import serpent
from serpent import native
from serpent.config import SerpentConfig
from serpent.errors import EngineError, ModelFileError, UsageError
from serpent.files import sha256_file
from serpent.manifest import FORMAT, FORMAT_VERSION, load_manifest
from serpent.runtime.border import BORDERS
from serpent.runtime.gpu import find_gpus
from serpent.runtime.onnx_file import graph_digest, serialize
from serpent.runtime.tensorrt_library import RTX, TRT
from serpent.shapes import parse_profile
from serpent_export.canonical import add_metadata
from serpent_export.engine import build_engine
from serpent_export.engine_options import EMBED_WARNING, EngineOptions
from serpent_export.graph import CertifiedGraph, GraphRequest, certified_graph
from serpent_export.network import Network, load_network, weights_notes
from serpent_export.ort_trt import for_ort_trt
from serpent_export.parity import ParityReport
from serpent_export.progress import StageCallback, silent
from serpent_export.staging import staged
from serpent_export.targets import EngineChoice, choose_engine, choose_targets, gpu_note, parse_targets
from serpent_export.tracing import OPSETS
from serpent_export.triton import NO_BF16, check_target, write_repository
from serpent_export.volumes import check_volumes

Kind = Literal["onnx", "plan", "ort-trt.onnx"]


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written; ``targets`` is empty for ONNX, ``seconds`` is the time this file took."""

    path: Path
    kind: Kind
    precision: str
    bytes: int
    sha256: str
    targets: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote, its certificate, one-line notes for the user, and the fp16 graph's tensors in f32."""

    files: tuple[ExportedFile, ...]
    manifest_path: Path
    parity: ParityReport
    weights: str
    notes: tuple[str, ...]
    seconds: float
    kept_in_f32: tuple[str, ...] = ()


def export(
    *,
    variant: str,
    weights: Path | None = None,
    untrained: bool = False,
    task: str | None = None,
    resolution: str = "512",
    batch: str = "1",
    precision: str = "fp32",
    io: str = "f32-nchw",
    inline_scan: bool = False,
    certify_full_size: bool = False,
    formats: str = "all",
    out: Path = Path(),
    engine: str = "auto",
    targets: str | None = None,
    options: EngineOptions | None = None,
    ort_trt: bool = False,
    triton: Path | None = None,
    require_weights: bool = False,
    overwrite: bool = False,
    on_stage: StageCallback = silent,
) -> ExportResult:
    """Export a network; files appear together, after their certificate, or not at all.

    Args:
        variant: "B", "L" or "H", or what the checkpoint says.
        weights: a checkpoint; by default the one that ships for the variant and the task, and without one the
            untrained weights of seed 0.
        untrained: take those even where weights ship.
        task: what the network restores; the checkpoint's own, else "deblur".
        resolution: "512", "512x768" (height x width), "256:512:2048" (min:opt:max) or
            "256x256:512x768:1024x2048" (min:opt:max of height x width), pixels.
        batch: "1" or "1:1:8", pictures.
        precision: "fp32", "fp16" or "bf16" inside the network.
        io: the border: "f32-nchw", "f16-nchw" or "u8-nhwc"; its conversions are part of the file.
        inline_scan: write the scans as standard operators, for runtimes that refuse functions; ONNX only.
        certify_full_size: above 512x512, too, certify the file at its own size, where ``serpent-verify`` can run it.
        formats: what to write; "all" leaves the plan out, with a note, where no TensorRT is installed.
        out: folder, made if missing.
        engine: which TensorRT builds the plan.
        targets: GPUs of the plan, such as "sm86,sm89".
        options: for the engine builder.
        ort_trt: write the variant for ONNX Runtime's TensorRT provider, too.
        triton: folder to make, with a model repository for Triton of the same files.
        require_weights: fail without trained weights.
        overwrite: replace existing files.
        on_stage: called with what is being done.

    Raises:
        UsageError: an argument is unknown or not of its form, or a file exists.
        CheckpointError: the weights do not fit or are required and missing.
        ParityError: the file misses its bound.
        EngineError: the plan cannot be built.
        SerpentError: the folder cannot be written.
    """
    start = time.perf_counter()
    options = options or EngineOptions()
    _check_words(precision, io, formats, inline_scan)
    if ort_trt and inline_scan:
        raise UsageError("--ort-trt needs the scans that --inline-scan takes apart", hint="leave one of them out")
    if triton is not None:
        _check_triton(triton, out, overwrite, options)
    if weights is None:
        parse_profile(SerpentConfig.from_variant(variant), resolution, batch)  # a mistyped size is answered at once
    _check_for_plans(formats, engine, targets, options)
    gpus = find_gpus()
    choice = choose_engine(engine, gpus) if formats != "onnx" else EngineChoice(None)
    if formats == "plan" and choice.flavour is None:
        raise EngineError(choice.reason)
    if choice.flavour:
        options.check(choice.flavour)
        _check_embedding(options)
    plan_targets = choose_targets(targets, choice.flavour, gpus) if choice.flavour else ()

    network = load_network(variant, weights, task, require_weights=require_weights, untrained=untrained)
    profile = parse_profile(network.model.config, resolution, batch)
    options.check_workspace(network.model.config, profile)
    request = GraphRequest(profile, precision, io, inline_scan, certify_full_size)
    stem = _stem(network.model.config, request)
    kinds: list[Kind] = ["onnx"] if formats != "plan" else []
    if choice.flavour:
        kinds.append("plan")
    kinds += ["ort-trt.onnx"] if ort_trt else []
    if triton is not None and choice.flavour is not TRT:
        _check_triton_runs(triton, out / f"{stem}.onnx", formats, precision)
    names = [f"{stem}.{kind}" for kind in kinds] + [f"{stem}.json"]

    with staged(out, names, overwrite=overwrite) as folder:
        begin = time.perf_counter()
        onnx_path = folder / f"{stem}.onnx"
        graph = certified_graph(network, request, on_stage)
        model = _write_onnx(network, request, graph, onnx_path)
        seconds = {"onnx": time.perf_counter() - begin, "ort-trt.onnx": 0.0}
        if ort_trt:
            (folder / f"{stem}.ort-trt.onnx").write_bytes(serialize(for_ort_trt(model)))
        engine_fields: dict[str, Any] = {}
        if choice.flavour:
            check_volumes(model, request.profile, choice.flavour)
            built = build_engine(
                onnx_path,
                folder / f"{stem}.plan",
                flavour=choice.flavour,
                targets=plan_targets,
                profile=request.profile,
                expected_scans=network.model.config.num_scans,
                name=graph.name,
                io=io,
                options=options,
                on_stage=on_stage,
            )
            seconds["plan"], plan_targets = built.seconds, built.targets
            engine_fields = built.to_manifest()
        files = []
        for kind in kinds:
            path = folder / f"{stem}.{kind}"
            of_plan = plan_targets if kind == "plan" else ()
            size, digest = path.stat().st_size, sha256_file(path)
            files.append(ExportedFile(out / path.name, kind, precision, size, digest, of_plan, seconds[kind]))
        manifest = _manifest(network, request, graph, graph_digest(model), files, engine_fields)
        manifest["files"] |= _kept_siblings(out, stem, kinds, manifest["graph_sha256"])
        (folder / f"{stem}.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")

    notes = _notes(network, graph, choice, options, gpu_note(plan_targets, gpus) if choice.flavour else None)
    if triton is not None:
        notes += write_repository(triton, out / f"{stem}.json", overwrite=overwrite).notes
    return ExportResult(
        tuple(files),
        out / f"{stem}.json",
        graph.report,
        network.weights,
        notes,
        time.perf_counter() - start,
        graph.ranges.overflowing if graph.ranges else (),
    )


def _check_embedding(options: EngineOptions) -> None:
    library = native.library()
    if options.embed_plugin and not library.has_cuda:
        raise EngineError(
            f"--embed-plugin: the plugin beside {library.path} was built without CUDA kernels: a plan that carries it "
            "would run nowhere",
            hint="build the package where nvcc is found: pip install -C cmake.define.SERPENT_CUDA=ON .",
        )


def _check_triton(folder: Path, out: Path, overwrite: bool, options: EngineOptions) -> None:
    if options.embed_plugin:
        raise UsageError(
            "--embed-plugin and --triton both bring the plugin: Triton loads it by its own flag",
            hint="leave out --embed-plugin",
        )
    check_target(folder, overwrite=overwrite)
    if out.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"--triton {folder} is replaced as a whole and would take the files of --out {out} with it",
            hint="choose another folder: --triton DIR",
        )


def _check_triton_runs(folder: Path, onnx_file: Path, formats: str, precision: str) -> None:
    """Without a plan that Triton runs, there must be an ONNX file that it does."""
    if precision == "bf16":
        raise UsageError(
            f"--precision bf16 leaves nothing for --triton {folder}: {NO_BF16}",
            hint="use --precision fp16, or --engine trt on a machine with the server's GPU",
        )
    # An earlier export of the same graph may have left it.
    if formats == "plan" and not onnx_file.exists():
        raise UsageError(
            f"--format plan makes a plan of {RTX.title} here, which --triton {folder} cannot take",
            hint="use --format all: Triton runs the ONNX file, or --engine trt on a machine with the server's GPU",
        )


def _check_words(precision: str, io: str, formats: str, inline_scan: bool) -> None:
    if precision not in OPSETS:
        raise UsageError(f"unknown precision {precision!r}; expected {', '.join(OPSETS)}")
    if io not in BORDERS:
        raise UsageError(f"unknown border {io!r}; expected {', '.join(BORDERS)}")
    if formats not in ("onnx", "plan", "all"):
        raise UsageError(f"unknown format {formats!r}; expected onnx, plan or all")
    if inline_scan and formats != "onnx":
        raise UsageError("--inline-scan is for runtimes without the plugin, and no plan", hint="add --format onnx")


def _check_for_plans(formats: str, engine: str, targets: str | None, options: EngineOptions) -> None:
    asked = options.asked or (f"--targets {targets}" if targets is not None else None)
    asked = asked or (f"--engine {engine}" if engine != "auto" else None)
    if formats == "onnx" and asked:
        raise UsageError(f"{asked} is for plans, but --format onnx writes none", hint="use --format plan or all")
    if targets is not None:
        parse_targets(targets)


def _stem(config: SerpentConfig, request: GraphRequest) -> str:
    profile = request.profile
    parts = ["serpent", config.variant.lower(), profile.resolution]
    if str(profile.batch) != "1":
        parts.append(f"b{profile.batch}")
    parts.append(request.precision)
    if request.io != "f32-nchw":
        parts.append(request.io)
    if request.inline_scan:
        parts.append("inline")
    return "-".join(parts).replace(":", "-")


def _write_onnx(network: Network, request: GraphRequest, graph: CertifiedGraph, path: Path) -> onnx.ModelProto:
    """Write the file, and read it back: what the engine is built from and what the digests are of."""
    add_metadata(
        graph.model,
        {
            "config": _json(network.model.config.to_dict()),
            "profile": _json(request.profile.to_dict()),
            "task": network.task,
            "precision": request.precision,
            "io": request.io,
            "scan": "inline" if request.inline_scan else "node",
            "weights": network.weights,
            "weights_sha256": network.digest,
            "weights_license": network.license,
            "tools": _json(_tools()),  # the file does not depend on ONNX Runtime
        },
    )
    path.write_bytes(serialize(graph.model))
    return onnx.load_model(path)


def _manifest(
    network: Network,
    request: GraphRequest,
    graph: CertifiedGraph,
    graph_sha256: str,
    files: list[ExportedFile],
    engine: dict[str, Any],
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": graph.name,
        "variant": network.model.config.variant,
        "task": network.task,
        "resolution": request.profile.resolution,
        "precision": request.precision,
        "io": request.io,
        "weights": network.weights,
        "weights_sha256": network.digest,
        "weights_license": network.license,
        "config": network.model.config.to_dict(),
        "profile": request.profile.to_dict(),
        "tools": {**_tools(), "onnxruntime": onnxruntime.__version__},
        "graph_sha256": graph_sha256,
        "files": {
            file.path.name: {"kind": file.kind, "bytes": file.bytes, "sha256": file.sha256}
            | ({"engine": engine} if file.kind == "plan" else {})
            for file in files
        },
        **({"activations": graph.ranges.to_manifest()} if graph.ranges else {}),
        "parity": graph.report.to_manifest(),
    }


def _notes(
    network: Network,
    graph: CertifiedGraph,
    choice: EngineChoice,
    options: EngineOptions,
    gpu: str | None,
) -> tuple[str, ...]:
    notes = weights_notes(network)
    if graph.ranges and (kept := graph.ranges.overflowing):
        peaks = graph.ranges.peaks
        worst = max(kept, key=lambda name: peaks[name])
        notes.append(
            f"{len(kept)} of {len(peaks)} tensors stay in f32, since f16 may not hold them: {worst} reached "
            f"{peaks[worst]:.3g} on sample pictures (all are in the manifest)"
        )
    if choice.reason:
        notes.append(choice.reason)
    if choice.flavour and options.embed_plugin:
        notes.append(EMBED_WARNING)
    return (*notes, gpu) if gpu else tuple(notes)


def _kept_siblings(out: Path, stem: str, kinds: list[Kind], graph_sha256: str) -> dict[str, Any]:
    """Entries of files that an earlier export left beside, where they are of the very same graph.

    Raises:
        UsageError: such a file is of another graph; one manifest cannot describe both.
    """
    kept: dict[str, Any] = {}
    for kind in get_args(Kind):
        sibling = out / f"{stem}.{kind}"
        if kind in kinds or not sibling.exists():
            continue
        try:
            manifest = load_manifest(out / f"{stem}.json")
            manifest.check_digest(sibling)
            fields = manifest.fields
        except ModelFileError:
            fields = {}
        if fields.get("graph_sha256") != graph_sha256:
            raise UsageError(
                f"{sibling} is from another export and would lose its manifest",
                hint="use --format all to replace it too, or remove it, or choose another folder: --out DIR",
            )
        kept[sibling.name] = fields["files"][sibling.name]
    return kept


def _tools() -> dict[str, str]:
    tools = {name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxscript")}
    return {"serpent": serpent.__version__, **tools}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
