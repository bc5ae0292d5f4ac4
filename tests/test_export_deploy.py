"""The options of deployment, as a user gives them; and the documented ones exist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

import serpent_export
from serpent.errors import ModelFileError, UsageError
from serpent.files import sha256_file
from serpent.manifest import load_manifest
from serpent.runtime import open_session
from serpent.runtime.tensorrt_library import RTX, installed_version
from serpent_cli.export import export

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "deploy.md"
COMMAND = "from serpent_cli.main import run_export; run_export()"
NAME = "serpent-b-64-fp32"


@pytest.mark.slow
def test_one_export_writes_all_that_is_asked_for_and_a_later_one_keeps_it(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    options = ["--variant", "B", "--res", "64", "--format", "onnx", "--ort-trt", "--triton", "triton", "--json"]
    run = subprocess.run(
        [sys.executable, "-c", COMMAND, *options], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    names = [Path(file["path"]).name for file in json.loads(run.stdout)["files"]]
    assert names == [f"{NAME}.onnx", f"{NAME}.ort-trt.onnx"]
    manifest = load_manifest(tmp_path / f"{NAME}.json")
    for name in names:
        manifest.check_digest(tmp_path / name)
    variant = onnx.load_model(tmp_path / names[1])
    assert sum(node.domain == "trt.plugins" for node in variant.graph.node) == 14
    with pytest.raises(ModelFileError):
        open_session(tmp_path / names[1])
    stored = tmp_path / "triton" / "model_repository" / f"{NAME}-onnx" / "1" / "model.onnx"
    assert sha256_file(stored) == sha256_file(tmp_path / names[0])
    # The same export without the variant: its manifest goes on describing the variant, which is of the same graph.
    serpent_export.export(variant="B", resolution="64", formats="onnx", out=tmp_path, overwrite=True)
    load_manifest(tmp_path / f"{NAME}.json").check_digest(tmp_path / names[1])


def test_a_taken_folder_and_options_that_exclude_each_other_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        serpent_export.export(variant="B", resolution="64", out=tmp_path / "out", triton=tmp_path)
    with pytest.raises(UsageError, match="--ort-trt needs the scans that --inline-scan takes apart"):
        serpent_export.export(
            variant="B", resolution="64", formats="onnx", out=tmp_path / "out", ort_trt=True, inline_scan=True
        )
    for out in (tmp_path / "models", tmp_path / "models" / "deeper"):
        with pytest.raises(UsageError, match="is replaced as a whole and would take the files of --out"):
            serpent_export.export(
                variant="B", resolution="64", formats="onnx", out=out, triton=tmp_path / "models", overwrite=True
            )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            {"formats": "plan", "engine": "rtx"},
            "--format plan makes a plan of TensorRT-RTX here, which --triton",
            marks=pytest.mark.skipif(
                installed_version(RTX) is None, reason=f"needs {RTX.title}: {RTX.install_command}"
            ),
        ),
        ({"formats": "onnx", "precision": "bf16"}, "--precision bf16 leaves nothing for --triton"),
    ],
)
def test_a_repository_of_nothing_that_triton_runs_is_refused_before_any_work(
    tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        serpent_export.export(variant="B", resolution="64", out=tmp_path, triton=tmp_path / "triton", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_the_documented_options_exist() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    asked = {
        option
        for line in text.splitlines()
        if line.startswith("serpent-export")
        for option in re.findall(r"--[a-z-]+", line)
    }
    assert asked >= {"--triton", "--ort-trt", "--engine"}
    known = CliRunner().invoke(export, ["--help"]).output
    assert {option for option in asked if option not in known} == set()
