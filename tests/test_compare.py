"""Pictures side by side and against a reference; results of another size."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from serpent.errors import PictureError, UsageError
from serpent.metrics import psnr, ssim
from serpent.pictures import Encoding, Metadata, Picture, read_picture, write_picture
from serpent.pictures.compare import GAP, closeness, side_by_side
from serpent.pictures.resize import resized
from serpent_cli.main import run_infer
from tests.fakes import FakeSession

RANDOM = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RANDOM.random(shape, dtype=np.float32)


def test_closeness_is_psnr_and_ssim() -> None:
    a, b = noise(20, 30, 3), noise(20, 30, 3)
    found = closeness(Picture(a), Picture(b))
    assert (found.psnr, found.ssim) == (psnr(a, b), ssim(a, b))
    assert str(found) == f"PSNR {found.psnr:.2f} dB, SSIM {found.ssim:.4f}"
    small = closeness(Picture(a[:5, :5]), Picture(a[:5, :5]))
    assert (small.psnr, small.ssim) == (math.inf, None)
    with pytest.raises(PictureError, match="the reference has 30x20 pixels, the picture 30x19"):
        closeness(Picture(a), Picture(b[:19]))


def test_of_transparent_pictures_what_is_seen_is_measured() -> None:
    a, b, alpha = noise(20, 30, 3), noise(20, 30, 3), noise(20, 30)
    found = closeness(Picture(a, alpha), Picture(b, alpha))
    # On either ground an equal transparency leaves its share of the colours' difference.
    assert found.psnr == pytest.approx(psnr(a * alpha[..., None], b * alpha[..., None]), abs=1e-3)
    assert found.ssim is not None
    assert str(found) == f"PSNR {found.psnr:.2f} dB, SSIM {found.ssim:.4f} (over white and black)"
    hidden = alpha * (np.arange(30) < 15)
    elsewhere = np.where(hidden[..., None] == 0, b, a)
    assert closeness(Picture(a, hidden), Picture(elsewhere, hidden)).psnr == math.inf  # nobody sees where they differ
    white = np.ones_like(a)
    # Opaque white and transparent white are one picture on white; on black they are as far apart as can be.
    lost = closeness(Picture(white), Picture(white, np.zeros_like(alpha)))
    assert lost.psnr == pytest.approx(10 * math.log10(2))


def test_pictures_stand_side_by_side() -> None:
    a, b = noise(4, 5, 3), noise(4, 7, 3)
    both = side_by_side([Picture(a), Picture(b)])
    assert both.pixels.shape == (4, 5 + GAP + 7, 3)
    assert both.alpha is None
    np.testing.assert_array_equal(both.pixels[:, :5], a)
    np.testing.assert_array_equal(both.pixels[:, 5 + GAP :], b)
    assert (both.pixels[:, 5 : 5 + GAP] == 1).all()
    assert both.bits == 8
    assert side_by_side([Picture(a, bits=16), Picture(b)]).bits == 16


def test_side_by_side_pictures_keep_transparency_and_a_profile_that_they_share() -> None:
    alpha = noise(4, 5)
    glass = Picture(noise(4, 5, 3), alpha, metadata=Metadata(icc=b"one"))
    both = side_by_side([glass, Picture(noise(4, 7, 3), metadata=Metadata(icc=b"one"))])
    assert both.alpha is not None
    np.testing.assert_array_equal(both.alpha[:, :5], alpha)
    assert (both.alpha[:, 5:] == 1).all()
    assert both.metadata == Metadata(icc=b"one")
    assert side_by_side([glass, Picture(noise(4, 7, 3))]).metadata.icc is None


@pytest.mark.parametrize(
    ("size", "expected"),
    [("60x", (40, 60)), ("x10", (10, 15)), ("7x9", (9, 7)), ("50%", (10, 15)), ("333%", (67, 100)), ("1x1", (1, 1))],
)
@pytest.mark.parametrize("alpha", [False, True])
def test_sizes(size: str, expected: tuple[int, int], alpha: bool) -> None:
    result = resized(Picture(noise(20, 30, 3), noise(20, 30) if alpha else None), size)
    assert result.pixels.shape == (*expected, 3)
    assert (result.alpha is None) != alpha
    if result.alpha is not None:
        assert result.alpha.shape == expected
    assert result.pixels.dtype == np.float32


def test_a_flat_picture_stays_flat_and_hidden_colours_do_not_bleed() -> None:
    pixels = np.full((32, 32, 3), 0.25, dtype=np.float32)
    alpha = np.zeros((32, 32), dtype=np.float32)
    alpha[:, 16:] = 1
    pixels[:, :16] = 1  # hidden
    result = resized(Picture(pixels, alpha), "50%")
    assert result.alpha is not None
    np.testing.assert_allclose(result.pixels[result.alpha > 0.01], 0.25, atol=1e-5)


@pytest.mark.parametrize("size", ["", "x", "0x5", "-3x4", "3", "0%", "12px"])
def test_no_size(size: str) -> None:
    with pytest.raises(UsageError, match="is neither WxH"):
        Encoding(resize=size)


def test_twice_is_not_a_width() -> None:
    with pytest.raises(UsageError, match="'2x' means a width of 2 pixels alone") as refused:
        Encoding(resize="2x")
    assert refused.value.hint == "2 times as large is --resize 200%"
    assert Encoding(resize="2x3").resize == "2x3"


def infer(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("serpent.runtime.open.open_session", lambda *_, **__: FakeSession())
    monkeypatch.setattr(sys, "argv", ["serpent-infer", "m.onnx", *map(str, arguments)])
    with pytest.raises(SystemExit) as leaving:
        run_infer()
    return int(leaving.value.code or 0)


def test_the_command_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, truth = tmp_path / "a.png", tmp_path / "truth.png"
    write_picture(picture, noise(24, 32, 3))
    write_picture(truth, 1 - read_picture(picture).pixels)  # what the session of this test gives
    options = ("--reference", truth, "--compare", tmp_path / "both.png", "--resize", "50%")
    assert infer(monkeypatch, picture, *options, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    before = closeness(read_picture(truth), read_picture(picture))
    assert report["picture_psnr"] == round(before.psnr, 4)
    assert report["restored_ssim"] == pytest.approx(1, abs=1e-4)
    assert report["compare"] == str(tmp_path / "both.png")
    assert report["measured_over"] == "colours"
    assert read_picture(tmp_path / "both.png").pixels.shape == (24, 3 * 32 + 2 * GAP, 3)
    assert read_picture(tmp_path / "a_restored.png").pixels.shape == (12, 16, 3)
    assert infer(monkeypatch, picture, *options, "--overwrite") == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"picture against {truth}: {before}" in lines
    assert lines[-2] == f"side by side: {tmp_path / 'both.png'}"


def test_the_command_compares_what_is_transparent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, both = tmp_path / "glass.png", tmp_path / "both.png"
    write_picture(picture, Picture(noise(24, 32, 3), noise(24, 32)))
    source = read_picture(picture)
    assert infer(monkeypatch, picture, "--reference", picture, "--compare", both, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["picture_psnr"], report["measured_over"]) == (None, "white and black")
    sheet = read_picture(both)
    assert sheet.alpha is not None
    np.testing.assert_array_equal(sheet.alpha[:, :32], source.alpha)
    np.testing.assert_allclose(sheet.alpha[:, 32 + GAP : 64 + GAP], 1 - source.alpha, atol=1e-6)
    assert (sheet.alpha[:, 32 : 32 + GAP] == 1).all()
    assert infer(monkeypatch, picture, "--compare", tmp_path / "both.jpg", "--overwrite") == 0
    assert "note: both.jpg: JPEG cannot keep transparency (put on white)" in capsys.readouterr().out.splitlines()


def test_a_comparison_wider_than_its_format_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, both = tmp_path / "wide.png", tmp_path / "both.webp"
    write_picture(picture, noise(1, 8188, 3))
    assert infer(monkeypatch, picture, "--compare", both) == 1
    assert "no side of more than 16383 pixels, and the result has 16384x1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [picture]
    write_picture(picture, noise(1, 8187, 3), overwrite=True)
    assert infer(monkeypatch, picture, "--compare", both) == 0
    assert read_picture(both).pixels.shape == (1, 16382, 3)


def test_a_reference_of_another_size_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(tmp_path / "a.png", noise(24, 32, 3))
    write_picture(tmp_path / "b.png", noise(24, 31, 3))
    assert infer(monkeypatch, tmp_path / "a.png", "--reference", tmp_path / "b.png") == 1
    assert "the reference has 31x24 pixels" in capsys.readouterr().err
    assert infer(monkeypatch, tmp_path / "a.png", tmp_path / "b.png", "--compare", tmp_path / "c.png") == 2
