"""What travels beside the pixels: everything that a format can hold comes through together, and the rest is named."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from serpent.errors import PictureError, UsageError
from serpent.pictures import FORMATS, Encoding, Format, Metadata, Picture, read_picture, write_picture

RANDOM = np.random.default_rng(0)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><!-- kept byte for byte --></x:xmpmeta>'
MAKER_NOTE = b"only the maker knows\x00\x01"


def profile() -> bytes:
    """An ICC profile other than sRGB's."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"sRGB", b"mine")


def exif(orientation: int = 1) -> bytes:
    block = Image.Exif()
    block[0x010F] = "Maker"
    block[0x0112] = orientation
    block[0x8298] = "(c) somebody"
    block.get_ifd(0x8769)[0x927C] = MAKER_NOTE
    block.get_ifd(0x8825)[1] = "N"
    return block.tobytes()


IPTC = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\x08" + b"\x1c\x02\x05\0\x03abc"  # one record: the title abc
TEXT = (("parameters", "a photograph\nof a lake"), ("Title", "grün"))
ALL = Metadata(profile(), exif(), XMP, (300.0, 150.0), IPTC, TEXT)


def picture(bits: int, *, gray: bool = False, alpha: bool = False, metadata: Metadata = ALL) -> Picture:
    """8 x 11 pixels whose samples are exact at ``bits`` bits."""
    levels = 2 ** min(bits, 24) - 1
    color = RANDOM.integers(0, levels + 1, (8, 11, 1 if gray else 3))
    pixels = np.repeat(color, 3, axis=-1) if gray else color
    glass = RANDOM.integers(0, levels + 1, (8, 11)) / levels if alpha else None
    return Picture(
        (pixels / levels).astype(np.float32), None if glass is None else glass.astype(np.float32), gray, bits, metadata
    )


CASES = [
    pytest.param(each, bits, gray, alpha, id=f"{each.name}-{bits}{'-gray' * gray}{'-alpha' * alpha}")
    for each in FORMATS
    for bits in each.depths
    for gray in ([True] if each.name == "PGM" else [False, True])
    for alpha in ([False, True] if each.alpha else [False])
]


@pytest.mark.parametrize(("target", "bits", "gray", "alpha"), CASES)
def test_depth_channels_and_metadata_survive_together(
    tmp_path: Path, target: Format, bits: int, gray: bool, alpha: bool
) -> None:
    metadata = dataclasses.replace(ALL, icc=None) if gray else ALL
    source = picture(bits, gray=gray, alpha=alpha, metadata=metadata)
    path = tmp_path / f"a{target.suffixes[0]}"
    lossless = Encoding(lossless=True) if target.name == "AVIF" else None
    notes = write_picture(path, source, encoding=lossless)
    read = read_picture(path)
    if target.name != "JPEG":
        np.testing.assert_array_equal(read.pixels, source.pixels)
    assert (read.bits, read.gray) == (bits, gray and target.gray)
    if source.alpha is None:
        assert read.alpha is None
    else:
        assert read.alpha is not None
        np.testing.assert_array_equal(read.alpha, source.alpha)
    kept = {
        "ICC profile": read.metadata.icc == metadata.icc and metadata.icc is not None,
        "EXIF": read.metadata.exif is not None
        and MAKER_NOTE in read.metadata.exif
        and b"somebody" in read.metadata.exif,
        "XMP": read.metadata.xmp == XMP,
        "IPTC": read.metadata.iptc == IPTC,
        "text": read.metadata.text == TEXT,
        "resolution": read.metadata.resolution == pytest.approx((300, 150)),
    }
    present = {"EXIF", "XMP", "IPTC", "text", "resolution"} | (set() if gray else {"ICC profile"})
    assert {name for name, value in kept.items() if value} == target.carries & present
    named = {note.split(" cannot keep ")[1].removesuffix(" (parameters, Title)") for note in notes}
    assert named == present - target.carries


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif"])
def test_a_turned_picture_comes_out_upright_and_says_so(tmp_path: Path, suffix: str) -> None:
    levels = RANDOM.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.png", exif=exif(orientation=6))
    read = read_picture(tmp_path / "a.png")
    assert read.pixels.shape == (9, 6, 3)
    write_picture(tmp_path / f"b{suffix}", read)
    with Image.open(tmp_path / f"b{suffix}") as again:
        assert again.size == (6, 9)
        assert again.getexif().get(0x0112, 1) == 1
        assert again.getexif()[0x010F] == "Maker"
    assert read_picture(tmp_path / f"b{suffix}").pixels.shape == (9, 6, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif"])
def test_strip_leaves_no_metadata(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    assert write_picture(path, picture(8), encoding=Encoding(strip=True)) == ()
    read = read_picture(path).metadata
    assert (read.icc, read.xmp) == (None, None)
    for private in (b"Maker", b"somebody", MAKER_NOTE, XMP, b"abc", b"lake"):
        assert private not in path.read_bytes()


@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
def test_what_a_tiff_says_of_the_photograph_goes_on(tmp_path: Path, big: bool) -> None:
    Image.new("RGB", (9, 6)).save(tmp_path / "a.tif", exif=exif(), big_tiff=big)
    read = read_picture(tmp_path / "a.tif")
    assert write_picture(tmp_path / "b.jpg", read) == ()
    with Image.open(tmp_path / "b.jpg") as again:
        found = again.getexif()
        assert (found[0x010F], found[0x8298]) == ("Maker", "(c) somebody")
        assert found.get_ifd(0x8769)[0x927C] == MAKER_NOTE
        assert found.get_ifd(0x8825)[1] == "N"
        assert 0x0111 not in found  # where the strips of the other file lay
    assert write_picture(tmp_path / "b.tif", read) == ()
    assert read_picture(tmp_path / "b.tif").metadata == read.metadata
    Image.new("RGB", (9, 6)).save(tmp_path / "plain.tif", big_tiff=big)
    assert read_picture(tmp_path / "plain.tif").metadata == Metadata()


@pytest.mark.parametrize("suffix", [".jpg", ".gif"])
def test_a_comment_becomes_text(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (9, 6)).save(tmp_path / f"a{suffix}", comment="für alle".encode("latin-1"))
    read = read_picture(tmp_path / f"a{suffix}")
    assert read.metadata.text == (("Comment", "für alle"),)
    assert write_picture(tmp_path / "b.jpg", read) == ("b.jpg: JPEG cannot keep text (Comment)",)


def test_letters_that_cannot_be_told_and_iptc_of_a_tiff_are_named(tmp_path: Path) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"tEXt", b"Title\0gr\xfcn")
    chunks.add_text("Author", "somebody")
    Image.new("RGB", (9, 6)).save(tmp_path / "a.png", pnginfo=chunks)
    read = read_picture(tmp_path / "a.png")
    assert read.metadata.text == (("Author", "somebody"),)
    assert read.notes == ("a.png: not kept: text (Title: its letters are not encoded in UTF-8)",)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[33723] = b"\x1c\x02\x05\0\x03abc"
    Image.new("RGB", (9, 6)).save(tmp_path / "a.tif", tiffinfo=tags)
    assert read_picture(tmp_path / "a.tif").notes == ("a.tif: not kept: IPTC",)


def test_a_keyword_of_latin_letters_costs_the_text_and_nothing_else(tmp_path: Path) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"tEXt", "Größe\0klein".encode("latin-1"))
    chunks.add_itxt("XML:com.adobe.xmp", XMP.decode())
    Image.new("RGB", (9, 6)).save(tmp_path / "a.png", pnginfo=chunks, icc_profile=profile(), exif=exif(6))
    read = read_picture(tmp_path / "a.png")
    assert read.notes == ("a.png: not kept: text (a keyword is not encoded in UTF-8)",)
    assert (read.metadata.icc, read.metadata.xmp, read.metadata.text) == (profile(), XMP, None)
    assert (read.pixels.shape, read.bits) == ((9, 6, 3), 8)
    assert MAKER_NOTE in (read.metadata.exif or b"")


def test_a_jpeg_of_more_pixels_than_pillow_would_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg", quality=70)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    jpeg = read_picture(tmp_path / "a.jpg").jpeg
    assert jpeg is not None
    assert jpeg.quality == 70


@pytest.mark.parametrize(
    ("chunk", "content", "named"),
    [
        (b"gAMA", struct.pack(">I", 100_000), "gAMA"),
        (b"gAMA", struct.pack(">I", 45_455), None),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000), "cHRM"),
        (b"cICP", bytes([12, 16, 0, 1]), "cICP"),
        (b"cICP", bytes([1, 13, 0, 1]), None),
    ],
)
def test_colours_that_a_png_says_without_a_profile_are_named(
    tmp_path: Path, chunk: bytes, content: bytes, named: str | None
) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add(chunk, content)
    Image.new("RGB", (9, 6)).save(tmp_path / "a.png", pnginfo=chunks)
    expected = () if named is None else (f"a.png: not kept: colours that its {named} say (taken for sRGB)",)
    assert read_picture(tmp_path / "a.png").notes == expected
    Image.new("RGB", (9, 6)).save(tmp_path / "a.png", pnginfo=chunks, icc_profile=ALL.icc)
    assert read_picture(tmp_path / "a.png").notes == ()


@pytest.mark.parametrize(
    ("primaries", "transfer", "named"), [(1, 13, None), (2, 2, None), (9, 16, "9/16"), (12, 13, "12/13")]
)
def test_colours_that_an_avif_says_without_a_profile_are_named(
    tmp_path: Path, primaries: int, transfer: int, named: str | None
) -> None:
    write_picture(tmp_path / "a.avif", picture(8, metadata=Metadata()), encoding=Encoding(lossless=True))
    data = (tmp_path / "a.avif").read_bytes()
    box = b"colrnclx" + struct.pack(">HH", 1, 13)  # libheif says so where nothing is lost
    assert data.count(box) == 1
    (tmp_path / "a.avif").write_bytes(data.replace(box, b"colrnclx" + struct.pack(">HH", primaries, transfer)))
    expected = () if named is None else (f"a.avif: not kept: colours that its nclx box ({named}) say (taken for sRGB)",)
    assert read_picture(tmp_path / "a.avif").notes == expected


@pytest.mark.parametrize("orientation", [3, 6])
def test_xmp_and_resolution_turn_with_the_picture(tmp_path: Path, orientation: int) -> None:
    said = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="%d" xmp:Rating="6"/></x:xmpmeta>'
    source = dataclasses.replace(picture(8), metadata=Metadata(xmp=said % orientation, resolution=(300.0, 150.0)))
    write_picture(tmp_path / "a.jpg", source)
    image = pyvips.Image.jpegload(str(tmp_path / "a.jpg")).copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    image.jpegsave(str(tmp_path / "turned.jpg"))
    read = read_picture(tmp_path / "turned.jpg").metadata
    assert read.xmp == said % 1
    assert read.resolution == pytest.approx((300, 150) if orientation == 3 else (150, 300))


def test_other_readers_see_the_same(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", picture(8))
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["icc_profile"] == ALL.icc
        assert image.info["dpi"] == pytest.approx((300, 150), rel=1e-3)
        assert image.getexif()[0x8298] == "(c) somebody"


def test_a_profile_of_other_colours_than_the_file_is_named(tmp_path: Path) -> None:
    notes = write_picture(tmp_path / "a.png", picture(8, gray=True, metadata=Metadata(ALL.icc)))
    assert notes == ("a.png: PNG cannot keep ICC profile (it describes RGB, the file holds GRAY)",)


def test_what_a_smaller_depth_and_a_missing_alpha_lose_is_named(tmp_path: Path) -> None:
    source = picture(16, alpha=True, metadata=Metadata())
    assert write_picture(tmp_path / "a.jpg", source) == (
        "a.jpg: JPEG cannot keep 16-bit samples (written with 8 bits)",
        "a.jpg: JPEG cannot keep transparency (put on white)",
    )
    assert write_picture(tmp_path / "a.png", source, encoding=Encoding(depth=8)) == ()
    assert read_picture(tmp_path / "a.png").bits == 8
    with pytest.raises(UsageError, match="JPEG has no depth of 16 bits; it has 8"):
        write_picture(tmp_path / "b.jpg", source, encoding=Encoding(depth=16))
    with pytest.raises(PictureError, match="PGM holds gray alone"):
        write_picture(tmp_path / "a.pgm", source)


def test_transparency_without_a_place_shows_white(tmp_path: Path) -> None:
    black = np.zeros((1, 3, 3), dtype=np.float32)
    glass = np.array([[0, 0.5, 1]], dtype=np.float32)
    write_picture(tmp_path / "a.ppm", Picture(black, glass))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.ppm").pixels[0, :, 0] * 255, [255, 128, 0])


@pytest.mark.parametrize("quality", [1, 30, 50, 75, 90, 95, 100])
@pytest.mark.parametrize(("mode", "subsampling"), [(0, "4:4:4"), (2, "4:2:0")])
def test_a_jpeg_keeps_quality_and_subsampling(tmp_path: Path, quality: int, mode: int, subsampling: str) -> None:
    levels = RANDOM.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.jpg", quality=quality, subsampling=mode)
    read = read_picture(tmp_path / "a.jpg")
    assert read.jpeg is not None
    assert (read.jpeg.quality, read.jpeg.subsampling) == (quality, subsampling)
    write_picture(tmp_path / "b.jpg", read)
    assert read_picture(tmp_path / "b.jpg").jpeg == read.jpeg
    write_picture(tmp_path / "c.jpg", read, encoding=Encoding(quality=60, subsampling="4:4:4"))
    again = read_picture(tmp_path / "c.jpg").jpeg
    assert again is not None
    assert (again.quality, again.subsampling) == (60, "4:4:4")


def test_subsampling_that_cannot_be_written_loses_no_colour(tmp_path: Path) -> None:
    levels = RANDOM.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.jpg", quality=90, subsampling="4:2:2")
    read = read_picture(tmp_path / "a.jpg")
    assert read.jpeg is not None
    assert (read.jpeg.quality, read.jpeg.subsampling) == (90, "4:2:2")
    write_picture(tmp_path / "b.jpg", read)
    again = read_picture(tmp_path / "b.jpg").jpeg
    assert again is not None
    assert (again.quality, again.subsampling) == (90, "4:4:4")
