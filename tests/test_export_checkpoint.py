"""Exporting a checkpoint: its configuration, task and licence reach the files, whatever the configuration is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serpent.config import SerpentConfig
from serpent.errors import UsageError
from serpent.model import Serpent, create_model, save_model, weights_digest
from serpent.runtime.onnx_file import read_onnx
from serpent_export import export

OVERRIDES = {
    "text-of-the-paper": {"up_order": "post", "mlp_ratio": 0},
    "no-residual": {"skip": "add", "global_residual": False, "d_state": 5},
    "shallow": {"num_scales": 1, "depth": 1, "embed_dim": 16},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OVERRIDES)
def test_every_configuration_is_exported_and_certified(tmp_path: Path, name: str) -> None:
    model = create_model("B", seed=3, **OVERRIDES[name])
    checkpoint = tmp_path / "model.safetensors"
    save_model(model, checkpoint, task="denoise", extra={"license": "CC0-1.0"})
    result = export(variant="B", weights=checkpoint, resolution="32", formats="onnx", out=tmp_path / "out")
    file = read_onnx(result.files[0].path)
    manifest = json.loads(result.manifest_path.read_text())
    assert file.config == model.config
    assert manifest["config"] == model.config.to_dict()
    assert file.metadata["weights"] == manifest["weights"] == result.weights == weights_digest(model)
    assert file.metadata["task"] == manifest["task"] == "denoise"
    assert manifest["weights_license"] == "CC0-1.0"
    assert not any("untrained" in note for note in result.notes)
    assert sum(node.op_type == "SelectiveScan2D" for node in file.model.graph.node) == model.config.num_scans


def test_a_checkpoint_of_another_variant_or_task_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.safetensors"
    save_model(create_model("B", seed=3, num_scales=1, depth=1), checkpoint, task="denoise")
    with pytest.raises(UsageError, match="holds variant B, not H"):
        export(variant="H", weights=checkpoint, out=tmp_path / "out")
    with pytest.raises(UsageError, match="trained for denoise, not deblur"):
        export(variant="B", weights=checkpoint, task="deblur", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"in_channels": 1}, "in_channels 1; exported files take RGB"),
        ({"variant": "mine/1"}, "holds variant 'mine/1', which cannot be part of a file's name"),
    ],
)
def test_a_network_that_files_cannot_hold_is_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    config = SerpentConfig.from_dict({"patch_size": 1, "num_scales": 1, "depth": 1, "embed_dim": 8, **fields})
    save_model(Serpent(config), tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match=message):
        export(variant=config.variant, weights=tmp_path / "model.safetensors", resolution="32", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_size_rule_is_the_checkpoints_own(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.safetensors"
    save_model(create_model("B", seed=3, num_scales=4, embed_dim=8, depth=1), checkpoint)
    with pytest.raises(UsageError, match="height 96 is no multiple of 64"):
        export(variant="B", weights=checkpoint, resolution="96", out=tmp_path / "out")
