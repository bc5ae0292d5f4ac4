"""``serpent-verify``: the certificate again, from the manifest alone."""

from __future__ import annotations

import base64
import json
import math
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
from serpent_cli.main import run_export, run_verify
from serpent_export import export

pytestmark = pytest.mark.usefixtures("traced_once")


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
    assert (result.info.scan, result.left_out) == (scan, ())
    (found,) = result.cases
    assert (found.size, found.pixels) == ((1, 64, 64), 4096)
    assert found.max_limit == case["limit"]["max"]
    # The certificate's own numbers again, but for the pixels that are not in the sample.
    assert 0.3 * case["onnxruntime"][scan]["max"] <= found.max_error <= case["onnxruntime"][scan]["max"]


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
    head, case = run.stdout.splitlines()
    assert head == f"verified: {copied.onnx.name}, onnxruntime on cpu, native scan"
    assert case.startswith("  the file at 1x64x64: max |d| ")


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
    limit = result.cases[0].max_limit  # it rests on PyTorch's own error on the exporting machine
    assert limit < 1e-5
    with pytest.raises(ParityError, match=rf"not verified: .*max \|d\| 1\.\d+e-05 .* \(limit {limit:.2e}\)"):
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
        (lambda f: f["parity"]["cases"][0].pop("samples"), "damaged certificate"),
        (lambda f: f["parity"].update(cases=[]), "damaged certificate"),
        (lambda f: f.update(parity=[]), "damaged certificate"),
        (lambda f: f.update(precision="fp16"), "damaged certificate: it has no case in fp16"),
        (lambda f: f["parity"]["cases"][0]["limit"].update(max=10**400), "damaged certificate"),
        (lambda f: f["parity"]["cases"][0]["limit"].update(relative=math.inf), "values are unusable"),
        (lambda f: f["parity"]["cases"][0]["input"].update(height=math.inf), "damaged certificate"),
        (lambda f: f["parity"]["cases"][0]["input"].update(recipe="other-1"), "certified on a picture 'other-1'"),
        (lambda f: f["parity"]["cases"][0]["input"].update(seed=5), "cannot be made again"),
        (lambda f: f["parity"]["cases"][0]["input"].update(height=256), "takes 64 alone.* --certify-full-size"),
        (lambda f: f["parity"]["cases"][0].update(samples="!"), "damaged certificate"),
        (lambda f: f["parity"]["cases"][0].update(samples=""), "values are unusable"),
        (
            lambda f: f["parity"]["cases"][0].update(samples=base64.b64encode(np.full(3, np.nan).tobytes()).decode()),
            "values are unusable",
        ),
        (lambda f: f["parity"]["cases"][0].update(residual_rms=0), "values are unusable"),
    ],
)
def test_a_damaged_certificate(copied: Exported, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(copied.manifest, change)
    with pytest.raises(ModelFileError, match=f"(?s){message}"):
        verify_file(copied.onnx)


def test_the_least_psnr_of_the_certificate_is_asked_again(copied: Exported) -> None:
    for least, passed in ((50.0, True), (150.0, False)):
        edit(copied.manifest, lambda f, least=least: f["parity"].update(min_psnr_db=least))
        result = verify_file(copied.onnx)
        assert result.passed == passed
        assert f"dB, at least {least:.1f} dB" in result.cases[0].statement
    with pytest.raises(ParityError, match="at least 150"):
        result.check()


def test_a_plan_is_run_by_its_own_session(copied: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a stand-in for the GPU's session: what is asked of it, and that its result is what counts."""
    asked: list[tuple[Any, ...]] = []

    def opened(path: Path, device: str, *, scan: Any, allow_native_code: Any) -> Any:
        asked.append((path, device, scan, allow_native_code))
        return open_session(copied.onnx)

    monkeypatch.setattr(verification, "open_session", opened)
    copied.plan.write_bytes(b"a plan")
    assert verify_file(copied.plan, "cuda:1").passed
    monkeypatch.setattr(sys, "argv", ["serpent-verify", str(copied.plan), "--allow-native-code"])
    with pytest.raises(SystemExit) as leaving:
        run_verify()
    assert leaving.value.code == 0
    assert asked == [(copied.plan, "cuda:1", None, None), (copied.plan, "auto", None, True)]
    monkeypatch.setattr(OnnxSession, "run", lambda _self, image: image)  # does nothing to the picture
    assert not verify_file(copied.plan).passed


def export_at(out: Path, *arguments: object) -> Path:
    """Export B; the ONNX file."""
    names = ("resolution", "precision", "batch", "io")
    given = dict(zip(names, map(str, arguments), strict=False))
    result = export(variant="B", formats="onnx", out=out, certify_full_size=True, **given)
    return result.files[0].path


def test_every_case_of_the_certificate_is_run(tmp_path: Path) -> None:
    file = export_at(tmp_path, "64:96:128", "fp32", "1:2:4")
    manifest = file.with_suffix(".json")
    result = verify_file(file)
    assert result.passed
    assert [case.size for case in result.cases] == [(1, 128, 128), (3, 96, 128)]
    edit(manifest, lambda f: f["parity"]["cases"][1]["limit"].update(max=1e-9))
    with pytest.raises(ParityError, match=r"not verified: .*: the file at 3x96x128: max \|d\| "):
        verify_file(file).check()
    # A plan of that profile cannot run what lies outside it, and says so.
    edit(manifest, lambda f: f["parity"]["cases"][1]["limit"].update(max=1.0))
    edit(manifest, lambda f: f["profile"].update(batch=[1, 1, 1]))
    assert verify_file(file).left_out == ("the file at 3x96x128: the file does not take that size",)


@pytest.mark.parametrize("io", ["f32-nchw", "f16-nchw", "u8-nhwc"])
def test_a_16_bit_file_is_run_with_its_twin(tmp_path: Path, io: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = export_at(tmp_path, "64", "fp16", "1", io)
    cases = json.loads(file.with_suffix(".json").read_text())["parity"]["cases"]
    result = verify_file(file)
    assert result.passed
    assert [case.subject for case in result.cases] == ["the file", "the f32 twin of its graph"]
    own, twin = result.cases
    assert own.max_error > 1e-4 > 1e-5 > twin.max_error or io == "u8-nhwc"
    assert (twin.max_limit == cases[1]["limit"]["max"]) == (io != "u8-nhwc")

    session = open_session(file)
    monkeypatch.setattr(verification, "open_session", lambda *_, **__: session)
    plan = file.with_suffix(".plan")
    plan.write_bytes(b"a plan")
    result = verify_file(plan)
    assert [case.subject for case in result.cases] == ["the file"]
    assert result.left_out == ("the f32 twin of its graph at 1x64x64: only the .onnx file on the CPU has that twin",)


def test_the_twin_of_a_file_with_inlined_scans(tmp_path: Path) -> None:
    result = export(variant="B", resolution="64", precision="fp16", inline_scan=True, formats="onnx", out=tmp_path)
    own, twin = verify_file(result.files[0].path).cases
    assert own.passed
    assert twin.passed
    assert own.max_error > 1e-4 > 1e-5 > twin.max_error


@pytest.mark.slow
def test_a_large_file_is_verified_where_it_was_certified_at_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--variant", "B", "--res", "544", "--format", "onnx", "--out", str(tmp_path)]
    for flags, code in ((["--overwrite"], 1), (["--overwrite", "--certify-full-size"], 0)):
        monkeypatch.setattr(sys, "argv", ["serpent-export", *arguments, *flags])
        with pytest.raises(SystemExit) as leaving:
            run_export()
        assert leaving.value.code == 0
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["serpent-verify", str(tmp_path / "serpent-b-544-fp32.onnx")])
        with pytest.raises(SystemExit) as leaving:
            run_verify()
        said = capsys.readouterr()
        assert leaving.value.code == code, said
        assert ("--certify-full-size" in said.err) == (code == 1)
        assert ("the file at 1x544x544: max |d| " in said.out) == (code == 0)


def test_a_checkpoint_has_no_certificate(exported: Exported) -> None:
    with pytest.raises(UsageError, match="has no certificate"):
        verify_file(exported.checkpoint)
