"""``serpent-verify``: the certificate again, from the manifest alone."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from exported import Exported
from serpent.errors import ModelFileError, ParityError, UsageError
from serpent.files import sha256_file
from serpent.runtime import open_session, verification, verify_file
from serpent.runtime.onnx_file import GRAPH_DIGEST, METADATA_PREFIX, graph_digest
from serpent.runtime.onnx_session import OnnxSession
from serpent_cli.main import run_verify


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Exported:
    shutil.copytree(exported.folder, tmp_path / "files")
    onnx_path, plan, manifest = (tmp_path / "files" / path.name for path in exported[2:5])
    return exported._replace(folder=tmp_path / "files", onnx=onnx_path, plan=plan, manifest=manifest)


def edit(manifest: Path, change: Callable[[dict[str, Any]], object]) -> None:
    fields = json.loads(manifest.read_text())
    change(fields)
    manifest.write_text(json.dumps(fields))


@pytest.mark.parametrize("scan", ["native", "function"])
def test_an_exported_file_passes(exported: Exported, scan: Any) -> None:
    result = verify_file(exported.onnx, scan=scan)
    case = json.loads(exported.manifest.read_text())["parity"]["cases"][0]
    assert result.passed
    assert (result.size, result.pixels, result.info.scan) == ((1, 64, 64), 4096, scan)
    assert result.max_limit == case["limit"]["max"]
    # The certificate's own numbers again, but for the pixels that are not in the sample.
    assert 0.3 * case["onnxruntime"][scan]["max"] <= result.max_error <= case["onnxruntime"][scan]["max"]


def test_it_needs_neither_torch_nor_weights(copied: Exported) -> None:
    code = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'serpent_export'): raise ImportError(name + ' is banned')\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        f"sys.argv = ['serpent-verify', {str(copied.onnx)!r}]\n"
        "from serpent_cli.main import run_verify\n"
        "run_verify()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"verified: {copied.onnx.name}, onnxruntime on cpu, native scan, at 1x64x64: max |d| ")


def test_wrong_weights_do_not_pass(
    copied: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load_model(copied.onnx)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "head.bias")
    values = onnx.numpy_helper.to_array(bias).copy()
    values[0] += 1e-5
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    for entry in model.metadata_props:
        if entry.key == METADATA_PREFIX + GRAPH_DIGEST:
            entry.value = graph_digest(model)
    copied.onnx.write_bytes(model.SerializeToString())
    edit(copied.manifest, lambda f: f["files"][copied.onnx.name].update(sha256=sha256_file(copied.onnx)))
    result = verify_file(copied.onnx)
    assert not result.passed
    with pytest.raises(ParityError, match=r"not verified: .*max \|d\| 1\.\d+e-05 .* \(limit 2\.\d+e-06\)"):
        result.check()
    monkeypatch.setattr(sys, "argv", ["serpent-verify", str(copied.onnx), "--json"])
    with pytest.raises(SystemExit) as leaving:
        run_verify()
    assert leaving.value.code == 1
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "ParityError"


def without(*path: str) -> Callable[[dict[str, Any]], object]:
    def remove(fields: dict[str, Any]) -> None:
        for key in path[:-1]:
            fields = fields[key]
        del fields[path[-1]]

    return remove


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("parity"), "damaged certificate"),
        (without("parity", "samples"), "damaged certificate"),
        (lambda f: f["parity"].update(cases=[]), "damaged certificate"),
        (lambda f: f["parity"]["cases"][0]["input"].update(recipe="other-1"), "certified on a picture 'other-1'"),
        (lambda f: f["parity"]["cases"][0]["input"].update(seed=5), "cannot be made again"),
        (lambda f: f["parity"]["cases"][0]["input"].update(height=256), "takes 64 alone"),
        (lambda f: f["parity"]["samples"].update(values="!"), "damaged certificate"),
        (lambda f: f["parity"]["samples"].update(values=""), "values are unusable"),
        (
            lambda f: f["parity"]["samples"].update(values=base64.b64encode(np.full(3, np.nan).tobytes()).decode()),
            "values are unusable",
        ),
    ],
)
def test_a_damaged_certificate(copied: Exported, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(copied.manifest, change)
    with pytest.raises(ModelFileError, match=message):
        verify_file(copied.onnx)


def test_a_plan_is_run_by_its_own_session(copied: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a stand-in for the GPU's session: what is asked of it, and that its result is what counts."""
    asked: list[tuple[Any, ...]] = []

    def opened(path: Path, device: str, *, scan: Any) -> Any:
        asked.append((path, device, scan))
        return open_session(copied.onnx)

    monkeypatch.setattr(verification, "open_session", opened)
    copied.plan.touch()
    assert verify_file(copied.plan, "cuda:1").passed
    assert asked == [(copied.plan, "cuda:1", None)]
    monkeypatch.setattr(OnnxSession, "run", lambda _self, image: image)  # does nothing to the picture
    assert not verify_file(copied.plan).passed


def test_a_checkpoint_has_no_certificate(exported: Exported) -> None:
    with pytest.raises(UsageError, match="has no certificate"):
        verify_file(exported.checkpoint)
