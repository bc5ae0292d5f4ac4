"""Pictures that OpenImageIO reads and writes: the Netpbm family, PFM and BMP."""

from __future__ import annotations

import contextlib
import os
import resource
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serpent.errors import SerpentError
from serpent.pictures import Picture, read_picture, write_picture

PIXELS = np.random.default_rng(0).random((33, 40, 3), dtype=np.float32)
SUFFIXES = (".ppm", ".pgm", ".pfm", ".bmp")


def sample(suffix: str) -> Picture:
    gray = suffix == ".pgm"
    return Picture(np.repeat(PIXELS[..., :1], 3, axis=-1) if gray else PIXELS, gray=gray)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_name_that_is_no_utf8(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / os.fsdecode(b"\xfe folder")
    folder.mkdir()
    odd, plain = folder / os.fsdecode(b"\xff" + suffix.encode()), tmp_path / f"plain{suffix}"
    for path in (odd, plain):
        write_picture(path, sample(suffix))
    assert odd.read_bytes() == plain.read_bytes()
    np.testing.assert_array_equal(read_picture(odd).pixels, read_picture(plain).pixels)
    assert list(folder.iterdir()) == [odd]


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Longer ones are cut off as by a full disk; Python ignores the signal that comes with it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [100, 1300])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_full_disk_cuts_off_never_replaces_a_file(tmp_path: Path, suffix: str, size: int) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("old")
    with (
        files_of_at_most(size),
        pytest.raises(SerpentError, match=rf"cannot write .*a{suffix}: .*the disk may be full"),
    ):
        write_picture(path, sample(suffix), overwrite=True)
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(("fourth", "alpha"), [(0, None), (128, 128 / 255)])
def test_an_unused_fourth_byte_of_a_bmp_is_no_transparency(tmp_path: Path, fourth: int, alpha: float | None) -> None:
    samples = bytes([10, 20, 30, fourth]) * 4
    header = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 32, 0, len(samples), 2835, 2835, 0, 0)
    (tmp_path / "a.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 54 + len(samples), 0, 0, 54) + header + samples)
    read = read_picture(tmp_path / "a.bmp")
    np.testing.assert_allclose(read.pixels, np.full((2, 2, 3), [30, 20, 10]) / 255, rtol=1e-6)
    assert (read.alpha is None) if alpha is None else np.allclose(np.asarray(read.alpha), alpha)
