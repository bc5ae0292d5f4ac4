"""Runs that end in the middle: what is there is whole, and a second run completes the rest."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from serpent.pictures import read_picture, write_picture

if TYPE_CHECKING:
    from conftest import Record, Scaled

KILLS = 50
PICTURES = 24
INFER = "from serpent_cli.main import run_infer; run_infer()"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "in"
    source.mkdir()
    rng = np.random.default_rng(0)
    for index in range(PICTURES):
        write_picture(
            source / f"{index:02}{('.png', '.jpg', '.tif')[index % 3]}", rng.random((96, 96, 3), dtype=np.float32)
        )
    return source


def command(checkpoint: Path, folder: Path, out: Path) -> list[str]:
    options = ("--out-dir", str(out), "--skip-existing", "--device", "cpu", "--threads", "1")
    return [sys.executable, "-c", INFER, str(checkpoint), str(folder), *options]


def results(out: Path) -> list[Path]:
    return sorted(path for path in out.iterdir() if not path.name.startswith(".")) if out.is_dir() else []


def test_a_killed_run_leaves_whole_files_and_the_next_one_goes_on(
    checkpoint: Path, folder: Path, tmp_path: Path, scaled: Scaled, record_property: Record
) -> None:
    rng = random.Random(0)
    record_property("kills", scaled(KILLS))
    for round_ in range(scaled(KILLS)):
        out = tmp_path / f"out{round_}"
        wanted = rng.randrange(1, PICTURES - 2)
        with subprocess.Popen(command(checkpoint, folder, out), stdout=subprocess.DEVNULL) as run:
            deadline = time.monotonic() + 120
            while len(results(out)) < wanted and run.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.05)
            run.send_signal(signal.SIGKILL)
        done = results(out)
        assert wanted <= len(done)
        for path in done:
            assert read_picture(path).pixels.shape == (96, 96, 3)
        (out / ".00.serpent-half.png").write_bytes(b"half")  # few signals hit while a file is being written
        subprocess.run(command(checkpoint, folder, out), check=True, stdout=subprocess.DEVNULL)
        assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in folder.iterdir())


def test_an_interrupted_run_leaves_nothing_half_done(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for path in list(folder.iterdir()):
        for number in range(50):  # so many that a busy machine cannot finish before the signal
            (folder / f"{path.stem}-{number}{path.suffix}").hardlink_to(path)
    with subprocess.Popen(command(checkpoint, folder, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        while not results(out) and run.poll() is None:
            time.sleep(0.002)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    # Beside the memory that the first picture is predicted to take.
    said = [line for line in errors.decode().splitlines() if not line.startswith("peak memory: ")]
    assert (run.returncode, " ".join(said).split()) == (130, ["error:", "interrupted"])
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []
    for path in results(out):
        assert read_picture(path).pixels.shape == (96, 96, 3)


def mounted(folder: Path) -> bool:
    """A file system of 200 KiB at ``folder``; needs root and the right to mount."""
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    return os.geteuid() == 0 and subprocess.run(options, capture_output=True).returncode == 0


def test_a_full_disk_fails_the_pictures_that_do_not_fit_and_leaves_the_inputs(
    checkpoint: Path, folder: Path, tmp_path: Path, record_property: Record
) -> None:
    out = tmp_path / "small"
    if not mounted(out):
        pytest.skip("needs the right to mount a small file system")
    try:
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        run = subprocess.run(command(checkpoint, folder, out), capture_output=True, text=True)
        assert run.returncode == 1
        assert "No space left on device" in run.stderr
        assert "Traceback" not in run.stderr
        done = results(out)
        assert 0 < len(done) < PICTURES
        record_property("pictures", PICTURES)
        record_property("written_whole", len(done))
        for path in done:
            assert read_picture(path).pixels.shape == (96, 96, 3)
        assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    finally:
        subprocess.run(["umount", str(out)], check=True)
