"""EXIF as tags: into TIFF files and out of them, and what of it is lost."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import OpenImageIO
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from serpent.pictures import Encoding, Metadata, Picture, read_picture, write_picture
from serpent.pictures.exif import exif_of_tiff

MAKER_NOTE = b"only the maker knows\x00\x01"


def picture(exif: bytes, bits: int = 8) -> Picture:
    """8 x 11 pixels with an EXIF block."""
    levels = np.random.default_rng(0).integers(0, 2**bits, (8, 11, 3))
    pixels: NDArray[np.float32] = (levels / (2**bits - 1)).astype(np.float32)
    return Picture(pixels, bits=bits, metadata=Metadata(exif=exif))


def camera_exif(order: str) -> bytes:
    """An EXIF block of every common type, in the byte order "<" or ">"."""
    block = Image.Exif()
    block.endian = order
    block.update({0x010F: "Maker", 0x013B: "J\u00f6rg".encode(), 0x0132: "2020:01:01 10:00:00", 0x4746: 4})
    ratio = TiffImagePlugin.IFDRational
    block.get_ifd(0x8769).update(
        {
            0x829A: ratio(1, 250),
            0x8827: 400,
            0x9000: b"0232",
            0x9204: ratio(-1, 3),
            0x9209: 16,
            0x927C: MAKER_NOTE,
            0x9286: b"ASCII\0\0\0a lake",
            0xA002: 9,
            0xA003: 6,
            0xA432: (ratio(24, 1), ratio(70, 1), ratio(28, 10), ratio(0, 0)),
            0xA434: "a lens",
        }
    )
    block.get_ifd(0x8825).update({1: "N", 2: (ratio(51), ratio(30), ratio(1234, 100)), 29: "2020:01:01"})
    return block.tobytes()


def said(path: Path) -> dict[tuple[int, int], str]:
    """Every tag of a file but those that say how it is stored, as Pillow reads it."""
    with Image.open(path) as opened:
        block = opened.getexif()
        first = {(0, tag): block[tag] for tag in (0x010F, 0x013B, 0x0132, 0x4746) if tag in block}
        others = {
            (pointer, tag): value for pointer in (0x8769, 0x8825) for tag, value in block.get_ifd(pointer).items()
        }
    return {tag: repr(value) for tag, value in (first | others).items()}


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_tag_goes_into_a_tiff_and_out_again(tmp_path: Path, order: str) -> None:
    Image.new("RGB", (9, 6)).save(tmp_path / "a.png", exif=camera_exif(order))
    for before, after in (("a.png", "b.tif"), ("b.tif", "c.tif"), ("c.tif", "d.png")):
        notes = write_picture(tmp_path / after, read_picture(tmp_path / before))
        if after.endswith(".tif"):
            assert notes == ()
            assert said(tmp_path / after) == said(tmp_path / "a.png"), after
    # libvips adds what the standard demands, and has no rating.
    assert notes == ("d.png: PNG cannot keep Rating of EXIF",)
    missing = said(tmp_path / "a.png").items() - said(tmp_path / "d.png").items()
    assert missing == {((0, 0x4746), "4")}
    assert len(said(tmp_path / "a.png")) == 18
    assert b"J\xc3\xb6rg" in (tmp_path / "c.tif").read_bytes()
    source = OpenImageIO.ImageInput.open(str(tmp_path / "c.tif"))  # a reader that has nothing to do with Pillow
    spec = source.spec()
    source.close()
    assert (spec.width, spec.height, spec["Make"], spec["Exif:LensModel"]) == (9, 6, "Maker", "a lens")
    assert spec["ExposureTime"] == pytest.approx(1 / 250)
    assert spec["GPS:Latitude"] == pytest.approx((51, 30, 12.34))


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_tags_that_libvips_drops_are_named(tmp_path: Path, suffix: str) -> None:
    block = Image.Exif()
    block.update({0x010F: "Maker", 0x013C: "a phone"})
    block.get_ifd(0x8769).update({0x9400: TiffImagePlugin.IFDRational(21, 1), 0xEA1C: b"room to write", 0xA002: 11})
    path = tmp_path / f"a{suffix}"
    (note,) = write_picture(path, picture(block.tobytes()))
    assert note.startswith(f"{path.name}: ")
    assert note.endswith(" cannot keep HostComputer, AmbientTemperature of EXIF")
    assert b"a phone" not in path.read_bytes()


@pytest.mark.filterwarnings("ignore:Tag data larger than file")
def test_a_private_tag_that_cannot_be_read_is_no_damage_to_exif(tmp_path: Path) -> None:
    block = Image.Exif()
    block.load(camera_exif("<"))
    block[65000] = "private and long"
    Image.new("RGB", (9, 6)).save(tmp_path / "a.tif", exif=block)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    entry = data.index(struct.pack("<HH", 65000, 2))
    data[entry + 2 : entry + 4] = struct.pack("<H", 99)  # of no known type
    exif, whole = exif_of_tiff(bytes(data))
    assert exif is not None
    assert whole
    entry = data.index(struct.pack("<HH", 0xA434, 2))  # the lens
    data[entry + 4 : entry + 8] = struct.pack("<I", 2**31)
    exif, whole = exif_of_tiff(bytes(data))
    assert b"Maker" in (exif or b"")
    assert b"a lens" not in (exif or b"")
    assert not whole


def test_a_resized_tiff_says_its_new_size_in_exif(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.tif", picture(camera_exif("<"), 16), encoding=Encoding(resize="200%"))
    found = said(tmp_path / "a.tif")
    assert (found[0x8769, 0xA002], found[0x8769, 0xA003]) == ("22", "16")


@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_damaged_exif_keeps_no_picture_from_becoming_a_tiff(tmp_path: Path) -> None:
    block = camera_exif("<")
    for length, what in (
        (9, "EXIF (damaged)"),
        (60, "part of EXIF (damaged)"),
        (len(block) - 9, "part of EXIF (damaged)"),
    ):
        source = picture(block[:length])
        path = tmp_path / f"{length}.tif"
        assert write_picture(path, source) == (f"{path.name}: TIFF cannot keep {what}",)
        np.testing.assert_array_equal(read_picture(path).pixels, source.pixels)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # as the module does, outside of pytest
def test_damaged_exif_of_a_tiff_is_named_and_the_picture_read(tmp_path: Path) -> None:
    Image.new("RGB", (9, 6)).save(tmp_path / "a.tif", exif=camera_exif("<"))
    data = bytearray((tmp_path / "a.tif").read_bytes())
    entry = data.index(struct.pack("<HHI", 0x8769, 4, 1))
    data[entry + 8 : entry + 12] = struct.pack("<I", 2**31)  # the directory would lie far behind the end
    (tmp_path / "a.tif").write_bytes(data)
    read = read_picture(tmp_path / "a.tif")
    assert read.pixels.shape == (6, 9, 3)
    assert read.metadata.exif is None
    assert read.notes == ("a.tif: not kept: EXIF (damaged)",)
