"""Which files an export names, keeps and refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serpent.config import SerpentConfig
from serpent.errors import ParityError, UsageError
from serpent.manifest import load_manifest
from serpent.runtime.tensorrt_library import RTX, installed_version
from serpent.shapes import parse_profile
from serpent_export import export
from serpent_export.api import _stem
from serpent_export.graph import GraphRequest
from serpent_export.staging import move_together, staged

needs_rtx = pytest.mark.skipif(installed_version(RTX) is None, reason="TensorRT-RTX is not installed (extra rtx)")


@pytest.mark.parametrize(
    ("resolution", "batch", "expected"),
    [
        ("512", "1", "serpent-h-512-fp16"),
        ("0512", "01", "serpent-h-512-fp16"),
        ("512x512", "1", "serpent-h-512-fp16"),
        ("512:512:512", "1:1:1", "serpent-h-512-fp16"),
        ("512x768", "4", "serpent-h-512x768-b4-fp16"),
        ("256:512:2048", "1:1:8", "serpent-h-256-512-2048-b1-1-8-fp16"),
        ("256x512:512x512:512x768", "1", "serpent-h-256x512-512x512-512x768-fp16"),
    ],
)
def test_equal_sizes_have_equal_names(resolution: str, batch: str, expected: str) -> None:
    config = SerpentConfig.from_variant("H")
    profile = parse_profile(config, resolution, batch)
    assert _stem(config, GraphRequest(profile, "fp16")) == expected
    assert _stem(config, GraphRequest(profile, "fp16", "u8-nhwc", inline_scan=True)) == f"{expected}-u8-nhwc-inline"


@pytest.mark.slow
@needs_rtx
def test_a_plan_joins_the_manifest_of_its_onnx_file(tmp_path: Path) -> None:
    export(variant="B", resolution="32", formats="onnx", out=tmp_path)
    export(variant="B", resolution="32", formats="plan", out=tmp_path, overwrite=True)
    manifest = load_manifest(tmp_path / "serpent-b-32-fp32.json")
    for kind in ("onnx", "plan"):
        manifest.check_digest(tmp_path / f"serpent-b-32-fp32.{kind}")
    # A file of another graph cannot share the manifest.
    (tmp_path / "serpent-b-32-fp32.onnx").write_bytes(b"another")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match="serpent-b-32-fp32.onnx is from another export"):
        export(variant="B", resolution="32", formats="plan", out=tmp_path, overwrite=True)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("option", "value"), [("targets", "sm86"), ("engine", "rtx")])
def test_options_of_plans_are_refused_without_one(tmp_path: Path, option: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"--{option} {value} is for plans"):
        export(variant="B", resolution="32", formats="onnx", out=tmp_path, **{option: value})


@pytest.mark.parametrize(("resolution", "batch"), [("3200000", "1"), ("512", "2000000")])
def test_sizes_that_no_runtime_can_index_are_refused(tmp_path: Path, resolution: str, batch: str) -> None:
    with pytest.raises(UsageError, match="elements, more than 2147483647"):
        export(variant="B", resolution=resolution, batch=batch, out=tmp_path)


@pytest.mark.parametrize("module", ["onnx", "onnxruntime"])
def test_opening_an_onnx_file_names_the_missing_extra(tmp_path: Path, module: str) -> None:
    (tmp_path / "model.onnx").write_bytes(b"any")
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from serpent.runtime import open_session\n"
        "from serpent.errors import MissingExtraError\n"
        "try: open_session('model.onnx')\n"
        "except MissingExtraError as error: print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "serpent-restoration[onnx]" in done.stdout, done.stderr


def test_what_another_export_wrote_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    names = ["a.onnx", "a.json"]

    def export_beside_another() -> None:
        with staged(tmp_path, names, overwrite=False) as folder:
            for name in names:
                (folder / name).write_text("second")
            (tmp_path / "a.json").write_text("first")

    with pytest.raises(UsageError, match=r"a\.json exists already"):
        export_beside_another()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": "first"}


def test_a_failed_export_leaves_no_new_folder(tmp_path: Path) -> None:
    def fail(out: Path) -> None:
        with staged(out, ["a.onnx"], overwrite=False) as folder:
            (folder / "a.onnx").write_text("half")
            raise ParityError("it misses its bound")

    (tmp_path / "old").mkdir()
    for out in (tmp_path / "new" / "deeper", tmp_path / "old"):
        with pytest.raises(ParityError):
            fail(out)
    assert list(tmp_path.rglob("*")) == [tmp_path / "old"]


def test_a_failed_move_puts_the_old_files_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = tmp_path / "new", tmp_path / "out"
    names = ["a.onnx", "a.plan", "a.json"]
    for place, text in ((folder, "new"), (out, "old")):
        place.mkdir()
        for name in names:
            (place / name).write_text(text)
    replace = Path.replace

    def fails_once(path: Path, target: Path) -> Path:
        if path == folder / "a.json":
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fails_once)
    with pytest.raises(OSError, match="No space left"):
        move_together(folder, out, names)
    assert {path.name: path.read_text() for path in out.iterdir()} == dict.fromkeys(names, "old")
    monkeypatch.undo()
    (folder / "replaced").rmdir()
    for name in names:
        (folder / name).write_text("new")
    move_together(folder, out, names)
    assert {path.name: path.read_text() for path in out.iterdir()} == dict.fromkeys(names, "new")
