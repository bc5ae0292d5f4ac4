"""One network, exported once, restores the same photograph on every runtime of this machine."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from exported import Exported
from serpent.files import sha256_file
from serpent.metrics import psnr
from serpent.pictures import read_picture
from serpent.runtime import open_session
from serpent.runtime.sample_picture import make_picture
from serpent.runtime.tensorrt_library import RTX, installed_version
from serpent.runtime.tiling import restore_any_size
from serpent_cli.main import run_infer

needs_rtx = pytest.mark.skipif(installed_version(RTX) is None, reason=f"needs {RTX.title}: {RTX.install_command}")


def infer(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["serpent-infer", *map(str, arguments)])
    with pytest.raises(SystemExit) as leaving:
        run_infer()
    return int(leaving.value.code or 0)


def photograph(path: Path, height: int, width: int) -> Path:
    Image.fromarray(make_picture(height, width)[0]).save(path)
    return path


def levels(path: Path) -> NDArray[np.int64]:
    return np.asarray(Image.open(path), dtype=np.int64)


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Exported:
    """The exported files, free to be damaged."""
    shutil.copytree(exported.folder, tmp_path / "files")
    onnx_path, plan, manifest = (tmp_path / "files" / path.name for path in exported[2:5])
    return exported._replace(folder=tmp_path / "files", onnx=onnx_path, plan=plan, manifest=manifest)


def test_the_export_says_in_json_what_it_wrote_and_the_manifest_agrees(exported: Exported) -> None:
    report = json.loads(exported.stdout)
    manifest = json.loads(exported.manifest.read_text())
    kinds = ["onnx"] if installed_version(RTX) is None else ["onnx", "plan"]
    assert [file["kind"] for file in report["files"]] == kinds
    assert sorted(path.name for path in exported.folder.iterdir()) == sorted(
        [exported.manifest.name, *(Path(file["path"]).name for file in report["files"])]
    )
    for file in report["files"]:
        written = exported.folder.parent / file["path"]
        assert file["sha256"] == sha256_file(written) == manifest["files"][written.name]["sha256"]
        assert file["bytes"] == written.stat().st_size == manifest["files"][written.name]["bytes"]
    assert (manifest["task"], manifest["weights"], report["weights"]) == ("denoise", *[manifest["weights_sha256"]] * 2)
    assert 0 < report["parity"]["max_error"] <= report["parity"]["limit"] < 1e-4
    assert not [note for note in report["notes"] if "untrained" in note]


@pytest.mark.parametrize("size", [(64, 64), (50, 41)], ids=["the export's size", "padded and cropped"])
def test_onnx_and_pytorch_give_the_same_picture(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    photo = photograph(tmp_path / "photo.png", *size)
    for model in (exported.onnx, exported.checkpoint):
        assert infer(monkeypatch, model, photo, "-o", tmp_path / f"{model.suffix}.png") == 0
    by_onnx, by_torch = levels(tmp_path / ".onnx.png"), levels(tmp_path / ".safetensors.png")
    assert by_onnx.shape == by_torch.shape == (*size, 3)
    assert np.abs(by_onnx - by_torch).max() <= 1
    # Else a network that does nothing would pass.
    assert psnr(by_onnx / 255, levels(photo) / 255) < 40


def test_a_larger_picture_goes_through_in_tiles(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = photograph(tmp_path / "photo.png", 100, 150)
    assert infer(monkeypatch, exported.onnx, photo) == 0
    result = levels(tmp_path / "photo_restored.png")
    with open_session(exported.onnx) as small, open_session(exported.checkpoint, "cpu") as network:
        sizes: list[tuple[int, ...]] = []

        def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
            sizes.append(image.shape)
            return network.run(image)

        tiled = restore_any_size(run, read_picture(photo).pixels[None], small.info.profile)[0]
    assert np.abs(result - np.rint(tiled.clip(0, 1) * 255)).max() <= 1
    assert len(sizes) > 4
    assert set(sizes) == {(1, 3, 64, 64)}


def test_the_function_in_the_file_computes_what_the_native_scan_does(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = photograph(tmp_path / "photo.png", 64, 64)
    reports = {}
    for scan in ("native", "function"):
        assert infer(monkeypatch, exported.onnx, photo, "-o", tmp_path / f"{scan}.png", "--scan", scan, "--json") == 0
        reports[scan] = json.loads(capsys.readouterr().out)
    assert [report["scan"] for report in reports.values()] == ["native", "function"]
    assert np.abs(levels(tmp_path / "native.png") - levels(tmp_path / "function.png")).max() <= 1


def test_json_says_how_the_picture_was_restored(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = photograph(tmp_path / "photo.png", 40, 60)
    expected = {"width": 60, "height": 40, "task": "denoise", "precision": "fp32", "notes": []}
    digest = json.loads(exported.manifest.read_text())["weights_sha256"]
    for model, backend in ((exported.onnx, "onnxruntime"), (exported.checkpoint, "torch")):
        assert infer(monkeypatch, model, photo, "--device", "cpu", "--overwrite", "--json") == 0
        captured = capsys.readouterr()
        report = json.loads(captured.out)
        assert captured.err == ""
        assert {name: report[name] for name in expected} == expected
        assert (report["backend"], report["device"], report["weights"]) == (backend, "cpu", digest)
        assert report["output"] == str(tmp_path / "photo_restored.png")
        assert min(report["seconds"], report["load_seconds"]) > 0


def test_from_another_folder_the_result_lies_beside_the_picture(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    photograph(tmp_path / "pictures" / "my photo.jpg", 64, 48)
    search = [str(Path(path).resolve()) for path in sys.path if path]
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "from serpent_cli.main import run_infer; run_infer()",
            os.path.relpath(exported.onnx, tmp_path),
            "pictures/my photo.jpg",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(search)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0
    assert [line for line in run.stderr.splitlines() if not line.startswith("peak memory: ")] == []
    assert run.stdout.startswith("pictures/my photo_restored.jpg  48x64  onnxruntime on cpu, native scan, ")
    assert levels(tmp_path / "pictures" / "my photo_restored.jpg").shape == (64, 48, 3)
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["my photo.jpg", "my photo_restored.jpg"]


def test_an_existing_result_is_kept(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = photograph(tmp_path / "photo.png", 64, 64)
    result = tmp_path / "photo_restored.png"
    result.write_text("mine")
    assert infer(monkeypatch, exported.onnx, photo) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"error: {result} exists already"
    assert result.read_text() == "mine"


@needs_rtx
def test_a_plan_without_a_gpu_names_the_command_that_works(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = photograph(tmp_path / "photo.png", 64, 64)
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi there
    monkeypatch.chdir(tmp_path)
    assert infer(monkeypatch, exported.plan, "photo.png") == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {exported.plan} needs an NVIDIA GPU, and nvidia-smi is not on the PATH")
    assert list(tmp_path.iterdir()) == [photo]
    command, *arguments = shlex.split(hint)
    assert command == "serpent-infer"
    assert infer(monkeypatch, *arguments) == 0
    assert levels(tmp_path / "photo_restored.png").shape == (64, 64, 3)


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path) -> str:
    """The message for a model that must be refused; nothing may be written."""
    photo = photograph(model.parent / "photo.png", 16, 16)
    before = sorted(model.parent.iterdir())
    assert infer(monkeypatch, model, photo) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert len(captured.err.splitlines()) <= 2
    assert sorted(model.parent.iterdir()) == before
    return captured.err


def test_a_file_that_its_manifest_does_not_vouch_for(
    copied: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(copied.onnx.read_bytes())
    content[len(content) // 2] ^= 1
    copied.onnx.write_bytes(content)
    message = refused(monkeypatch, capsys, copied.onnx)
    assert f"{copied.onnx} has sha256 {sha256_file(copied.onnx)[:16]}" in message
    assert "serpent-b-64-fp32.json says" in message
    assert "serpent-export" in message
    # Without the manifest, the digest inside the file tells.
    copied.manifest.unlink()
    assert "does not match the digest in its metadata" in refused(monkeypatch, capsys, copied.onnx)


@pytest.mark.parametrize("content", [b"", b"\x08\x07", b"<html>not found</html>"], ids=["empty", "cut", "a web page"])
def test_a_file_that_is_no_onnx(
    copied: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    copied.manifest.unlink()
    copied.onnx.write_bytes(content)
    message = refused(monkeypatch, capsys, copied.onnx)
    assert str(copied.onnx) in message
    assert "export it again with serpent-export" in message


def test_a_truncated_onnx(
    copied: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copied.manifest.unlink()
    copied.onnx.write_bytes(copied.onnx.read_bytes()[:-1000])
    assert str(copied.onnx) in refused(monkeypatch, capsys, copied.onnx)


def test_an_onnx_without_our_metadata(
    copied: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copied.manifest.unlink()
    model = onnx.load_model(copied.onnx)
    del model.metadata_props[:]
    copied.onnx.write_bytes(model.SerializeToString())
    message = refused(monkeypatch, capsys, copied.onnx)
    assert f"{copied.onnx} has no Serpent metadata" in message
    assert "serpent-export" in message


DAMAGES: dict[str, Any] = {
    "a field is missing": {"profile": None},
    "no digest": {"files": {"serpent-b-64-fp32.onnx": {}}},
    "a digest that is a number": {"files": {"serpent-b-64-fp32.onnx": {"sha256": 5}}},
    "a digest that is no digest": {"files": {"serpent-b-64-fp32.onnx": {"sha256": "same as before"}}},
    "files is a list": {"files": ["serpent-b-64-fp32.onnx"]},
    "the file is not listed": {"files": {}},
    "sizes that are words": {"profile": {"batch": [1, 1, 1], "height": [1], "width": [1, 1, 1], "multiple": 32}},
    "a multiple that is a word": {
        "profile": {**{side: [64, 64, 64] for side in ("batch", "height", "width")}, "multiple": "many"}
    },
    "an unknown configuration": {"config": {"patch_size": 4, "colour": "blue"}},
    "another version": {"format_version": 99},
    "another format": {"format": "safetensors-index"},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest(
    copied: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    fields = {**json.loads(copied.manifest.read_text()), **DAMAGES[damage]}
    copied.manifest.write_text(json.dumps(fields))
    assert str(copied.manifest) in refused(monkeypatch, capsys, copied.onnx)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"null"])
def test_a_manifest_that_is_none(
    copied: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    copied.manifest.write_bytes(content)
    message = refused(monkeypatch, capsys, copied.onnx)
    assert str(copied.manifest) in message
    assert "serpent-export" in message
