"""The page of ``serpent-infer --report``, as text; tests/test_report_browser.py looks at it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serpent.files import sha256_file
from serpent.manifest import FORMAT, FORMAT_VERSION
from serpent.pictures import Metadata, Picture, read_picture, write_picture
from serpent.pictures import preview as previews
from serpent.pictures.compare import closeness
from serpent.pictures.preview import PREVIEW_SIDE, amplification, difference, preview
from serpent.runtime.inspection import Inspection
from serpent_cli.comparison import Against
from serpent_cli.main import run_infer
from serpent_cli.report import Finished, compose
from tests.fakes import FakeSession

RANDOM = np.random.default_rng(0)
HOSTILE = "\"'><script>alert(1)<script><img src=x onerror=alert(2)>$policy&amp;"


def noise(*shape: int) -> np.ndarray:
    return RANDOM.random(shape, dtype=np.float32)


class Page(HTMLParser):
    """Elements with their attributes, and the text of each element by its name."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.within: str | None = None
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.within = tag

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 (HTMLParser's signature)
        self.within = None

    def handle_data(self, data: str) -> None:
        if self.within is not None:
            self.texts[self.within] = self.texts.get(self.within, "") + data


@pytest.fixture
def model(tmp_path: Path, checkpoint: Path) -> Path:
    """A real model file; the sessions of these tests do without it."""
    copy = tmp_path / "small.safetensors"
    copy.write_bytes(checkpoint.read_bytes())
    return copy


def infer(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("serpent.runtime.open.open_session", lambda path, *_, **__: FakeSession(path))
    monkeypatch.setattr(sys, "argv", ["serpent-infer", *map(os.fspath, map(_path, arguments))])
    with pytest.raises(SystemExit) as leaving:
        run_infer()
    return int(leaving.value.code or 0)


def _path(argument: object) -> str | Path:
    return argument if isinstance(argument, (str, Path)) else str(argument)


def finished(folder: Path, name: str = "photo.png", *, kind: str = "onnx", **changes: Any) -> Finished:
    """A run that went well, of noise."""
    source = Picture(noise(20, 30, 3))
    facts = {"bytes": 1234, "sha256": "ab" * 32}
    done = Finished(
        picture=folder / name,
        target=folder / f"restored-{name}",
        source=source,
        restored=Picture(1 - source.pixels),
        info=FakeSession(folder / "model.onnx").info,
        model=Inspection(folder / "model.onnx", kind, facts, None, ()),
        load_seconds=0.25,
        seconds=1.5,
        resize=None,
        notes=(),
    )
    return dataclasses.replace(done, **changes)


def manifest(folder: Path, **fields: object) -> Path:
    info = FakeSession().info
    path = folder / "model.json"
    errors = {"max": 1.25e-6, "rms": 2e-7, "relative": 4e-7}
    case = {
        "input": {"batch": 1, "height": 64, "width": 96},
        "precision": "fp32",
        "onnxruntime": {"function": errors, "native": errors},
        "limit": {"max": 2.5e-6, "relative": 9e-7},
    }
    whole = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": info.config.to_dict(),
        "profile": info.profile.to_dict(),
        "task": "deblur",
        "precision": "fp32",
        "weights": "untrained",
        "files": {},
        "tools": {"torch": "2.0"},
        "parity": {"statement": "this file, run by ONNX Runtime: close", "cases": [case]},
    }
    path.write_text(json.dumps(whole | fields))
    return path


def test_the_command_writes_one_page_about_the_run(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photo, page = tmp_path / "photo.png", tmp_path / "out.html"
    write_picture(photo, noise(24, 32, 3))
    write_picture(tmp_path / "truth.png", 0.9 * (1 - read_picture(photo).pixels))
    options = ("--report", page, "--reference", tmp_path / "truth.png")
    assert infer(monkeypatch, model, photo, *options, "--json") == 0
    assert json.loads(capsys.readouterr().out)["report"] == str(page)
    text = page.read_text()
    found = closeness(read_picture(tmp_path / "truth.png"), read_picture(tmp_path / "photo_restored.png"))
    for expected in (
        sha256_file(model),
        "onnxruntime on cpu",
        "No manifest with a parity certificate lies beside the model.",
        "the weights of this model are untrained",
        f"{found.psnr:.2f} dB</td><td>{found.ssim:.4f}",
        "The page shows every pixel",
        "photo_restored.png",
        "truth.png",
    ):
        assert expected in text
    assert infer(monkeypatch, model, photo, *options, "--overwrite") == 0
    assert f"report: {page}" in capsys.readouterr().out.splitlines()


def test_the_page_refers_to_nothing_and_allows_only_its_own_code(tmp_path: Path) -> None:
    page = Page(compose(finished(tmp_path), Against(None, None)))
    addresses = [value for _, given in page.elements for name, value in given.items() if name in ("src", "href")]
    assert len(addresses) == 4  # the icon, two pictures and their difference
    assert all(address is not None and address.startswith("data:") for address in addresses)
    tags = [tag for tag, _ in page.elements]
    assert (tags.count("script"), tags.count("style")) == (1, 1)
    assert not {"iframe", "object", "embed", "base", "form"} & set(tags)
    assert not [name for _, given in page.elements for name in given if name.startswith("on") or name == "style"]
    assert "url(" not in page.texts["style"]
    assert "@import" not in page.texts["style"]
    (policy,) = (given["content"] for _, given in page.elements if given.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")
    for tag in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.texts[tag].encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_names_and_what_files_say_stay_text(tmp_path: Path) -> None:
    harmless = compose(finished(tmp_path), Against(None, None))
    sidecar = manifest(tmp_path, tools={HOSTILE: HOSTILE}, parity={"statement": HOSTILE, "cases": []})
    done = finished(tmp_path, HOSTILE, notes=(HOSTILE,), resize=HOSTILE)
    info = dataclasses.replace(done.info, task=HOSTILE, weights=HOSTILE, device=HOSTILE)
    facts = {**done.model.facts, "sha256": HOSTILE, "engine": {HOSTILE: HOSTILE}}
    model = Inspection(tmp_path / HOSTILE, "onnx", facts, sidecar, (HOSTILE,))
    markup = compose(dataclasses.replace(done, info=info, model=model), Against(None, None))
    page = Page(markup)
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in Page(harmless).elements} | {"ul", "li", "div"}
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert [tag for tag, _ in page.elements].count("img") == 3
    assert page.texts["title"].strip() == f"{HOSTILE}, restored"
    assert HOSTILE in page.texts["bdi"]
    assert HOSTILE not in markup


def test_a_name_that_is_no_utf8_has_its_place(tmp_path: Path) -> None:
    done = finished(tmp_path, os.fsdecode(b"\xff\xfe.png"))
    assert Page(compose(done, Against(None, None)).encode().decode()).texts["title"] == "\ufffd\ufffd.png, restored"
    noted = dataclasses.replace(done, notes=(f"{done.picture.name}: not kept: 3 further frame(s)",))
    assert "\ufffd\ufffd.png: not kept" in compose(noted, Against(None, None)).encode().decode()


def test_the_certificate_of_the_manifest_is_shown(tmp_path: Path) -> None:
    inspection = dataclasses.replace(finished(tmp_path).model, manifest=manifest(tmp_path))
    text = compose(finished(tmp_path, model=inspection), Against(None, None))
    assert "this file, run by ONNX Runtime: close." in text
    row = "<td>fp32</td><td>native</td><td>1.25e-06</td><td>2.50e-06</td>"
    assert f'<th scope="row">1x64x96</th>{row}' in text
    assert "torch 2.0" in text
    plan = dataclasses.replace(inspection, kind="plan")
    assert "Certificate of the exported ONNX file, not of this one" in compose(
        finished(tmp_path, model=plan), Against(None, None)
    )
    damaged = dataclasses.replace(inspection, manifest=manifest(tmp_path, parity={"statement": "x", "cases": [{}]}))
    assert "model.json has a damaged certificate" in compose(finished(tmp_path, model=damaged), Against(None, None))


def test_a_large_picture_is_reduced_and_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "PREVIEW_PIXELS", 150)
    text = compose(finished(tmp_path), Against(None, None))
    assert "The page shows the pictures reduced from 30x20 to 15x10 pixels" in text
    assert re.findall(r'<img [^>]*?width="(\d+)" height="(\d+)"', text) == [("15", "10")] * 3
    long = preview(Picture(np.zeros((1, 2 * PREVIEW_SIDE, 3), dtype=np.float32)))
    assert long.pixels.shape[1] <= PREVIEW_SIDE


def test_previews_leave_metadata_but_the_profile_behind() -> None:
    picture = Picture(noise(4, 5, 3), metadata=Metadata(icc=b"icc", exif=b"where it was taken", xmp=b"xmp"), bits=16)
    assert preview(picture).metadata == Metadata(icc=b"icc")


def test_differences_are_of_what_is_seen_and_amplified_alike() -> None:
    a = noise(20, 30, 3)
    b = np.clip(a + np.float32(0.03), 0, 1)
    found = difference(Picture(a), Picture(b))
    np.testing.assert_array_equal(found.pixels, np.abs(a - b))
    assert found.mean == pytest.approx(np.abs(a - b).mean())
    assert found.largest == np.abs(a - b).max()
    assert amplification([found]) == 32  # 0.03 * 32 is below white, twice as much is not
    assert amplification([found, dataclasses.replace(found, usual=0.2)]) == 4
    assert amplification([dataclasses.replace(found, usual=0.0)]) == 64
    hidden = np.zeros((20, 30), dtype=np.float32)
    assert difference(Picture(a, hidden), Picture(b, hidden)).largest == 0
    white = np.ones_like(a)
    assert difference(Picture(white, hidden), Picture(white)).pixels.min() == 1  # as black shows


def test_the_difference_on_the_page_is_amplified_as_stated(tmp_path: Path) -> None:
    a = 0.9 * noise(20, 30, 3)
    b = a + np.float32(0.02) * noise(20, 30, 3)
    text = compose(finished(tmp_path, source=Picture(a), restored=Picture(b)), Against(None, None))
    (data,) = re.findall(r'data-picture="input-result".*?base64,([^"]*)"', text)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    np.testing.assert_array_equal(shown, np.rint(np.abs(a - b) * 32 * 255))
    assert "The page shows differences 32 times their size" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.png", "b.png", "--report", "out.html"), "--compare, --reference and --report are for one picture"),
        (("-", "--report", "out.html"), "--compare, --reference and --report are for one picture"),
        (("a.png", "--report", "out.png"), "has the suffix '.png'; a report is HTML"),
        (("a.png", "--report", "old.html"), "exists already"),
        (("a.png", "--report", "none/out.html"), "does not exist"),
        (("a.png", "--report", "link.html", "--overwrite"), "is the picture itself"),
        (("picture.html", "-o", "b.png", "--report", "picture.html", "--overwrite"), "is the picture itself"),
        (("a.png", "-o", "b.png", "--compare", "c.png", "--report", "twice.html", "--overwrite"), "is named twice"),
        (("a.png", "--reference", "c.png", "--report", "twice.html", "--overwrite"), "is the reference"),
        (("a.png", "--reference", "c.png", "--compare", "c.png", "--overwrite"), "is the reference"),
    ],
)
def test_refusals_come_before_any_work(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "c.png"):
        write_picture(name, noise(4, 5, 3))
    Path("picture.html").write_bytes(Path("a.png").read_bytes())
    Path("old.html").write_text("mine")
    Path("link.html").symlink_to("a.png")
    Path("twice.html").symlink_to("c.png")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert infer(monkeypatch, model, *arguments) == 2
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_picture("a.png", noise(4, 5, 3))
    Path("out.html").write_text("mine")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert infer(monkeypatch, model, "a.png", "--report", "out.html", "--overwrite") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert Path("out.html").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a_restored.png", "out.html", model.name]
