"""Frames of a stream: in every format each sample is seen and changed in its place; what stays goes on as it came."""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Callable

import numpy as np
import pytest

from serpent.errors import PictureError, UsageError
from serpent.pictures.video import FrameStream, RawVideo
from serpent.pictures.video_formats import RAW_FORMATS, Y4M_FORMATS, raw_format

RANDOM = np.random.default_rng(0)
H, W = 9, 13
STEPS = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "411": (4, 1)}
Colours = Callable[[np.ndarray, np.ndarray], np.ndarray]


def through(
    data: bytes, raw: str | None, session: Callable[[np.ndarray], np.ndarray] = np.copy
) -> tuple[list[np.ndarray], bytes]:
    """The frames that a session sees, and the stream of its results."""
    sink, seen = io.BytesIO(), []
    stream = FrameStream(io.BytesIO(data), sink, None if raw is None else RawVideo.parse(raw))
    for frame in stream:
        seen.append(frame)
        stream.write(session(frame))
    return seen, sink.getvalue()


def ramp(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """RGB that rises and falls evenly over the frame: linear interpolation is exact, and half a pixel is seen."""
    return np.stack([0.1 + 0.8 * x / W, 0.9 - 0.8 * y / H, 0.1 + 0.4 * x / W + 0.4 * y / H])


def negative(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return 1 - ramp(y, x)


def grid(across: int = 1, down: int = 1, left: float = 0, top: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """Where samples lie, in luma samples."""
    y, x = np.mgrid[: -(-H // down), : -(-W // across)]
    return y * down + top, x * across + left


def yuv(rgb: np.ndarray, bits: int, *, full: bool) -> np.ndarray:
    """ITU-R BT.709-6, items 3.2 to 3.5, full range as in ITU-T H.273, 8.3: Y, Cb, Cr, not rounded."""
    red, green, blue = rgb
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    cb, cr = (blue - y) / 1.8556, (red - y) / 1.5748
    scale, middle = 2 ** (bits - 8), 2 ** (bits - 1)
    luma, chroma, foot = (2**bits - 1, 2**bits - 1, 0) if full else (219 * scale, 224 * scale, 16 * scale)
    return np.stack([foot + luma * y, middle + chroma * cb, middle + chroma * cr])


def planes(
    colours: Colours, bits: int, sampling: str, *, left: float, top: float, full: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Luma (H, W), and Cb and Cr (2, rows, columns), none for gray; not rounded."""
    luma = yuv(colours(*grid()), bits, full=full)[0]
    if sampling == "mono":
        return luma, np.empty((2, 0, 0))
    return luma, yuv(colours(*grid(*STEPS[sampling], left, top)), bits, full=full)[1:]


def coded(name: str, colours: Colours) -> tuple[np.ndarray, int]:
    """A frame in FFmpeg's format ``name``, not rounded, and its bits."""
    match = re.fullmatch(r"(rgb|bgr|gbrp|gray|nv12|yuvj?)(411p|420p|422p|444p)?(\d*)(?:le)?", name)
    assert match is not None
    family, sampling, digits = match.groups()
    if family in ("rgb", "bgr"):
        bits = int(digits) // 3
        packed = np.moveaxis(colours(*grid()), 0, -1) * (2**bits - 1)
        return (packed if family == "rgb" else packed[..., ::-1]).ravel(), bits
    bits = int(digits or 8)
    if family == "gbrp":
        red, green, blue = colours(*grid()) * (2**bits - 1)
        return np.concatenate([green, blue, red]).ravel(), bits
    full = family in ("yuvj", "gray")
    sampling = {"nv12": "420", "gray": "mono"}.get(family) or sampling[:3]
    across, down = STEPS.get(sampling, (1, 1))
    left = (across - 1) / 2 if full else 0.0
    luma, chroma = planes(colours, bits, sampling, left=left, top=(down - 1) / 2, full=full)
    return np.concatenate([luma.ravel(), (np.moveaxis(chroma, 0, -1) if family == "nv12" else chroma).ravel()]), bits


def stored(frame: np.ndarray, bits: int) -> np.ndarray:
    return np.rint(frame).astype(np.uint8 if bits == 8 else "<u2")


def assert_seen(frame: np.ndarray, bits: int, *, full: bool, gray: bool) -> None:
    """The ramp, up to half a level of rounding in luma and in one chroma plane, whose largest weight is Cb's in blue.

    The outermost pixels are left out: beyond the last chroma sample there is nothing to interpolate to.
    """
    expected = np.moveaxis(ramp(*grid()), 0, -1)
    if gray:
        expected = np.repeat(expected @ [[0.2126], [0.7152], [0.0722]], 3, axis=-1)
    scale = 2 ** (bits - 8)
    luma, chroma = (2**bits - 1, 2**bits - 1) if full else (219 * scale, 224 * scale)
    assert np.abs(frame - expected)[1:-1, 1:-1].max() <= 0.5 / luma + 0.5 * 1.8556 / chroma + 1e-6


@pytest.mark.parametrize("name", RAW_FORMATS)
def test_raw_frames_are_seen_and_changed_as_their_format_says(name: str) -> None:
    frame, bits = coded(name, ramp)
    more = np.array([0.05, -0.04, 0.08])
    (seen,), result = through(stored(frame, bits).tobytes(), f"{W}x{H}:{name}", lambda pixels: pixels + more)
    assert_seen(seen, bits, full=not name.startswith(("yuv4", "nv12")), gray=name.startswith("gray"))
    expected, _ = coded(name, lambda y, x: ramp(y, x) + more[:, None, None])
    # Half a level of rounding before and half a level after; float32 adds less than 1/100 of one of 16 bits.
    assert np.abs(np.frombuffer(result, stored(frame, bits).dtype) - expected).max() <= 1.01


@pytest.mark.parametrize("name", RAW_FORMATS)
def test_raw_frames_that_stay_keep_every_sample(name: str) -> None:
    frame, bits = coded(name, ramp)
    frames = RANDOM.integers(0, 2**bits, (3, frame.size)).astype(stored(frame, bits).dtype)
    _, result = through(frames.tobytes(), f"{W}x{H}:{name}")
    np.testing.assert_array_equal(np.frombuffer(result, frames.dtype), frames.ravel())


@pytest.mark.require("ffmpeg")
@pytest.mark.parametrize("name", RAW_FORMATS)
def test_ffmpeg_means_the_same_by_the_name(name: str) -> None:
    colour = np.array([200, 90, 40], np.uint8)
    command = ["ffmpeg", "-v", "error", "-f", "rawvideo", "-s", f"{W}x{H}", "-pix_fmt", "rgb24", "-i", "-"]
    # Between RGB of different depths FFmpeg goes through YCbCr, too: both matrices count.
    flags = "flags=accurate_rnd+full_chroma_int+full_chroma_inp+bicubic"
    command += ["-vf", f"scale=in_color_matrix=bt709:out_color_matrix=bt709:{flags}"]
    command += ["-pix_fmt", name, "-f", "rawvideo", "-"]
    picture = np.tile(colour, H * W).tobytes()
    data = subprocess.run(command, input=picture, check=True, capture_output=True).stdout
    (seen,), _ = through(data, f"{W}x{H}:{name}")
    expected = np.full(3, colour @ [0.2126, 0.7152, 0.0722]) if name.startswith("gray") else colour
    # Half a level of luma and one of Cb, in 8 bits of limited range: 255 (0.5 / 219 + 0.5 * 1.8556 / 224).
    assert np.abs(seen * 255 - expected).max() <= 1.64


@pytest.mark.parametrize(
    "name",
    ["p010le", "yuv420p10be", "rgb48be", "monow", "pal8", "yuyv422", "rgba", "yuva420p", "gbrpf32le", "nonsense"],
)
def test_other_raw_formats_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"'{name}' are not taken\s+taken are rgb24.*nv12.*yuv420p10le"):
        RawVideo.parse(f"16x16:{name}")
    with pytest.raises(UsageError, match=name):
        FrameStream(io.BytesIO(bytes(9999)), io.BytesIO(), RawVideo(16, 16, name))


@pytest.mark.parametrize("text", ["", "12", "0x4", "3x4:", "3x4:rgb24:0", "3x4:rgb24:25/0", "3x4:rgb24:25:1"])
def test_what_is_no_raw_video(text: str) -> None:
    with pytest.raises(UsageError, match="WxH"):
        RawVideo.parse(text)


def test_the_lower_byte_comes_first_where_a_name_does_not_say() -> None:
    assert raw_format("yuv420p10") == raw_format("yuv420p10le")


def test_samples_in_the_upper_bits_are_not_taken_for_lower_ones() -> None:
    data = np.full(16 * 16 * 3 // 2, 500 << 6, "<u2").tobytes()
    with pytest.raises(PictureError, match="after 0 whole frames: a sample is 32000, which 10 bits"):
        through(data, "16x16:yuv420p10le")


# Left and top of the first chroma sample (yuv4mpeg(5)); elsewhere as MPEG-2 has them.
SITES = {"420jpeg": (0.5, 0.5), "420": (0.5, 0.5), "420paldv": (0.0, 0.0)}


@pytest.mark.parametrize("tag", Y4M_FORMATS)
@pytest.mark.parametrize("full", [False, True])
def test_y4m_frames_are_seen_and_changed_as_the_header_says(tag: str, full: bool) -> None:
    digits = re.search(r"(?:p|mono)(\d+)$", tag)
    sampling, bits = "mono" if tag.startswith("mono") else tag[:3], int(digits[1]) if digits else 8
    left, top = SITES.get(tag, (0.0, 0.5 if sampling == "420" else 0.0))
    luma, chroma = planes(ramp, bits, sampling, left=left, top=top, full=full)
    header = f"YUV4MPEG2 W{W} H{H} C{tag} XCOLORRANGE={'FULL' if full else 'LIMITED'}\nFRAME\n".encode()
    data = header + stored(np.concatenate([luma.ravel(), chroma.ravel()]), bits).tobytes()
    (seen,), result = through(data, None, lambda pixels: 1 - pixels)
    assert_seen(seen, bits, full=full, gray=sampling == "mono")
    found = np.frombuffer(result.removeprefix(header), stored(luma, bits).dtype).astype(float)
    luma, chroma = planes(negative, bits, sampling, left=left, top=top, full=full)
    # Half a level of rounding before and half a level after; of chroma, twice half a level in the change as well.
    assert np.abs(found[: luma.size].reshape(luma.shape) - luma).max() <= 1.01
    assert np.abs(found[luma.size :].reshape(chroma.shape) - chroma)[:, 1:-1, 1:-1].max(initial=0) <= 2.01


@pytest.mark.parametrize(
    ("tags", "size", "bits"),
    [
        ("F30000:1001 It A16:11 C420mpeg2", 187, 8),
        ("F25:1 Ip A1:1 C420jpeg XYSCSS=420JPEG", 187, 8),
        ("F25:1 Ib A59:54 C420paldv XCOLORRANGE=LIMITED", 187, 8),
        ("F25:1 Im A0:0 C422 XSOMETHING XCOLORRANGE=FULL", 243, 8),
        ("F50:1 I? A1:1 C444p10 XYSCSS=444P10 XCOLORRANGE=FULL", 351, 10),
        ("F24:1 Cmono", 117, 8),
        ("XYSCSS=422P10", 243, 10),
        ("F25:1", 187, 8),
    ],
)
def test_a_stream_that_stays_goes_on_byte_for_byte(tags: str, size: int, bits: int) -> None:
    data = f"YUV4MPEG2 W{W} H{H} {tags}\n".encode()
    for line in (b"FRAME\n", b"FRAME Itpp\n", b"FRAME XANY=THING\n"):
        data += line + stored(RANDOM.integers(0, 2**bits, size), bits).tobytes()
    seen, result = through(data, None)
    assert len(seen) == 3
    assert result == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no y4m frames: it begins with b''"),
        (b"RIFF" + bytes(100), "holds no y4m frames: it begins with b'RIFF"),
        (b"YUV4MPEG2 W4 H4", "holds no y4m frames"),
        (b"YUV4MPEG2 W0 H4\n", "holds no y4m frames"),
        (b"YUV4MPEG2 W4 H4 C444alpha\n", r"format C444alpha are not taken\s+taken are C420jpeg.*C444p10"),
        (
            b"YUV4MPEG2 W4 H4 Cmono\nFRAME\n" + bytes(16) + b"FRAME\n" + bytes(9),
            "after 1 whole frames: .*9 of 16 bytes",
        ),
        (b"YUV4MPEG2 W4 H4 Cmono\nFRAME\n" + bytes(20), r"after 1 whole frames: a frame begins with b'\\x00"),
    ],
)
def test_what_is_no_whole_y4m_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        through(data, None)


def test_raw_frames_that_end_early_are_refused() -> None:
    with pytest.raises(PictureError, match="after 1 whole frames: it ends after 4 of 12 bytes"):
        through(bytes(16), "2x2:rgb24")
