"""``serpent-infer`` around a session that needs no model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serpent.pictures import Metadata, Picture, read_picture, write_picture
from serpent_cli.main import run_infer
from tests.fakes import FakeSession

LEVELS = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(LEVELS).save(path)
    return path


class Opened:
    """Stands in for ``open_session`` and remembers its arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[Path, str, str | None, int | None]] = []
        self.others: dict[str, object] = {}
        self.session = FakeSession(notes=("the scan runs on the file's own function",))

    def __call__(
        self, path: Path, device: str, *, scan: str | None, threads: int | None, **others: object
    ) -> FakeSession:
        self.calls.append((path, device, scan, threads))
        self.others = others
        return self.session


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    stand_in = Opened()
    monkeypatch.setattr("serpent.runtime.open.open_session", stand_in)
    return stand_in


def infer(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["serpent-infer", *map(str, arguments)])
    with pytest.raises(SystemExit) as leaving:
        run_infer()
    return int(leaving.value.code or 0)


def test_the_result_lies_beside_the_picture_and_one_line_says_how(
    photo: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(monkeypatch, "model.onnx", photo) == 0
    result = photo.with_name("photo_restored.png")
    np.testing.assert_array_equal(np.asarray(Image.open(result)), 255 - LEVELS)
    captured = capsys.readouterr()
    assert captured.err.startswith("peak memory: not predicted for this model")
    line, memory, note, untrained = captured.out.splitlines()
    assert line.startswith(f"{result}  90x70  onnxruntime on cpu, native scan, ")
    assert memory.startswith("peak memory ")
    assert memory.endswith("B, not predicted")
    assert note == "note: the scan runs on the file's own function"
    assert untrained == "note: the weights of this model are untrained: the result is no restoration"
    assert opened.calls == [(Path("model.onnx"), "auto", None, None)]
    assert opened.session.closed


@pytest.mark.parametrize(("name", "expected"), [("a.JPG", "a_restored.JPG"), ("a.b.gif", "a.b_restored.png")])
def test_the_result_keeps_the_format_where_it_can(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    Image.fromarray(LEVELS).save(tmp_path / name)
    assert infer(monkeypatch, "model.onnx", tmp_path / name) == 0
    assert (tmp_path / expected).is_file()
    assert len(opened.calls) == 1


@pytest.mark.usefixtures("opened")
def test_json_is_one_object_on_stdout_and_nothing_else(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = photo.with_name("out.webp")
    assert infer(monkeypatch, "model.onnx", photo, "-o", output, "--json") == 0
    captured = capsys.readouterr()
    report: dict[str, Any] = json.loads(captured.out)
    assert captured.err == ""
    assert report.pop("seconds") >= 0
    assert report.pop("load_seconds") >= 0
    memory = report.pop("memory")
    assert memory.keys() == {"predicted_peak", "measured_peak", "free_before"}
    assert memory["predicted_peak"] is None
    assert report == {
        "output": str(output),
        "width": 90,
        "height": 70,
        "backend": "onnxruntime",
        "device": "cpu",
        "scan": "native",
        "precision": "fp32",
        "task": "deblur",
        "weights": "untrained",
        "notes": [
            "the scan runs on the file's own function",
            "the weights of this model are untrained: the result is no restoration",
        ],
    }


def test_options_reach_the_session(photo: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    assert infer(monkeypatch, "m.onnx", photo, "--device", "cuda:1", "--scan", "function", "--threads", 3) == 0
    assert opened.calls == [(Path("m.onnx"), "cuda:1", "function", 3)]
    assert opened.others["allow_native_code"] is None
    assert infer(monkeypatch, "m.plan", photo, "--allow-native-code", "--overwrite") == 0
    assert opened.others["allow_native_code"] is True


def test_native_code_is_no_choice_of_other_files(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(monkeypatch, "m.onnx", photo, "--allow-native-code") == 2
    assert "allow_native_code was given for m.onnx; only .plan files have such a choice" in capsys.readouterr().err


def test_an_existing_result_needs_overwrite_and_is_refused_before_the_model_loads(
    photo: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = photo.with_name("photo_restored.png")
    result.write_text("mine")
    assert infer(monkeypatch, "model.onnx", photo) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert result.read_text() == "mine"
    assert opened.calls == []
    assert infer(monkeypatch, "model.onnx", photo, "--overwrite") == 0
    assert Image.open(result).size == (90, 70)


def test_of_a_missing_picture_nothing_else_is_said(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photo_restored.png").write_text("of another picture")
    assert infer(monkeypatch, "model.onnx", tmp_path / "photo.pgn") == 1
    said = capsys.readouterr().err
    assert "photo.pgn: No such file" in said
    assert "exists already" not in said
    assert opened.calls == []


@pytest.mark.usefixtures("opened")
def test_notes_on_the_picture_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.dstack([LEVELS, LEVELS[..., :1]])).save(tmp_path / "glass.png")
    assert infer(monkeypatch, "model.onnx", tmp_path / "glass.png", "-o", tmp_path / "a.jpg") == 0
    assert "note: a.jpg: JPEG cannot keep transparency (put on white)" in capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("opened")
def test_depth_and_transparency_stay_unless_asked_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, alpha = LEVELS.astype(np.float32) / 255, LEVELS[..., 0].astype(np.float32) / 255
    write_picture(tmp_path / "a.png", Picture(pixels, alpha, bits=16, metadata=Metadata(resolution=(300, 300))))
    assert infer(monkeypatch, "model.onnx", tmp_path / "a.png") == 0
    kept = read_picture(tmp_path / "a_restored.png")
    assert kept.alpha is not None
    assert (kept.bits, kept.metadata.resolution) == (16, pytest.approx((300, 300), rel=1e-3))
    np.testing.assert_allclose(kept.alpha, 1 - alpha, atol=1 / 65535)
    options = ("--depth", 8, "--strip", "--overwrite")
    assert infer(monkeypatch, "model.onnx", tmp_path / "a.png", *options) == 0
    changed = read_picture(tmp_path / "a_restored.png")
    assert (changed.bits, changed.metadata.resolution) == (8, None)


@pytest.mark.usefixtures("opened")
def test_a_picture_over_the_limit_is_refused(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(monkeypatch, "model.onnx", photo, "--max-pixels", 6299) == 1
    assert "90x70 pixels" in capsys.readouterr().err
    assert infer(monkeypatch, "model.onnx", photo, "--max-pixels", 6300) == 0


def test_tiles_and_the_self_ensemble(
    photo: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(monkeypatch, "m.onnx", photo, "--tta", "--overlap", 0) == 0
    assert len(opened.session.shapes) == 8 * 2 * 2
    result = photo.with_name("photo_restored.png")
    np.testing.assert_array_equal(np.asarray(Image.open(result)), 255 - LEVELS)
    assert infer(monkeypatch, "m.onnx", photo, "--tile", "off", "--overwrite") == 2
    assert "--tile auto" in capsys.readouterr().err
    assert infer(monkeypatch, "m.onnx", photo, "--tile", "some", "--overwrite") == 2
    assert "neither auto, off nor a number" in capsys.readouterr().err


def test_the_precision_reaches_the_session(photo: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    assert infer(monkeypatch, "m.safetensors", photo, "--precision", "bf16") == 0
    assert opened.others["precision"] == "bf16"


@pytest.mark.parametrize("option", ["--output", "--compare"])
def test_the_picture_itself_is_never_written_over_unasked(
    photo: Path,
    opened: Opened,
    option: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = photo.read_bytes()
    (photo.parent / "link.png").symlink_to(photo)
    for name in (photo, photo.parent / "link.png"):
        assert infer(monkeypatch, "m.onnx", photo, option, name, "--overwrite") == 2
        assert "--in-place" in capsys.readouterr().err
    assert infer(monkeypatch, "m.onnx", photo, "-o", photo.parent / "b.png", "--compare", photo.parent / "b.png") == 2
    assert photo.read_bytes() == before
    assert opened.calls == []
