"""``serpent-infer`` over many pictures, around a session that needs no model."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serpent.runtime.memory import Memory
from serpent.shapes import Range
from serpent_cli.main import run_infer
from tests.fakes import FakeSession, profile

LEVELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    fake = FakeSession()
    monkeypatch.setattr("serpent.runtime.open.open_session", lambda *_, **__: fake)
    return fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, name in enumerate(("a.png", "b/c.png", "b/d.png", "e.png")):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(LEVELS, index)).save(tmp_path / "in" / name)
    return tmp_path / "in"


def infer(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["serpent-infer", "model.onnx", *map(str, arguments)])
    with pytest.raises(SystemExit) as leaving:
        run_infer()
    return int(leaving.value.code or 0)


def levels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.usefixtures("session")
def test_a_folder_goes_into_a_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(monkeypatch, folder, "--out-dir", tmp_path / "out") == 0
    for index, name in enumerate(("a.png", "b/c.png", "b/d.png", "e.png")):
        np.testing.assert_array_equal(levels(tmp_path / "out" / name), 255 - np.roll(LEVELS, index))
    summary, *_, note = capsys.readouterr().out.splitlines()
    assert summary.startswith("4 restored, 0 failed in ")
    assert note == "note: the weights of this model are untrained: the result is no restoration"


def test_the_peak_memory_is_said_before_the_run_and_again_where_it_grows(
    folder: Path,
    tmp_path: Path,
    session: FakeSession,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    session.info = dataclasses.replace(session.info, profile=profile(Range(8, 64, None)))
    Image.fromarray(np.zeros((400, 400, 3), np.uint8)).save(folder / "f.png")
    monkeypatch.setattr(session, "run_bytes", lambda _batch, height, width: 1000 * height * width)
    monkeypatch.setattr(session, "memory", lambda: Memory(used=1_000_000, peak=2_000_000, free=10**9))
    assert infer(monkeypatch, folder, "--out-dir", tmp_path / "out") == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "peak memory: 2.0 MB predicted, 1.0 GB free",
        "peak memory: 162.9 MB predicted, 1.0 GB free",
    ]
    assert shown.out.splitlines()[1] == "peak memory 2.0 MB, predicted 162.9 MB"
    assert infer(monkeypatch, folder, "--out-dir", tmp_path / "again", "--json") == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    predicted = 1_000_000 + 400 * 400 * (1000 + 12)  # what is held, the run, and the result's floats
    assert done["memory"] == {"predicted_peak": predicted, "measured_peak": 2_000_000, "free_before": 10**9}


@pytest.mark.usefixtures("session")
def test_what_fails_is_listed_at_the_end_and_the_rest_is_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "b" / "c.png").write_bytes(b"broken")
    (folder / "e_restored.png").write_text("mine")
    assert infer(monkeypatch, folder) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("2 restored, 2 failed in ")
    assert "c.png is no picture" in captured.err
    assert "e_restored.png exists already\n  add --overwrite" in captured.err
    assert (folder / "e_restored.png").read_text() == "mine"
    np.testing.assert_array_equal(levels(folder / "b" / "d_restored.png"), 255 - np.roll(LEVELS, 2))


def test_skip_existing_goes_on_where_a_run_ended(
    folder: Path, session: FakeSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(monkeypatch, folder / "a.png", folder / "e.png") == 0
    runs = len(session.shapes)
    assert infer(monkeypatch, folder, "--skip-existing") == 0
    assert "2 restored, 2 skipped (there already), 0 failed" in capsys.readouterr().out
    assert len(session.shapes) == 2 * runs


def test_several_devices_share_the_pictures(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2, timeout=30)  # both are in the network at once, or the test ends here

    class OnDevice(FakeSession):
        def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
            together.wait()
            return super().run(image)

    opened: dict[str, OnDevice] = {}
    monkeypatch.setattr(
        "serpent.runtime.open.open_session", lambda _, device, **__: opened.setdefault(device, OnDevice())
    )
    assert infer(monkeypatch, folder, "--out-dir", tmp_path / "out", "--device", "cuda:0,cuda:1") == 0
    assert {device: len(session.shapes) for device, session in opened.items()} == {"cuda:0": 2, "cuda:1": 2}
    assert all(session.closed for session in opened.values())
    for index, name in enumerate(("a.png", "b/c.png", "b/d.png", "e.png")):
        np.testing.assert_array_equal(levels(tmp_path / "out" / name), 255 - np.roll(LEVELS, index))


@pytest.mark.usefixtures("session")
def test_in_place_replaces_and_must_be_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for pictures in (folder, folder / "a.png"):
        assert infer(monkeypatch, pictures, "--suffix", "") == 2
        assert "--in-place" in capsys.readouterr().err
    np.testing.assert_array_equal(levels(folder / "a.png"), LEVELS)
    assert infer(monkeypatch, folder, "--in-place") == 0
    np.testing.assert_array_equal(levels(folder / "a.png"), 255 - LEVELS)


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("suffix", ["", "_new"])
def test_in_place_replaces_no_other_picture(
    folder: Path, suffix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / f"a{suffix}.png").write_text("another one")
    Image.fromarray(LEVELS).save(folder / "a.gif")
    arguments = ("--suffix", suffix) if suffix else ()
    assert infer(monkeypatch, folder / "a.gif", "--in-place", *arguments) == 1
    assert f"a{suffix}.png exists already" in capsys.readouterr().err
    assert (folder / f"a{suffix}.png").read_text() == "another one"


@pytest.mark.usefixtures("session")
def test_in_place_loses_no_frames_or_pages(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [Image.fromarray(np.roll(LEVELS, index)) for index in range(3)]
    for name in ("a.png", "f.tif", "g.webp"):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:])
    before = {path.name: path.read_bytes() for path in folder.glob("[afg].*")}
    assert infer(monkeypatch, folder, "--in-place") == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("3 restored, 3 failed")
    assert captured.err.count("has several frames or pages") == 3
    assert {path.name: path.read_bytes() for path in folder.glob("[afg].*")} == before
    assert infer(monkeypatch, folder, "--out-dir", folder / "out") == 0


@pytest.mark.usefixtures("session")
def test_going_on_takes_no_results_for_pictures(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in ((), ("--out-dir", folder / "out")):
        assert infer(monkeypatch, folder / "**" / "?.png", *options) == 0
        (folder / "out" / "e.png" if options else folder / "e_restored.png").unlink()
        capsys.readouterr()
        assert infer(monkeypatch, folder / "**" / "*.png", *options, "--skip-existing") == 0
        assert capsys.readouterr().out.startswith("1 restored, 3 skipped (there already), 0 failed")
        for result in folder.rglob("*_restored.png"):
            result.unlink()


@pytest.mark.usefixtures("session")
def test_a_list_on_stdin_may_hold_any_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = [b"two words.png", b"new\nline.png", b"\xff.png"]
    for name in odd:
        Image.fromarray(LEVELS).save(folder / os.fsdecode(name), "PNG")
    data = b"\0".join(os.fsencode(folder) + b"/" + name for name in odd) + b"\0"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert infer(monkeypatch, "--files-from", "-", "-0", "--out-dir", tmp_path / "out") == 0
    assert sorted(os.fsencode(path.name) for path in (tmp_path / "out").iterdir()) == sorted(odd)


@pytest.mark.usefixtures("session")
def test_patterns_that_no_shell_resolved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert infer(monkeypatch, folder / "**" / "[cd].png") == 0
    assert sorted(path.name for path in folder.rglob("*_restored.png")) == ["c_restored.png", "d_restored.png"]
    assert infer(monkeypatch, folder / "*.tif") == 2
    (folder / "b" / "notes.txt").touch()  # in a folder, which is what ** stands for, and so no mistake
    assert infer(monkeypatch, folder / "**", "--overwrite") == 0
    assert sum(1 for _ in folder.rglob("*_restored.png")) == 4


@pytest.fixture
def twins(folder: Path) -> Path:
    """Two pictures of one name, in a tree."""
    (folder / "b" / "e.png").write_bytes((folder / "a.png").read_bytes())
    return folder


EVERYTHING = ["a.png", "b", "b/c.png", "b/d.png", "b/e.png", "e.png"]


def tree_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.usefixtures("session")
def test_a_pattern_keeps_its_tree_from_the_first_wildcard_on(
    twins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert infer(monkeypatch, twins / "**" / "*.png", "--out-dir", tmp_path / "out") == 0
    assert tree_of(tmp_path / "out") == EVERYTHING
    monkeypatch.chdir(twins)
    assert infer(monkeypatch, "*/[cd].png", "--out-dir", tmp_path / "relative") == 0
    assert tree_of(tmp_path / "relative") == ["b", "b/c.png", "b/d.png"]
    assert infer(monkeypatch, "b/[cd].png", "--out-dir", tmp_path / "fixed") == 0
    assert tree_of(tmp_path / "fixed") == ["c.png", "d.png"]


@pytest.mark.usefixtures("session")
def test_a_pattern_that_leads_out_of_its_fixed_part(
    twins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (twins / "b" / "deeper").mkdir()
    assert infer(monkeypatch, twins / "b" / "*" / "../../a.png", "--out-dir", tmp_path / "out") == 0
    assert tree_of(tmp_path / "out") == ["a.png"]


@pytest.mark.usefixtures("session")
def test_a_list_keeps_the_tree_below_the_folder_that_its_entries_share(
    twins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [os.fsencode(path) for path in (twins, *twins.rglob("*"))]  # find prints the folders as well
    for number, entries in enumerate((found, [entry for entry in found if entry.endswith(b".png")])):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\0".join(entries))))
        assert infer(monkeypatch, "--files-from", "-", "-0", "--out-dir", tmp_path / str(number)) == 0
        assert tree_of(tmp_path / str(number)) == EVERYTHING


@pytest.mark.usefixtures("session")
def test_a_folder_that_cannot_be_read_fails_and_the_rest_is_done(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path) == folder / "b":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert infer(monkeypatch, folder, "--out-dir", tmp_path / "out", "--skip-existing") == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("2 restored, 1 failed in ")
    assert f"failed: cannot read the folder {folder / 'b'}: Permission denied" in captured.err
    assert infer(monkeypatch, folder, "--in-place", "--json") == 1
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (failed,) = (event for event in events if event["event"] == "failed")
    assert (failed["picture"], failed["output"]) == (str(folder / "b"), None)


def test_a_result_beyond_the_limit_is_refused_before_the_network_runs(
    folder: Path,
    session: FakeSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert infer(monkeypatch, folder / "a.png", "--resize", "60000x60000") == 2
    assert "60000x60000 pixels, 3600 million; the limit is 300 million" in capsys.readouterr().err
    small = ("--resize", "200%", "--max-pixels", 2399)
    assert infer(monkeypatch, folder / "a.png", folder / "e.png", "--out-dir", tmp_path / "out", *small) == 1
    assert f"failed: {folder / 'e.png'}: the size '200%' means 60x40 pixels" in capsys.readouterr().err
    assert session.shapes == []


@pytest.mark.usefixtures("session")
def test_the_size_that_is_said_is_that_of_the_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "small.png"
    assert infer(monkeypatch, folder / "a.png", "--resize", "15x", "-o", target) == 0
    assert capsys.readouterr().out.startswith(f"{target}  15x10  ")
    assert infer(monkeypatch, folder, "--resize", "50%", "--out-dir", tmp_path / "out", "--json") == 0
    events = map(json.loads, capsys.readouterr().out.splitlines())
    sizes = {(event["width"], event["height"]) for event in events if event["event"] == "restored"}
    assert sizes == {(15, 10)}


def test_results_do_not_go_into_a_file(
    folder: Path, session: FakeSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(monkeypatch, folder, "--out-dir", folder / "a.png") == 2
    assert "a.png is a file; expected a folder" in capsys.readouterr().err
    assert session.shapes == []


@pytest.mark.usefixtures("session")
def test_in_place_keeps_modes_and_links(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.png").chmod(0o600)
    (folder / "e.png").rename(tmp_path / "original.png")
    (folder / "e.png").symlink_to("../original.png")
    assert infer(monkeypatch, folder, "--in-place") == 0
    assert (folder / "a.png").stat().st_mode & 0o777 == 0o600
    assert (folder / "e.png").is_symlink()
    np.testing.assert_array_equal(levels(tmp_path / "original.png"), 255 - np.roll(LEVELS, 3))


@pytest.mark.usefixtures("session")
def test_json_is_an_event_a_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.png").write_bytes(b"")
    assert infer(monkeypatch, folder, "--json") == 1
    events: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["start", "failed", "restored", "restored", "restored", "done"]
    assert events[0]["pictures"] == 4
    assert "empty" in events[1]["error"]["message"]
    assert (events[2]["width"], events[2]["height"], events[2]["notes"]) == (30, 20, [])
    assert {key: events[5][key] for key in ("restored", "skipped", "failed")} == {
        "restored": 3,
        "skipped": 0,
        "failed": 1,
    }


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no picture named"),
        (("a.png", "--in-place", "-o", "c.png"), "--in-place replaces the picture, --output writes c.png"),
        (("a.png", "b.png", "-o", "c.png"), "--out-dir"),
        (("a.png", "-0"), "--files-from"),
        (("--files-from", "absent.txt"), "cannot read the list absent.txt"),
        (("a.png", "--in-place", "--skip-existing"), "--in-place leaves none beside a picture"),
        (("photos/**.png",), "the pattern photos/**.png cannot be used"),
        (("a.png", "--out-dir", "out", "--compare", "c.png"), "for one picture and its --output"),
        (("a.png", "--suffix", "/b"), "the suffix '/b' names a folder"),
        (("", "--in-place"), "the name is empty"),
        (("a.png", "--out-dir", ""), "the name is empty"),
    ],
)
def test_what_makes_no_sense_together(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_list_of_null_ended_names_read_as_lines_names_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list").write_bytes(b"a.png\0b.png\0")
    assert infer(monkeypatch, "--files-from", tmp_path / "list") == 2
    assert "names that end with NUL bytes\n  add --null" in capsys.readouterr().err


def test_a_depth_that_a_format_does_not_have_fails_before_the_network_runs(
    folder: Path, session: FakeSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert infer(monkeypatch, folder, "--out-dir", tmp_path / "out", "--depth", "12") == 1
    assert infer(monkeypatch, folder / "a.png", "-o", tmp_path / "a.jpg", "--depth", "16") == 2
    assert infer(monkeypatch, folder / "a.png", "-o", tmp_path / "a.pgm") == 1
    assert infer(monkeypatch, folder / "a.png", "-o", tmp_path / "a.png", "--compare", tmp_path / "b.pgm") == 1
    assert session.shapes == []
    assert not list(tmp_path.glob("a.*"))
