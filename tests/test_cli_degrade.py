"""``serpent-degrade``: files in, degraded files out, as an evaluation degrades them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serpent.degradations import degrade, generator, task_names
from serpent.evaluation import Pairs
from serpent.pictures import Metadata, Picture, read_picture, write_picture
from serpent_cli.main import run_degrade
from tests.photographs import photo, saved


@pytest.fixture
def leave(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["serpent-degrade", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            run_degrade()
        return int(leaving.value.code or 0)

    return run


def quantised(pixels: NDArray[np.float32], bits: int = 8) -> NDArray[np.float32]:
    return np.rint(pixels * (2**bits - 1)) / np.float32(2**bits - 1)


def test_a_folder_keeps_its_tree_and_is_degraded_as_for_an_evaluation(
    tmp_path: Path, leave: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path / "in", "a.png", "b/c.png", "b/d.png")
    assert leave(folder, tmp_path / "out", "--task", "motion", "--seed", 4) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}  3 degraded (motion, seed 4)\n"
    for pair in Pairs(folder, "motion", seed=4):
        np.testing.assert_allclose(
            read_picture(tmp_path / "out" / pair.name).pixels, quantised(pair.degraded), atol=1e-6
        )


def test_one_file_is_known_by_its_name(tmp_path: Path, leave: Callable[..., int]) -> None:
    folder = saved(tmp_path / "in", "deep/a.png")
    assert leave(folder / "deep" / "a.png", tmp_path / "x.png") == 0
    source = read_picture(folder / "deep" / "a.png").pixels
    expected = quantised(degrade(source, "deblur", generator(0, "a.png")))
    np.testing.assert_allclose(read_picture(tmp_path / "x.png").pixels, expected, atol=1e-6)


def test_depth_transparency_and_metadata_follow_the_picture(tmp_path: Path, leave: Callable[..., int]) -> None:
    alpha = np.linspace(0, 1, 20 * 30, dtype=np.float32).reshape(20, 30)
    source = Picture(photo(0, 20, 30), alpha, bits=16, metadata=Metadata(resolution=(300.0, 300.0)))
    write_picture(tmp_path / "a.png", source)
    assert leave(tmp_path / "a.png", tmp_path / "b.png") == 0
    before, after = read_picture(tmp_path / "a.png"), read_picture(tmp_path / "b.png")
    assert after.bits == 16
    assert after.metadata.resolution == pytest.approx((300, 300), rel=1e-4)
    assert after.alpha is not None
    np.testing.assert_array_equal(after.alpha, before.alpha)
    expected = quantised(degrade(before.pixels, "deblur", generator(0, "a.png")), 16)
    np.testing.assert_allclose(after.pixels, expected, atol=1e-7)


def test_a_gray_picture_stays_gray_with_noise_of_full_strength(tmp_path: Path, leave: Callable[..., int]) -> None:
    Image.new("L", (80, 60), 128).save(tmp_path / "a.png")
    assert leave(tmp_path / "a.png", tmp_path / "b.png", "--task", "denoise") == 0
    after = read_picture(tmp_path / "b.png")
    assert after.gray
    assert after.pixels[..., 0].std() == pytest.approx(25 / 255, rel=5 / np.sqrt(2 * 4800))


def test_what_the_format_cannot_keep_is_said(
    tmp_path: Path, leave: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(tmp_path / "a.png", Picture(photo(0, 20, 30), bits=16))
    assert leave(tmp_path / "a.png", tmp_path / "b.jpg") == 0
    assert "note: b.jpg: JPEG cannot keep 16-bit samples" in capsys.readouterr().out


def test_what_fails_in_a_folder_is_listed_and_the_rest_is_done(
    tmp_path: Path, leave: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path / "in", "a.png", "b.png", "c.png")
    (folder / "b.png").write_bytes(b"broken")
    assert leave(folder, tmp_path / "out", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [Path(each["output"]).name for each in found["degraded"]] == ["a.png", "c.png"]
    assert "b.png is no picture" in found["failed"][0]["error"]["message"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    assert leave(folder, tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'out'}  0 degraded (deblur, seed 0), 3 failed\n"
    assert captured.err.count("exists already\n  add --overwrite") == 2
    assert leave(folder / "a.png", tmp_path / "out" / "a.png", "--overwrite") == 0


def test_a_folder_that_cannot_be_read_is_listed_and_the_rest_is_done(
    tmp_path: Path, leave: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, scandir = saved(tmp_path / "in", "a.png", "b/c.png"), os.scandir

    def refusing(path: Any) -> Any:
        if os.fspath(path) == os.fspath(folder / "b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert leave(folder, tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert captured.out.endswith("1 degraded (deblur, seed 0), 1 failed\n")
    assert captured.err == f"failed: cannot read the folder {folder / 'b'}: Permission denied\n"


@pytest.mark.parametrize(
    ("source", "target", "code", "message"),
    [
        ("absent.png", "x.png", 1, "absent.png: No such file"),
        ("in/a.png", "x.doc", 2, "x.doc has the suffix '.doc', which cannot be written"),
        ("in/a.png", "in", 2, "is a folder; expected a file name"),
        ("in/a.png", "in/a.png", 2, "a.png, a result, is one of the pictures to degrade"),
        ("in/a.png", "no/x.png", 2, "no does not exist"),
        ("in", "in", 2, "a.png, a result, is one of the pictures to degrade"),
        ("in", "file", 2, "file is a file"),
        ("in", "x.png", 2, "x.png is named like a picture"),
        ("empty", "x", 2, "empty holds no picture"),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    leave: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    source: str,
    target: str,
    code: int,
    message: str,
) -> None:
    saved(tmp_path / "in", "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert leave(tmp_path / source, tmp_path / target) == code
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_unknown_task_writes_nothing(
    tmp_path: Path, leave: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path / "in", "a.png")
    assert leave(folder, tmp_path / "out", "--task", "blur", "--json") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"].startswith("unknown task 'blur'; known tasks are deblur")
    assert not (tmp_path / "out").exists()


def test_the_list_names_every_task(leave: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(task_names())
    assert "Gaussian blur (61 x 61, sigma 3 pixels), then Gaussian noise (sigma 0.05)." in lines[1]
