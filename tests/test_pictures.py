"""Pictures in and out: what is kept, what is named as lost, what is refused."""

from __future__ import annotations

import errno
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray
from PIL import Image

from serpent.errors import ArgumentError, PictureError, SerpentError, UsageError
from serpent.pictures import FORMATS, Encoding, Format, Picture, check_result, read_picture, write_picture

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_16_bit_rgb(path: Path) -> Path:
    """Pillow cannot write one: chunks by hand, 2x1 pixels, values 0x1234 and so on."""
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    samples = struct.pack(">6H", 0x1234, 0x8000, 0xFFFF, 0, 1, 0xABCD)
    pixels = zlib.compress(b"\0" + samples)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("suffix", [each.suffixes[0] for each in FORMATS if each.lossless and each.name != "PGM"])
def test_lossless_formats_return_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix.upper()}"
    pixels = RGB.astype(np.float32) / 255
    write_picture(path, pixels)
    read = read_picture(path)
    np.testing.assert_array_equal(read.pixels, pixels)
    assert (read.pixels.dtype, read.notes) == (np.float32, ())


def test_jpeg_comes_back_close(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:32, 0:48].astype(np.float32)
    pixels = np.stack([rows / 31, columns / 47, (rows + columns) / 78], axis=-1)
    write_picture(tmp_path / "a.jpg", pixels)
    np.testing.assert_allclose(read_picture(tmp_path / "a.jpg").pixels, pixels, atol=6 / 255)


def test_values_are_rounded_to_nearest_and_clipped(tmp_path: Path) -> None:
    levels = np.array([-0.3, 0.49 / 255, 0.51 / 255, 254.49 / 255, 254.51 / 255, 7.0], dtype=np.float32)
    write_picture(tmp_path / "a.png", np.repeat(levels[None, :, None], 3, axis=-1))
    assert np.asarray(Image.open(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 0, 1, 254, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", Image.fromarray(RGB), exif=exif)
    turns = {1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1]}
    sideways = {5: RGB, 6: RGB[::-1], 7: RGB[::-1, ::-1], 8: RGB[:, ::-1]}
    upright = turns.get(orientation)
    if upright is None:
        upright = sideways[orientation].transpose(1, 0, 2)
    np.testing.assert_array_equal(read_picture(path).pixels, upright.astype(np.float32) / 255)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_gray_and_palettes_become_rgb_without_a_remark(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB).convert(mode)
    read = read_picture(saved(tmp_path / "a.png", image))
    np.testing.assert_array_equal(read.pixels, np.asarray(image.convert("RGB"), dtype=np.float32) / 255)
    assert read.notes == ()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_gray_keeps_its_depth(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 1, 255, 256, 32768, 65535]], dtype=np.uint16)
    read = read_picture(saved(tmp_path / name, Image.fromarray(values)))
    np.testing.assert_array_equal(read.pixels[..., 1], values.astype(np.float32) / 65535)
    assert (read.bits, read.gray, read.notes) == (16, True, ())


def test_16_bit_rgb_keeps_its_depth(tmp_path: Path) -> None:
    read = read_picture(png_16_bit_rgb(tmp_path / "a.png"))
    expected = np.array([[0x1234, 0x8000, 0xFFFF], [0, 1, 0xABCD]], dtype=np.float32) / np.float32(65535)
    np.testing.assert_array_equal(read.pixels[0], expected)
    assert (read.bits, read.gray, read.notes) == (16, False, ())


def test_16_bit_ppm_keeps_its_depth(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6 1 1 65535\n" + bytes([0x80, 0, 0xFF, 0xFF, 0, 1]))
    read = read_picture(tmp_path / "a.ppm")
    np.testing.assert_allclose(read.pixels[0, 0] * 65535, [0x8000, 0xFFFF, 1], rtol=1e-6)
    assert read.bits == 16


def test_a_pfm_file_has_its_rows_from_the_bottom_up(tmp_path: Path) -> None:
    rows = np.linspace(0, 1, 12, dtype="<f4").reshape(2, 2, 3)  # netpbm.sourceforge.net/doc/pfm.html: bottom row first
    (tmp_path / "a.pfm").write_bytes(b"PF\n2 2\n-1.0\n" + rows.tobytes())
    np.testing.assert_array_equal(read_picture(tmp_path / "a.pfm").pixels, rows[::-1])
    write_picture(tmp_path / "b.pfm", rows[::-1].astype(np.float32))
    assert (tmp_path / "b.pfm").read_bytes().endswith(rows.tobytes())


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_kept_apart(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB).convert(mode)
    image.putalpha(Image.fromarray(RGB[..., 0]))
    read = read_picture(saved(tmp_path / "glass.png", image))
    assert read.alpha is not None
    np.testing.assert_array_equal(read.alpha, RGB[..., 0].astype(np.float32) / 255)
    assert (read.pixels.shape, read.gray, read.notes) == (RGB.shape, mode == "LA", ())


def test_a_transparent_palette_entry_is_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(RGB).convert("P")
    entry = image.getpixel((0, 0))
    read = read_picture(saved(tmp_path / "a.png", image, transparency=entry))
    assert read.alpha is not None
    np.testing.assert_array_equal(read.alpha == 0, np.asarray(image) == entry)


def test_further_frames_are_named(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.roll(RGB, shift, axis=0)) for shift in range(3)]
    read = read_picture(saved(tmp_path / "a.tif", frames[0], save_all=True, append_images=frames[1:]))
    assert "2 further frame(s)" in read.notes[0]
    np.testing.assert_array_equal(read.pixels, RGB.astype(np.float32) / 255)


def test_frames_and_pictures_that_libvips_does_not_count_are_named(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.roll(RGB, index)) for index in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "a.png").notes == ("a.png: not kept: further frames (animation)",)
    assert read_picture(tmp_path / "a.jpg").notes == ("a.jpg: not kept: further pictures (Multi-Picture Format)",)


def test_each_thing_that_is_lost_gets_a_line(tmp_path: Path) -> None:
    frames = [Image.new("CMYK", (9, 6), index) for index in range(3)]
    path = saved(tmp_path / "a.tif", frames[0], save_all=True, append_images=frames[1:])
    assert read_picture(path).notes == (
        "a.tif: not kept: 2 further frame(s)",
        "a.tif: not kept: CMYK inks (converted to sRGB)",
    )


def test_cmyk_is_converted_and_named(tmp_path: Path) -> None:
    inks = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [255, 255, 255, 255], [0, 255, 255, 0]]], dtype=np.uint8)
    read = read_picture(saved(tmp_path / "a.tif", Image.fromarray(inks, mode="CMYK")))
    paper, black, all_inks, red = read.pixels[0]  # without a profile in the file: through a generic one for print
    assert paper.min() > 0.98
    assert black.max() < 0.2
    assert all_inks.max() < 0.2
    assert red[0] > 0.8 > 0.3 > red[1:].max()
    assert "CMYK" in read.notes[0]


def test_16_bit_inks_keep_their_depth(tmp_path: Path) -> None:
    inks = np.random.default_rng(0).integers(0, 65536, (32, 48, 4), dtype=np.uint16)
    pyvips.Image.new_from_array(inks).copy(interpretation="cmyk").tiffsave(str(tmp_path / "a.tif"))
    read = read_picture(tmp_path / "a.tif")
    assert read.bits == 16
    assert len(np.unique(read.pixels)) > 1000


def test_lab_is_converted_and_named(tmp_path: Path) -> None:
    lab = np.array([[[0, 0, 0], [50, 0, 0], [100, 0, 0]]], dtype=np.float32)
    pyvips.Image.new_from_array(lab).copy(interpretation="lab").tiffsave(str(tmp_path / "a.tif"))
    read = read_picture(tmp_path / "a.tif")
    assert read.bits == 16
    # L* = 50 is a luminance of ((50 + 16) / 116)^3 = 0.1842, which sRGB encodes as 1.055 Y^(1/2.4) - 0.055.
    np.testing.assert_allclose(read.pixels[0, :, 1], [0, 1.055 * 0.1842 ** (1 / 2.4) - 0.055, 1], atol=2e-3)
    assert read.notes == ("a.tif: not kept: lab encoding (converted to sRGB of 16 bits)",)


def test_samples_without_a_known_range_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", Image.fromarray(np.ones((4, 4), np.int32)))
    with pytest.raises(PictureError, match="without a known range"):
        read_picture(path)
    pyvips.Image.new_from_array(np.full((4, 4), 0.5)).tiffsave(str(path))  # float64
    with pytest.raises(PictureError, match="has samples of a kind that is not read"):
        read_picture(path)


def test_a_jpeg_whose_coded_data_end_early_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(np.tile(RGB, (20, 20, 1))))
    data = bytearray(path.read_bytes())
    frame = data.index(b"\xff\xc0")  # start of frame: length, precision, height, width
    data[frame + 5 : frame + 7] = struct.pack(">H", 4 * 120)
    path.write_bytes(data)
    assert "premature end of data segment" in one_sentence(path)


def test_what_a_decoder_warns_of_is_said(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(RGB))
    data = path.read_bytes()
    frame = data.index(b"\xff\xdb")
    path.write_bytes(data[:frame] + b"\0\0\0" + data[frame:])
    read = read_picture(path)
    assert read.pixels.shape == RGB.shape
    (note,) = read.notes
    assert "the decoder warned: " in note
    assert "3 extraneous bytes before marker" in note


def one_sentence(path: Path) -> str:
    with pytest.raises(PictureError) as caught:
        read_picture(path)
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    return caught.value.message


def test_an_error_that_quotes_bytes_of_the_file_is_one_sentence(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.avif", Picture(np.zeros((8, 8, 3), np.float32), np.eye(8, dtype=np.float32)))
    whole = (tmp_path / "a.avif").read_bytes()
    assert b"auxC" in whole
    (tmp_path / "a.avif").write_bytes(whole.replace(b"auxC", b"au\x7f\xff"))
    (tmp_path / "b.avif").write_bytes(whole[:-20])
    with pytest.raises(PictureError, match=r"damaged or truncated: .*au.*\\xff'"):
        read_picture(tmp_path / "a.avif")
    with pytest.raises(PictureError, match="damaged or truncated") as caught:
        read_picture(tmp_path / "b.avif")
    assert "xff" not in caught.value.message


def test_what_is_no_picture_is_refused_in_one_sentence(tmp_path: Path) -> None:
    assert "No such file" in one_sentence(tmp_path / "absent.png")
    assert "directory" in one_sentence(tmp_path)
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    assert "empty (0 bytes)" in one_sentence(path)
    path.write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))  # a film
    assert "no picture" in one_sentence(path)
    path.write_text("not a picture")
    assert "no picture" in one_sentence(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".gif"])
def test_every_truncation_is_refused(tmp_path: Path, suffix: str) -> None:
    whole = saved(tmp_path / f"whole{suffix}", Image.fromarray(np.tile(RGB, (20, 20, 1)))).read_bytes()
    path = tmp_path / f"cut{suffix}"
    for length in (1, 8, 20, len(whole) // 3, len(whole) * 2 // 3):
        path.write_bytes(whole[:length])
        one_sentence(path)


def test_damaged_exif_does_not_keep_a_good_picture_from_being_read_and_written(tmp_path: Path) -> None:
    saved(tmp_path / "a.jpg", Image.fromarray(RGB), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\0")
    read = read_picture(tmp_path / "a.jpg")
    assert read.pixels.shape == RGB.shape
    write_picture(tmp_path / "b.jpg", read)
    assert Image.open(tmp_path / "b.jpg").getexif()[0x0112] == 1


def png_header(path: Path, width: int, height: int) -> Path:
    """A PNG whose header promises more than its few bytes hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")))
    return path


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = png_header(tmp_path / "a.png", 30000, 30000)
    tracemalloc.start()
    message = one_sentence(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "30000x30000 pixels, 900 million; the limit is 300 million" in message
    assert peak < 1_000_000


def test_the_limit_can_be_moved(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(RGB))
    with pytest.raises(PictureError, match="--max-pixels"):
        read_picture(path, max_pixels=53)
    assert read_picture(path, max_pixels=54).pixels.shape == RGB.shape


PIXELS = np.full((4, 5, 3), 0.5, dtype=np.float32)


def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'\.xyz'.*\.png \.jpg"):
        write_picture(tmp_path / "a.xyz", PIXELS)


def test_an_existing_file_needs_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists already") as caught:
        write_picture(path, PIXELS)
    assert "--overwrite" in str(caught.value)
    assert path.read_text() == "mine"
    write_picture(path, PIXELS, overwrite=True)
    assert read_picture(path).pixels.shape == PIXELS.shape


def test_devices_and_folders_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "null.png").symlink_to("/dev/null")
    with pytest.raises(UsageError, match="is a folder"):
        write_picture(tmp_path / "folder.png", PIXELS, overwrite=True)
    with pytest.raises(UsageError, match="no regular file"):
        write_picture(tmp_path / "null.png", PIXELS, overwrite=True)


def test_pixels_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"float64\(4, 5, 3\)"):
        write_picture(tmp_path / "a.png", PIXELS.astype(np.float64))
    with pytest.raises(ArgumentError, match="not finite"):
        write_picture(tmp_path / "a.png", PIXELS * np.float32(np.nan))
    with pytest.raises(ArgumentError, match=r"float32\(4, 5\)"):
        write_picture(tmp_path / "a.png", PIXELS[..., 0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", [each for each in FORMATS if each.max_side], ids=lambda each: each.name)
def test_a_format_holds_its_longest_side_and_no_longer_one(tmp_path: Path, target: Format) -> None:
    assert target.max_side is not None
    path = tmp_path / f"a{target.suffixes[0]}"
    longest: NDArray[np.float32] = np.zeros((1, target.max_side, 3), np.float32)
    write_picture(path, longest)
    assert read_picture(path).pixels.shape == longest.shape
    path.unlink()
    longer = np.zeros((target.max_side + 1, 1, 3), np.float32)
    with pytest.raises(PictureError, match=f"{target.name} holds no side of more than {target.max_side} pixels"):
        check_result(path, Picture(longer), Encoding())
    with pytest.raises(PictureError, match=f"and the result has {target.max_side}x{target.max_side + 1}"):
        check_result(
            path, Picture(longer), Encoding(resize=f"{target.max_side}x{target.max_side + 1}", max_pixels=2**40)
        )
    with pytest.raises(PictureError):
        write_picture(path, longer)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SerpentError, match="No space left on device"):
        write_picture(path, PIXELS, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("name", "encoding", "lost"),
    [
        ("a.png", Encoding(quality=90), ["quality 90"]),
        ("a.tif", Encoding(lossless=False, subsampling="4:2:0"), ["subsampling 4:2:0", "lossy"]),
        ("a.jpg", Encoding(quality=90, subsampling="4:2:0", lossless=True), ["lossless"]),
        ("a.webp", Encoding(quality=90, lossless=False), []),
        ("a.png", Encoding(lossless=True), []),
    ],
)
def test_a_choice_that_the_format_does_not_have_is_said(
    tmp_path: Path, name: str, encoding: Encoding, lost: list[str]
) -> None:
    notes = write_picture(tmp_path / name, np.zeros((4, 4, 3), dtype=np.float32), encoding=encoding)
    kind = {"a.tif": "TIFF", "a.jpg": "JPEG"}.get(name, "PNG")
    assert notes == tuple(f"{name}: {kind} cannot keep {each} (it has no such choice)" for each in lost)
