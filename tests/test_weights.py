"""Weights that ship: found by variant and task, and what is said where there are none."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import serpent
from serpent import weights
from serpent.errors import CheckpointError, ModelFileError, UsageError
from serpent.model import read_metadata
from serpent.runtime import open_session
from serpent.train import Recipe
from serpent.weights import shipped_names, shipped_weights
from serpent_cli.training import train
from serpent_export.network import load_network, weights_notes


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped weights with those of L for deblur."""
    monkeypatch.setattr(weights, "_FOLDER", tmp_path)
    path = tmp_path / "serpent-l-deblur.safetensors"
    model = serpent.create_model("L", seed=5, embed_dim=8, num_scales=1, depth=1)
    serpent.save_model(model, path, extra={"license": "for tests"})
    return path


def test_weights_are_found_by_variant_and_task(shipped: Path) -> None:
    assert shipped_weights("L") == shipped_weights("l", "deblur") == shipped
    assert shipped_weights("L", "sr8") is None
    assert shipped_weights("H") is None
    assert shipped_names() == ("L deblur",)


def test_a_variant_is_a_model(shipped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    photo = np.random.default_rng(0).random((20, 24, 3), dtype=np.float32)
    with open_session("L", "cpu") as session:
        assert session.info.path == shipped
        expected = session(photo)
    assert np.array_equal(serpent.restore(photo, model="l", tile=16), serpent.restore(photo, shipped, tile=16))
    assert np.array_equal(serpent.restore(photo, model="L"), expected)
    with pytest.raises(ModelFileError, match="no weights ship for variant H; they do for L deblur"):
        open_session("H")
    # A file of that name is meant where there is one.
    monkeypatch.chdir(tmp_path)
    Path("L").write_bytes(b"")
    with pytest.raises(UsageError, match="L is no model file"):
        open_session("L")


def test_training_starts_from_them(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: object, initial: Path, **__: object) -> None:
        raise UsageError(f"starts from {initial}")

    monkeypatch.setattr("serpent.train.fit", fit)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    arguments = [str(tmp_path), "--network", "L", "--crop", "32", "--out", str(tmp_path / "run"), "--init"]
    with pytest.raises(UsageError, match=f"starts from {shipped}"):
        train.main([*arguments, "l"], standalone_mode=False)
    with pytest.raises(ModelFileError, match="no weights ship for variant B; they do for L deblur"):
        train.main([*arguments, "B"], standalone_mode=False)


def test_an_export_takes_them_and_says_on_which_terms(shipped: Path) -> None:
    network = load_network("L", None, None, require_weights=True, untrained=False)
    assert network.weights == read_metadata(shipped)["weights_digest"]
    assert weights_notes(network) == ["weights: those that ship for L and deblur; terms: for tests"]
    named = load_network("L", shipped, None, require_weights=True, untrained=False)
    assert weights_notes(named) == [f"weights: {shipped}; terms: for tests"]


def test_a_variant_or_task_without_them_gets_random_ones_and_a_warning(shipped: Path) -> None:
    assert shipped.exists()
    for variant, task, untrained in (("H", None, False), ("L", "sr8", False), ("L", None, True)):
        network = load_network(variant, None, task, require_weights=False, untrained=untrained)
        assert network.weights == "untrained"
        (note,) = weights_notes(network)
        assert note == f"warning: these files hold random weights (variant {variant}, seed 0) and restore nothing"
    with pytest.raises(CheckpointError, match="no trained weights ship for variant L and task sr8"):
        load_network("L", None, "sr8", require_weights=True, untrained=False)
    with pytest.raises(UsageError, match="--untrained and --require-weights contradict each other"):
        load_network("L", None, None, require_weights=True, untrained=True)


def test_what_ships_is_complete() -> None:
    """Every checkpoint has its card, recipe and log, fits its network, is small, and states its terms."""
    folder = Path(weights.__file__).parent
    assert "B deblur" in shipped_names()
    for name in shipped_names():
        variant, task = name.split()
        path = shipped_weights(variant, task)
        assert path is not None
        assert path.stat().st_size < 20_000_000
        metadata = read_metadata(path)
        assert (metadata["task"], "non-commercial" in metadata["license"]) == (task, True)
        assert serpent.load_model(path).config.variant == variant
        beside = {suffix: (folder / path.name).with_suffix(suffix).read_text() for suffix in (".md", ".csv", ".toml")}
        # The recipe is the one of the file.
        recipe = Recipe.from_dict(tomllib.loads(beside[".toml"]))
        assert recipe == Recipe.from_dict(json.loads(metadata["recipe"]))
        header, *lines = beside[".csv"].splitlines()
        assert header.startswith("run,step,samples,loss,psnr")
        assert len(lines) > 100
        card = beside[".md"]
        assert "serpent-train DATA/train DATA/val" in card
        assert metadata["license"] in card
        assert metadata["weights_digest"] in card
