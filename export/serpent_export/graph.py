"""The graph of an export: traced, made safe for its precision, certified, and given its border."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx

from serpent import native
from serpent.identity import NetworkName
from serpent.runtime.onnx_session import ScanChoice
from serpent.runtime.onnx_twins import bf16_twin
from serpent.shapes import ShapeProfile
from serpent_export.canonical import check_structure, finish
from serpent_export.inline_scan import inline_scans
from serpent_export.io_border import with_border
from serpent_export.islands import keep_in_f32
from serpent_export.network import Network
from serpent_export.parity import ParityReport, ParitySubject, certify
from serpent_export.progress import StageCallback
from serpent_export.ranges import Ranges, measure_ranges
from serpent_export.rescale import check_same_but_shapes
from serpent_export.same_result import check_same_result
from serpent_export.subjects import choose_subjects
from serpent_export.tracing import trace


@dataclass(frozen=True)
class GraphRequest:
    """What graph to make.

    Attributes:
        profile: sizes that it accepts.
        precision: "fp32", "fp16" or "bf16" inside.
        io: its border, a key of ``serpent.runtime.border.BORDERS``.
        inline_scan: write the scans as standard operators, without our operator and its function.
        certify_full_size: certify the file at its own sizes, above 512x512 too.
    """

    profile: ShapeProfile
    precision: str
    io: str = "f32-nchw"
    inline_scan: bool = False
    certify_full_size: bool = False


@dataclass(frozen=True)
class CertifiedGraph:
    """A graph that is the network, within the bounds of its precision.

    Attributes:
        model: without metadata.
        name: of the graph, hence of the network inside a plan.
        report: the certificate.
        ranges: activation ranges, fp16 only.
    """

    model: onnx.ModelProto
    name: str
    report: ParityReport
    ranges: Ranges | None


def certified_graph(network: Network, request: GraphRequest, on_stage: StageCallback) -> CertifiedGraph:
    """Trace the network, keep in f32 what f16 cannot hold, certify it, and convert its border.

    Raises:
        ParityError: the graph misses its bound, or cannot be certified.
        ModelFileError: the exporter produced something else than it should.
    """
    precision, name = request.precision, graph_name(network, request.precision)

    def trace_at(profile: ShapeProfile) -> onnx.ModelProto:
        on_stage(f"exporting the graph at {profile.resolution}")
        return finish(trace(network.model, profile, precision), name=name)

    on_stage("exporting the graph")
    model = finish(trace(network.model, request.profile, precision), name=name)
    check_structure(model, num_scans=network.model.config.num_scans)
    subjects, description = choose_subjects(model, request.profile, trace_at, full_size=request.certify_full_size)
    ranges = None
    if precision == "fp16":
        ranges = measure_ranges(subjects, on_stage)
        model, subjects = _with_islands(model, subjects, ranges)
    if precision == "bf16":
        description += ", as its bf16 twin (f32 arithmetic rounded to bf16 at every tensor)"
    report = certify(
        network.model,
        subjects,
        precision=precision,
        description=description,
        io=request.io,
        keeps_f32=ranges is not None and bool(ranges.overflowing),
        on_stage=on_stage,
    )
    variant = _variant(model, request)
    if variant is not model:
        on_stage("comparing the file with the certified graph")
        inner = bf16_twin(subjects[0].model) if precision == "bf16" else subjects[0].model
        scan: ScanChoice = "function" if request.inline_scan else "native"
        check_same_result(replace(subjects[0], model=inner), _variant(inner, request), io=request.io, scan=scan)
    return CertifiedGraph(variant, name, report, ranges)


def graph_name(network: Network, precision: str) -> str:
    """Identity of the network, by which a bare plan can be recognised."""
    return str(NetworkName(network.model.config.variant, precision, native.library().schema, network.digest[:16]))


def _variant(model: onnx.ModelProto, request: GraphRequest) -> onnx.ModelProto:
    """The model with the border and the scans that were asked for; the very same object where neither differs."""
    if request.io != "f32-nchw":
        model = with_border(model, request.io)
    return inline_scans(model) if request.inline_scan else model


def _with_islands(
    model: onnx.ModelProto, subjects: list[ParitySubject], ranges: Ranges
) -> tuple[onnx.ModelProto, list[ParitySubject]]:
    if not ranges.overflowing:
        return model, subjects
    whole = keep_in_f32(model, ranges.overflowing)
    changed = []
    for subject in subjects:
        if subject.model is model:
            changed.append(replace(subject, model=whole))
            continue
        small = keep_in_f32(subject.model, ranges.overflowing)
        check_same_but_shapes(whole, small)  # the islands, too, are the same
        changed.append(replace(subject, model=small))
    return whole, changed
