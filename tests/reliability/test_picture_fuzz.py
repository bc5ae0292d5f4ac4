"""Thousands of damaged picture files: read or refused, never a crash, a hang or a flood of memory."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageCms

from serpent.pictures import FORMATS, Metadata, Picture, write_picture

if TYPE_CHECKING:
    from conftest import Record, Scaled

CASES = 2000
LONGEST_SECONDS = 10.0
MOST_MEMORY = 1 << 30
"""Resident bytes of the whole process; a whole picture of the permitted 4 million pixels takes about 100 MB."""


IPTC = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\x08" + b"\x1c\x02\x05\0\x03abc"


def exif() -> bytes:
    """Tags in each of its three directories."""
    block = Image.Exif()
    block[0x010F] = "Maker"
    block.get_ifd(0x8769)[0x927C] = b"only the maker knows"
    block.get_ifd(0x8825)[1] = "N"
    return block.tobytes()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every format that is read, with all that each can carry."""
    folder = tmp_path_factory.mktemp("originals")
    rng = np.random.default_rng(0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    everything = Metadata(
        profile, exif(), b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", (300, 300), IPTC, (("Title", "a lake"),)
    )
    for each in FORMATS:
        for bits in each.depths:
            for alpha in sorted({False, each.alpha}):
                gray = each.name == "PGM"
                pixels = rng.random((48, 64, 3), dtype=np.float32)
                pixels = np.repeat(pixels[..., :1], 3, axis=-1) if gray else pixels
                glass = rng.random((48, 64), dtype=np.float32) if alpha else None
                name = f"{each.name}-{bits}{'-alpha' * alpha}{each.suffixes[0]}"
                write_picture(folder / name, Picture(pixels, glass, gray, bits, everything))
    for mode, name in (("P", "GIF.gif"), ("1", "PBM.pbm"), ("P", "PNG-palette.png"), ("CMYK", "JPEG-inks.jpg")):
        Image.new("RGB", (64, 48), "teal").convert(mode).save(folder / name)
    return folder


def test_damaged_files_are_read_or_refused(
    originals: Path, tmp_path: Path, scaled: Scaled, record_property: Record
) -> None:
    count = scaled(CASES)
    worker = Path(__file__).with_name("picture_fuzz_worker.py")
    command = [sys.executable, str(worker), str(originals), str(tmp_path), "0", str(count)]
    # What hangs for good is ended here; the limit per case is checked below.
    run = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=60 + count)
    lines = [line.split() for line in run.stdout.splitlines()]
    begun = [line[1] for line in lines if line[0] == "begin"]
    assert run.returncode == 0, (
        f"died in case {begun[-1] if begun else 'none'} ({run.returncode}): {run.stderr[-2000:]}"
    )
    ends = [line for line in lines if line[0] == "end"]
    assert len(ends) == count
    slow = [line for line in ends if float(line[2]) > LONGEST_SECONDS]
    assert slow == []
    results = Counter(line[3] for line in ends)
    assert min(results["read"], results["refused"]) > count // 10, "the damage is too mild or too wild to tell anything"
    (peak,) = (int(line[1]) for line in lines if line[0] == "peak")
    record_property("files", count)
    record_property("read", results["read"])
    record_property("refused", results["refused"])
    record_property("longest_seconds", max(float(line[2]) for line in ends))
    record_property("peak_bytes", peak)
    assert peak < MOST_MEMORY
