"""fp16 exports keep in f32 what f16 cannot hold, and say so."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from serpent.errors import ModelFileError, ParityError
from serpent.model import Serpent, create_model
from serpent.native import default_threads
from serpent.runtime.onnx_session import RunTimes, ScanChoice, make_runner
from serpent.runtime.sample_picture import PictureRecipe, network_input, picture_recipe, sample_pictures
from serpent.runtime.tensorrt_library import RTX, installed_version
from serpent_export.canonical import finish, scan_nodes
from serpent_export.engine import build_engine
from serpent_export.islands import keep_in_f32
from serpent_export.parity import ErrorNorms, ParityCase, ParityReport, ParitySubject, _failures, certify
from serpent_export.ranges import F16_LARGEST, MARGIN, half_tensors, measure_ranges
from serpent_export.targets import DEFAULT_TARGETS
from serpent_export.tracing import trace
from traced import graph, network, profile


@functools.cache
def loud_network() -> Serpent:
    """The network with two layers scaled by a power of two that the LayerNorm after them takes out again."""
    loud = copy.deepcopy(network())
    with torch.no_grad():
        loud.expand[0].proj.weight.mul_(2**17)
        loud.expand[2].proj.weight.mul_(2**16)
    return loud


@functools.cache
def _loud_graph(sizes: str, batch: str) -> bytes:
    raw = trace(loud_network(), profile("B", sizes, batch), "fp16")
    return finish(raw, name="network").SerializeToString(deterministic=True)


def subject(sizes: str = "64", batch: str = "1") -> ParitySubject:
    model = onnx.load_model_from_string(_loud_graph(sizes, batch))
    return ParitySubject(model, 1, 64, 64)


def certificate(model: onnx.ModelProto, *, keeps_f32: bool) -> ParityReport:
    subjects = [ParitySubject(model, 1, 64, 64)]
    return certify(loud_network(), subjects, precision="fp16", description="this file", keeps_f32=keeps_f32)


def test_without_islands_f16_overflows_and_with_them_it_is_certified() -> None:
    loud = subject().model
    with pytest.raises(ParityError, match="the PSNR is nan dB, at least 50 is needed"):
        certificate(loud, keeps_f32=True)
    ranges = measure_ranges([subject()])
    safe = keep_in_f32(loud, ranges.overflowing)
    report = certificate(safe, keeps_f32=True)
    assert report.psnr_db >= 55
    assert "fp16 without its range" in report.to_manifest()["baseline"]
    # Islands, not the whole graph.
    assert 8 <= len(ranges.overflowing) <= 20
    assert len(half_tensors(safe)) > 0.95 * len(half_tensors(loud))


@pytest.mark.slow
def test_islands_in_a_graph_of_free_sizes() -> None:
    dynamic = subject("64:96:128", "1:1:2")
    ranges = measure_ranges([dynamic])
    assert 8 <= len(ranges.overflowing) <= 20
    report = certificate(keep_in_f32(dynamic.model, ranges.overflowing), keeps_f32=True)
    assert report.psnr_db >= 55


def test_every_kept_tensor_is_f32_and_the_graph_is_whole() -> None:
    loud = subject().model
    kept = measure_ranges([subject()]).overflowing
    safe = keep_in_f32(loud, kept)
    onnx.checker.check_model(safe, full_check=False)
    types = {info.name: info.type.tensor_type.elem_type for info in safe.graph.value_info}
    assert {types[name] for name in kept} == {TensorProto.FLOAT}
    assert not set(half_tensors(safe)) & set(kept)
    weights = {tensor.name: tensor for tensor in safe.graph.initializer}
    wide = [name for name in weights if name.endswith(".f32")]
    assert wide
    for name in wide:  # the same 16-bit values, stored wider
        values = onnx.numpy_helper.to_array(weights[name])
        np.testing.assert_array_equal(values, values.astype(np.float16).astype(np.float32))
    assert {info.name for info in loud.graph.input} == {info.name for info in safe.graph.input}
    assert loud.graph.output[0] == safe.graph.output[0]


def test_a_quiet_network_keeps_nothing() -> None:
    quiet = graph("B", "64", "fp16")
    ranges = measure_ranges([ParitySubject(quiet, 1, 64, 64)])
    assert ranges.overflowing == ()
    assert len(ranges.peaks) == len(half_tensors(quiet)) > 300
    assert keep_in_f32(quiet, ()) == quiet
    fields = ranges.to_manifest()
    assert fields["kept_in_f32"] == {}
    assert fields["pictures"] == list(sample_pictures(8, 8))
    [peak] = fields["largest_in_f16"].values()
    assert 1 < peak < F16_LARGEST / MARGIN


def test_measured_peaks_are_those_of_pytorch() -> None:
    """The first feature map: the embedding's convolution, over all sample pictures."""
    embed = network().embed
    half = torch.nn.Conv2d(3, embed.out_channels, 4, stride=4)
    half.weight.data = embed.weight.data.half().float()
    half.bias.data = embed.bias.data.half().float()
    pictures = sample_pictures(64, 64).values()
    with torch.inference_mode():
        inputs = [torch.from_numpy(network_input(picture)).half().float() for picture in pictures]
        largest = max(float(half(image).abs().max()) for image in inputs)
    model = graph("B", "64", "fp16")
    first = next(node.output[0] for node in model.graph.node if node.op_type == "Conv")
    peaks = measure_ranges([ParitySubject(model, 1, 64, 64)]).peaks
    # The f32 twin does not round its input to f16.
    assert peaks[first] == pytest.approx(largest, rel=2e-3)


def test_a_weight_beyond_f16_is_named() -> None:
    model = create_model("B", seed=0)
    with torch.no_grad():
        model.head.bias[0] = 1e5
    raw = finish(trace(model, profile("B", "64"), "fp16"), name="network")
    with pytest.raises(ParityError, match=r"the weight head\.bias holds values beyond 65504.*\n.*--precision bf16"):
        measure_ranges([ParitySubject(raw, 1, 64, 64)])


def test_an_unknown_tensor_is_refused() -> None:
    with pytest.raises(ModelFileError, match="no f16 tensors nothing"):
        keep_in_f32(graph("B", "64", "fp16"), ["nothing"])


def test_sample_pictures_span_the_extremes_and_never_change() -> None:
    samples = sample_pictures(24, 40, batch=2)
    assert len(samples) == 7
    assert all(picture.shape == (2, 24, 40, 3) and picture.dtype == np.uint8 for picture in samples.values())
    assert samples["black"].max() == 0
    assert samples["white"].min() == 255
    assert set(np.unique(samples["checkerboard"])) == set(np.unique(samples["saturated blocks"])) == {0, 255}
    assert len(np.unique(samples["noise"])) == 256
    assert len(np.unique(sample_pictures(64, 64)["saturated blocks"].reshape(-1, 3), axis=0)) == 8
    again = sample_pictures(24, 40, batch=2)
    assert all(np.array_equal(samples[kind], again[kind]) for kind in samples)


@pytest.mark.parametrize("scan", ["native", "function"])
def test_a_scan_may_lie_in_an_island(scan: ScanChoice) -> None:
    """Forced here: the scan's border type changes with it, its weights are f32 in any case."""
    half = graph("B", "64", "fp16")
    node = scan_nodes(half)[3]
    wide = keep_in_f32(half, [node.input[0], node.output[0]])
    types = {info.name: info.type.tensor_type.elem_type for info in wide.graph.value_info}
    changed = scan_nodes(wide)[3]
    assert {types[name] for name in (*changed.input[:2], *changed.output)} == {TensorProto.FLOAT}
    assert changed.input[2:] == node.input[2:]
    _, image = picture_recipe(64, 64)
    results = [make_runner(model, scan, default_threads(), RunTimes())(image) for model in (half, wide)]
    assert 0 < np.abs(results[0] - results[1]).max() < 0.02


@pytest.mark.slow
@pytest.mark.skipif(installed_version(RTX) is None, reason=f"needs {RTX.title}: {RTX.install_command}")
def test_tensorrt_rtx_builds_a_graph_with_islands(tmp_path: Path) -> None:
    half = subject().model
    kept = [*measure_ranges([subject()]).overflowing, scan_nodes(half)[3].output[0]]
    (tmp_path / "network.onnx").write_bytes(keep_in_f32(half, kept).SerializeToString())
    result = build_engine(
        tmp_path / "network.onnx",
        tmp_path / "network.plan",
        flavour=RTX,
        targets=DEFAULT_TARGETS,
        profile=profile("B", "64"),
        expected_scans=14,
    )
    assert result.plugin_layers == 14


@pytest.mark.parametrize(("precision", "least"), [("fp16", 50.0), ("bf16", 40.0)])
def test_a_psnr_below_the_least_is_a_failure_with_its_figure(precision: str, least: float) -> None:
    """However wide the limit: a network that rounds badly in PyTorch, too, is not exported."""
    wide = ErrorNorms(1.0, 1.0, 1.0)

    def case(psnr: float) -> ParityCase:
        error = ErrorNorms(0.1, 10 ** (-psnr / 20), 0.1)
        recipe = PictureRecipe("recipe", 0, 1, 64, 64, "")
        return ParityCase(recipe, "this file", precision, 1.0, wide, {"native": error}, wide, samples="")

    assert _failures(case(least + 0.1)) == []
    [failure] = _failures(case(least - 0.1))
    assert failure.endswith(f"(native scan) the PSNR is {least - 0.1:.1f} dB, at least {least:g} is needed")
