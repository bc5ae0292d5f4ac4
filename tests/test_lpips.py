"""LPIPS with made weights, against the formula written out in numpy."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from serpent.errors import ArgumentError, ModelFileError
from serpent.evaluation import Pairs, evaluate
from serpent.evaluation.lpips import LPIPS_SMALLEST, Lpips, lpips_tensors
from serpent_cli.main import run_eval
from tests.fakes import FakeSession
from tests.photographs import photo, saved

pytest.importorskip("torch", reason="LPIPS needs the extra torch")

Tensors = dict[str, NDArray[np.float32]]


def made_weights() -> Tensors:
    """Random weights of a scale that keeps activations near 1, and heads that are not negative, as trained ones."""
    random = np.random.default_rng(0)
    tensors = {}
    for name, shape in lpips_tensors().items():
        values = random.normal(size=shape)
        if name.startswith("lin"):
            values = np.abs(values)
        elif len(shape) == 4:
            values *= np.sqrt(2 / np.prod(shape[1:]))
        tensors[name] = values.astype(np.float32)
    return tensors


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lpips") / "lpips.safetensors"
    save_file(made_weights(), path)
    return path


def convolved(x: NDArray[np.float64], weight: NDArray[np.float32], stride: int, padding: int) -> NDArray[np.float64]:
    """(C, H, W) to (D, H', W'): every window times every kernel."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("cyxij,dcij->dyx", windows, weight.astype(np.float64), optimize=True)


def pooled(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max((-2, -1))


def exact(a: NDArray[np.float32], b: NDArray[np.float32], tensors: Tensors) -> float:
    features = []
    for picture in (a, b):
        mean, deviation = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
        x = ((2 * picture.astype(np.float64) - 1 - mean) / deviation).transpose(2, 0, 1)
        taps = []
        for name, stride, padding, pool in (
            ("net.slice1.0", 4, 2, False),
            ("net.slice2.3", 1, 2, True),
            ("net.slice3.6", 1, 1, True),
            ("net.slice4.8", 1, 1, False),
            ("net.slice5.10", 1, 1, False),
        ):
            x = pooled(x) if pool else x
            x = convolved(x, tensors[f"{name}.weight"], stride, padding)
            x = np.maximum(x + tensors[f"{name}.bias"][:, None, None], 0)
            taps.append(x / (np.linalg.norm(x, axis=0) + 1e-10))
        features.append(taps)
    return sum(
        float(((one - other) ** 2 * tensors[f"lin{layer}.model.1.weight"][0]).sum(0).mean())
        for layer, (one, other) in enumerate(zip(*features, strict=True))
    )


@pytest.mark.parametrize("size", [(LPIPS_SMALLEST, LPIPS_SMALLEST), (40, 67), (64, 64)], ids=str)
def test_the_distance_is_that_of_the_formula(weights: Path, size: tuple[int, int]) -> None:
    a, b = photo(0, *size), photo(1, *size)
    expected = exact(a, b, made_weights())
    assert expected > 0.1  # else the bound below says nothing
    # f32 sums of at most 3456 products, five layers deep: rounding errors of a few hundred eps at worst.
    assert Lpips(weights)(a, b) == pytest.approx(expected, rel=500 * float(np.finfo(np.float32).eps))


def test_equal_pictures_have_no_distance_and_the_distance_is_symmetric(weights: Path) -> None:
    measure = Lpips(weights)
    a, b = photo(0, 40, 40), photo(1, 40, 40)
    assert measure(a, a) == 0
    assert measure(a, b) == pytest.approx(measure(b, a), rel=1e-6)
    assert measure(a, 0.9 * a + 0.1 * b) < measure(a, b)


def test_pictures_that_it_cannot_measure(weights: Path) -> None:
    measure = Lpips(weights)
    small = photo(0, LPIPS_SMALLEST - 1, 60)
    with pytest.raises(ArgumentError, match="at least 31x31 pixels"):
        measure(small, small)
    with pytest.raises(ArgumentError, match="expected the same shape"):
        measure(photo(0, 40, 40), photo(0, 40, 41))


def test_the_command_measures_it_where_it_is_asked_to(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("serpent.evaluation.restorers.open_session", lambda *_, **__: FakeSession())
    folder = saved(tmp_path / "in", "a.png", "b.png")
    arguments = ["model.onnx", folder, "--no-wiener", "--lpips-weights", weights, "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["serpent-eval", *map(str, arguments)])
    with pytest.raises(SystemExit) as leaving:
        run_eval()
    assert not leaving.value.code
    pairs = Pairs(folder, "deblur")
    expected = evaluate(lambda picture: 1 - picture, pairs, distance=Lpips(weights))
    means = json.loads((tmp_path / "out" / "summary.json").read_text())["means"]
    for method in ("degraded", "model"):
        assert means[method]["lpips"] == round(expected.mean(method).lpips or 0, 6) > 0
    assert f"{means['model']['lpips']:.4f}" in capsys.readouterr().out
    assert "model_lpips" in (tmp_path / "out" / "pictures.csv").read_text().splitlines()[0].split(",")


def test_wrong_tensors_are_all_named(tmp_path: Path) -> None:
    tensors = made_weights()
    del tensors["lin2.model.1.weight"]
    tensors["lins.0.model.1.weight"] = tensors["lin0.model.1.weight"].copy()
    tensors["net.slice1.0.bias"] = tensors["net.slice1.0.bias"][:-1].copy()
    save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(ModelFileError, match="does not hold the weights of LPIPS") as caught:
        Lpips(tmp_path / "odd.safetensors")
    for text in (
        "lin2.model.1.weight is missing",
        "lins.0.model.1.weight is not expected",
        "net.slice1.0.bias is (63,), expected (64,)",
        "docs/evaluation.md",
    ):
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent.safetensors", "does not exist"), ("words.safetensors", "is no safetensors file"), ("", "is a folder")],
)
def test_files_that_are_no_weights(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "words.safetensors").write_text("words, words, words")
    with pytest.raises(ModelFileError, match=message):
        Lpips(tmp_path / name)
