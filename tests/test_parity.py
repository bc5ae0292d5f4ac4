"""The certificate passes what is the network and fails what is not."""

from __future__ import annotations

import base64
import copy
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from serpent.errors import ParityError
from serpent.model import Serpent, create_model
from serpent.runtime.sample_picture import make_picture, picture_recipe, sample_positions
from serpent_export.canonical import scan_nodes
from serpent_export.parity import SAMPLED_PIXELS, UNIT_ROUNDOFF, ParityReport, ParitySubject, certify
from traced import graph, network


def certificate(model: onnx.ModelProto, truth: Serpent | None = None, precision: str = "fp32") -> ParityReport:
    subject = ParitySubject(model, 1, 64, 64)
    return certify(truth or network(), [subject], precision=precision, description="this file")


def constant(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_export_is_certified_with_both_scans(precision: str) -> None:
    report = certificate(graph("B", "64", precision), precision=precision)
    case = report.cases[0]
    # A 16-bit graph is also compared without its rounding.
    assert [c.precision for c in report.cases] == list(dict.fromkeys([precision, "fp32"]))
    for measured in report.cases:
        assert set(measured.measured) == {"function", "native"}
        for error in measured.measured.values():
            assert 0 < error.max <= measured.limit.max
            assert 0 < error.relative <= measured.limit.relative
    assert report.limit == case.limit.max
    largest = case.limit.max - 2 * case.eager.max  # what remains is the epsilon: one roundoff of the largest value
    assert 0 < largest <= UNIT_ROUNDOFF[precision] * 8
    assert case.residual_rms > 0.01
    assert "64x64" in report.statement


# Every precision must fail on every fault; two of them are slow.
PRECISIONS = ["fp32", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("fp16", "bf16"))]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_swapped_directions_fail(precision: str) -> None:
    """Directions 1 and 3 exchanged in one scan: column-major against its reverse."""
    model = graph("B", "64", precision)
    scan = scan_nodes(model)[0]
    for name in scan.input[2:6]:
        tensor = constant(model, name)
        swapped = numpy_helper.to_array(tensor)[[0, 3, 2, 1]]
        copied = numpy_helper.from_array(np.ascontiguousarray(swapped), f"{name}.swapped")
        model.graph.initializer.append(copied)
    scan.input[2:6] = [f"{name}.swapped" for name in scan.input[2:6]]
    with pytest.raises(ParityError, match="max") as failure:
        certificate(model, precision=precision)
    assert "function scan" in str(failure.value)
    assert "native scan" in str(failure.value)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_changed_weight_fails(precision: str) -> None:
    model = graph("B", "64", precision)
    name = next(node.input[1] for node in model.graph.node if node.op_type == "MatMul")
    tensor = constant(model, name)
    weight = numpy_helper.to_array(tensor).copy()
    weight.flat[weight.size // 2] += 0.02
    tensor.CopyFrom(numpy_helper.from_array(weight, name))
    with pytest.raises(ParityError, match="not the network"):
        certificate(model, precision=precision)


def test_a_graph_that_gives_nan_fails() -> None:
    model = graph()
    tensor = constant(model, model.graph.node[0].input[2])
    tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, np.nan, np.float32), tensor.name))
    with pytest.raises(ParityError, match="nan"):
        certificate(model)


def test_every_failure_is_named() -> None:
    other = create_model("B", seed=1)
    with pytest.raises(ParityError) as failure:
        certificate(graph(), other)
    text = str(failure.value)
    assert text.count("max |d|") == 2
    assert text.count("of the correction") == 2


def test_a_network_that_changes_nothing_cannot_be_certified() -> None:
    still = create_model("B", seed=0, global_residual=True)
    with torch.no_grad():
        still.head.weight.mul_(1e-3)
        still.head.bias.mul_(1e-3)
    with pytest.raises(ParityError, match=r"rms, less than 0.01.*cannot be certified"):
        certificate(graph(), still)


def test_the_manifest_keeps_recipe_bounds_and_samples() -> None:
    report = certificate(graph())
    fields = report.to_manifest()
    [case] = fields["cases"]
    recipe = case["input"]
    again, image = picture_recipe(recipe["height"], recipe["width"], batch=recipe["batch"], seed=recipe["seed"])
    assert again.sha256 == recipe["sha256"]
    values = np.frombuffer(base64.b64decode(case["samples"]), "<f8").reshape(-1, 3)
    assert values.shape == (SAMPLED_PIXELS, 3)
    with torch.inference_mode():
        truth = copy.deepcopy(network()).double()(torch.from_numpy(image.astype(np.float64))).numpy()
    pixels = truth.transpose(0, 2, 3, 1).reshape(-1, 3)
    np.testing.assert_array_equal(values, pixels[sample_positions(SAMPLED_PIXELS, len(pixels))])
    assert case["limit"]["max"] == pytest.approx(2 * case["pytorch"]["max"], rel=0.2)


def test_the_headline_is_the_case_nearest_its_limit() -> None:
    report = certificate(graph())
    [case] = report.cases
    tight = replace(case, limit=replace(case.limit, max=case.worst.max * 1.01))
    assert replace(report, cases=(case, tight)).limit == tight.limit.max


def test_the_test_picture_is_pinned() -> None:
    """A change of these values needs a new recipe name: manifests refer to them."""
    recipe, image = picture_recipe(24, 40, batch=2)
    assert recipe.recipe == "serpent-picture-1"
    assert recipe.sha256 == "cf7360dfbde8d6dc4d3b03bf659a96ce0c6148c3f445fe41dca99c0f946b04c4"
    assert image.shape == (2, 3, 24, 40)
    assert image.dtype == np.float32
    assert (image.min(), image.max()) == (0.0, 1.0)
    assert not np.array_equal(image[0], image[1])
    assert sample_positions(4, 1000).tolist() == [561, 60, 614, 71]


def test_the_test_picture_looks_like_one() -> None:
    picture = make_picture(128, 128)[0].astype(int)
    neighbours = np.corrcoef(picture[:, :-1].ravel(), picture[:, 1:].ravel())[0, 1]
    assert 0.7 < neighbours < 0.999  # smooth areas, but edges and noise too
