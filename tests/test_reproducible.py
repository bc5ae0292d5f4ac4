"""Equal weights give equal bytes, wherever and whenever they are exported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from serpent.files import sha256_file
from serpent.runtime.onnx_file import GRAPH_DIGEST, graph_digest, read_metadata, read_onnx

EXPORT = """
import sys
from pathlib import Path
import serpent_export
serpent_export.export(variant="B", untrained=True, resolution="32", formats=sys.argv[1], out=Path(sys.argv[2]))
"""


def export_in(folder: Path, formats: str) -> dict[str, str]:
    folder.mkdir(parents=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", EXPORT, formats, "out"]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return {path.name: sha256_file(path) for path in sorted((folder / "out").iterdir())}


@pytest.mark.slow
def test_two_exports_from_two_folders_are_byte_identical(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the plan needs TensorRT-RTX")
    first = export_in(tmp_path / "one", "all")
    second = export_in(tmp_path / "another" / "folder", "all")
    assert first == second
    assert list(first) == ["serpent-b-32-fp32.json", "serpent-b-32-fp32.onnx", "serpent-b-32-fp32.plan"]
    for name in first:
        data = (tmp_path / "one" / "out" / name).read_bytes()
        assert str(tmp_path).encode() not in data
        assert b"site-packages" not in data

    file = read_onnx(tmp_path / "one" / "out" / "serpent-b-32-fp32.onnx")
    manifest = json.loads((tmp_path / "one" / "out" / "serpent-b-32-fp32.json").read_text())
    assert file.metadata[GRAPH_DIGEST] == graph_digest(file.model) == manifest["graph_sha256"]
    assert file.metadata["weights"] == manifest["weights"] == "untrained"
    assert manifest["files"]["serpent-b-32-fp32.plan"]["sha256"] == first["serpent-b-32-fp32.plan"]


def test_the_graph_digest_ignores_metadata_only() -> None:
    model = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []), producer_name="one")
    digest = graph_digest(model)
    onnx.helper.set_model_props(model, {"serpent.note": "anything"})
    assert graph_digest(model) == digest
    assert read_metadata(model) == {"note": "anything"}
    model.producer_name = "two"
    assert graph_digest(model) != digest
