"""``serpent_export.export``: one call from a network to certified files."""

from __future__ import annotations

import importlib.metadata
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
import onnxruntime

import serpent
from serpent import native
from serpent.config import SerpentConfig
from serpent.errors import EngineError, ModelFileError, UsageError
from serpent.files import sha256_file
from serpent.manifest import FORMAT, FORMAT_VERSION, load_manifest, manifest_path
from serpent.model import Serpent
from serpent.runtime.gpu import find_gpus
from serpent.runtime.onnx_file import graph_digest, serialize
from serpent.shapes import ShapeProfile, parse_profile
from serpent_export.canonical import add_metadata, check_structure, finish
from serpent_export.engine import build_engine
from serpent_export.network import Network, load_network, untrained_note
from serpent_export.parity import ParityReport, certify
from serpent_export.progress import StageCallback, silent
from serpent_export.staging import staged
from serpent_export.subjects import choose_subjects
from serpent_export.targets import EngineChoice, choose_engine, choose_targets, gpu_note, parse_targets
from serpent_export.tracing import OPSETS, trace

Kind = Literal["onnx", "plan"]


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
    """What an export wrote, its certificate, and one-line notes for the user."""

    files: tuple[ExportedFile, ...]
    manifest_path: Path
    parity: ParityReport
    weights: str
    notes: tuple[str, ...]
    seconds: float


def export(
    *,
    variant: str,
    weights: Path | None = None,
    task: str | None = None,
    resolution: str = "512",
    batch: str = "1",
    precision: str = "fp32",
    formats: str = "all",
    out: Path = Path(),
    engine: str = "auto",
    targets: str | None = None,
    require_weights: bool = False,
    overwrite: bool = False,
    on_stage: StageCallback = silent,
) -> ExportResult:
    """Export a network; files appear together, after their certificate, or not at all.

    Args:
        variant: "B", "L" or "H".
        weights: a checkpoint; without one the network has the untrained weights of seed 0.
        task: what the network restores; the checkpoint's own, else "deblur".
        resolution: "512", "512x768" (height x width) or "256:512:2048" (min:opt:max), pixels.
        batch: "1" or "1:1:8", pictures.
        precision: "fp32", "fp16" or "bf16" inside the network; the border stays f32.
        formats: what to write; "all" leaves the plan out, with a note, where no TensorRT is installed.
        out: folder, made if missing.
        engine: which TensorRT builds the plan.
        targets: GPUs of the plan, such as "sm86,sm89".
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
    if precision not in OPSETS:
        raise UsageError(f"unknown precision {precision!r}; expected {', '.join(OPSETS)}")
    if formats not in ("onnx", "plan", "all"):
        raise UsageError(f"unknown format {formats!r}; expected onnx, plan or all")
    if weights is None:
        parse_profile(SerpentConfig.from_variant(variant), resolution, batch)  # a mistyped size is answered at once
    if formats == "onnx" and (targets is not None or engine != "auto"):
        asked = f"--targets {targets}" if targets is not None else f"--engine {engine}"
        raise UsageError(f"{asked} is for plans, but --format onnx writes none", hint="use --format plan or all")
    if targets is not None:
        parse_targets(targets)
    gpus = find_gpus()
    choice = choose_engine(engine, gpus) if formats != "onnx" else EngineChoice(None)
    if formats == "plan" and choice.flavour is None:
        raise EngineError(choice.reason)
    plan_targets = choose_targets(targets, choice.flavour, gpus) if choice.flavour else ()

    network = load_network(variant, weights, task, require_weights)
    profile = parse_profile(network.model.config, resolution, batch)
    stem = _stem(network.model.config, profile, precision)
    kinds: list[Kind] = ["onnx"] if formats != "plan" else []
    if choice.flavour:
        kinds.append("plan")
    names = [f"{stem}.{kind}" for kind in kinds] + [f"{stem}.json"]

    with staged(out, names, overwrite=overwrite) as folder:
        begin = time.perf_counter()
        onnx_path = folder / f"{stem}.onnx"
        model = _write_onnx(network, profile, precision, onnx_path, on_stage)
        report = _certify(network.model, model, profile, precision, on_stage)
        seconds = {"onnx": time.perf_counter() - begin}
        engine_fields: dict[str, Any] = {}
        if choice.flavour:
            built = build_engine(
                onnx_path,
                folder / f"{stem}.plan",
                flavour=choice.flavour,
                targets=plan_targets,
                profile=profile,
                expected_scans=network.model.config.num_scans,
                on_stage=on_stage,
            )
            seconds["plan"] = built.seconds
            engine_fields = built.to_manifest()
        files = []
        for kind in kinds:
            path = folder / f"{stem}.{kind}"
            of_plan = plan_targets if kind == "plan" else ()
            size, digest = path.stat().st_size, sha256_file(path)
            files.append(ExportedFile(out / path.name, kind, precision, size, digest, of_plan, seconds[kind]))
        manifest = _manifest(network, profile, precision, model, report, files, engine_fields)
        manifest["files"] |= _kept_siblings(out, stem, kinds, manifest["graph_sha256"])
        (folder / f"{stem}.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")

    notes = [
        *([untrained_note(network)] if not network.trained else []),
        *([choice.reason] if choice.reason else []),
        *([note] if choice.flavour and (note := gpu_note(plan_targets, gpus)) else []),
    ]
    total = time.perf_counter() - start
    return ExportResult(tuple(files), out / f"{stem}.json", report, network.weights, tuple(notes), total)


def _stem(config: SerpentConfig, profile: ShapeProfile, precision: str) -> str:
    batch = str(profile.batch)
    several = "" if batch == "1" else f"-b{batch}"
    return f"serpent-{config.variant.lower()}-{profile.resolution}{several}-{precision}".replace(":", "-")


def _write_onnx(
    network: Network, profile: ShapeProfile, precision: str, path: Path, on_stage: StageCallback
) -> onnx.ModelProto:
    on_stage("exporting the graph")
    model = finish(trace(network.model, profile, precision), name=_graph_name(network, precision))
    check_structure(model, num_scans=network.model.config.num_scans)
    add_metadata(
        model,
        {
            "config": _json(network.model.config.to_dict()),
            "profile": _json(profile.to_dict()),
            "task": network.task,
            "precision": precision,
            "weights": network.weights,
            "weights_sha256": network.digest,
            "weights_license": network.license,
            "tools": _json(_tools()),  # the file does not depend on ONNX Runtime
        },
    )
    path.write_bytes(serialize(model))
    # What is certified is what was written.
    return onnx.load_model(path)


def _graph_name(network: Network, precision: str) -> str:
    """Identity of the network; TensorRT keeps it inside plans."""
    variant, schema = network.model.config.variant.lower(), native.library().schema
    return f"serpent-{variant}-{precision}-schema{schema}-{network.digest[:16]}"


def _certify(
    network: Serpent, model: onnx.ModelProto, profile: ShapeProfile, precision: str, on_stage: StageCallback
) -> ParityReport:
    def trace_at(size: ShapeProfile) -> onnx.ModelProto:
        on_stage(f"exporting the graph at {size.resolution}")
        return finish(trace(network, size, precision), name=model.graph.name)

    subjects, description = choose_subjects(model, profile, trace_at)
    if precision == "bf16":
        description += ", as its bf16 twin (f32 arithmetic rounded to bf16 at every tensor)"
    return certify(network, subjects, precision=precision, description=description, on_stage=on_stage)


def _manifest(
    network: Network,
    profile: ShapeProfile,
    precision: str,
    model: onnx.ModelProto,
    report: ParityReport,
    files: list[ExportedFile],
    engine: dict[str, Any],
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "variant": network.model.config.variant,
        "task": network.task,
        "resolution": profile.resolution,
        "precision": precision,
        "weights": network.weights,
        "weights_sha256": network.digest,
        "weights_license": network.license,
        "config": network.model.config.to_dict(),
        "profile": profile.to_dict(),
        "tools": {**_tools(), "onnxruntime": onnxruntime.__version__},
        "graph_sha256": graph_digest(model),
        "files": {
            file.path.name: {"kind": file.kind, "bytes": file.bytes, "sha256": file.sha256}
            | ({"engine": engine} if file.kind == "plan" else {})
            for file in files
        },
        "parity": report.to_manifest(),
    }


def _kept_siblings(out: Path, stem: str, kinds: list[Kind], graph_sha256: str) -> dict[str, Any]:
    """Entries of files that an earlier export left beside, where they are of the very same graph.

    Raises:
        UsageError: such a file is of another graph; one manifest cannot describe both.
    """
    kept: dict[str, Any] = {}
    for kind in ("onnx", "plan"):
        sibling = out / f"{stem}.{kind}"
        if kind in kinds or not sibling.exists():
            continue
        try:
            manifest = load_manifest(manifest_path(sibling))
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
