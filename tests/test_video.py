"""Streams of frames: colours as the header says, order and latency, and pipes with ffmpeg."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from serpent.errors import PictureError, UsageError
from serpent.pictures.video import FrameStream, RawVideo
from serpent.runtime.batch import BatchOptions
from serpent_cli.infer_stream import run_stream
from tests.fakes import FakeSession

RANDOM = np.random.default_rng(0)
H, W = 22, 34
INFER = "from serpent_cli.main import run_infer; run_infer()"


def header(sampling: str, extra: str = "") -> bytes:
    return f"YUV4MPEG2 W{W} H{H} F30000:1001 Ip A1:1 C{sampling}{extra}\n".encode()


def planes(rgb: np.ndarray, bits: int, *, full: bool) -> np.ndarray:
    """ITU-R BT.709-6, items 3.2 to 3.5, full range as in ITU-T H.273, 8.3: (3, H, W) of Y, Cb, Cr, rounded."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    cb, cr = (blue - y) / 1.8556, (red - y) / 1.5748
    scale, middle = 2 ** (bits - 8), 2 ** (bits - 1)
    luma, chroma, foot = (2**bits - 1, 2**bits - 1, 0) if full else (219 * scale, 224 * scale, 16 * scale)
    levels = np.stack([foot + luma * y, middle + chroma * cb, middle + chroma * cr])
    return np.rint(levels).astype(np.uint8 if bits == 8 else "<u2")


@pytest.mark.parametrize(("bits", "sampling"), [(8, "444"), (10, "444p10")])
@pytest.mark.parametrize("full", [False, True])
def test_colours_are_bt709_and_come_back(bits: int, sampling: str, full: bool) -> None:
    frames = [0.2 + 0.6 * RANDOM.random((H, W, 3)) for _ in range(3)]
    start = header(sampling, " XCOLORRANGE=FULL" if full else "")
    coded = [planes(frame, bits, full=full) for frame in frames]
    data = start + b"".join(b"FRAME\n" + each.tobytes() for each in coded)
    sink = io.BytesIO()
    stream = FrameStream(io.BytesIO(data), sink)
    seen = []
    for frame in stream:
        seen.append(frame)
        stream.write(frame)
    stream.close()
    # Half a level of rounding in luma and in one chroma plane, whose largest weight is that of Cb in blue.
    level = 1 / (2**bits - 1 if full else 219 * 2 ** (bits - 8))
    most = 0.5 * level * (1 + 1.8556) + 1e-6
    for frame, expected in zip(seen, frames, strict=True):
        assert np.abs(frame - expected).max() <= most
    first_line, _, rest = sink.getvalue().partition(b"\n")
    assert f"W{W} H{H} F30000:1001".encode() in first_line
    assert (b"XCOLORRANGE=FULL" in first_line) == full
    size = coded[0].nbytes
    for index, expected_planes in enumerate(coded):
        frame_bytes = rest[index * (size + 6) + 6 : (index + 1) * (size + 6)]
        found = np.frombuffer(frame_bytes, expected_planes.dtype).reshape(expected_planes.shape)
        np.testing.assert_array_equal(found, expected_planes)


@pytest.mark.parametrize("sampling", ["420jpeg", "422", "420p10", "mono"])
def test_luma_is_exact_and_flat_chroma_too_where_chroma_is_subsampled(sampling: str) -> None:
    bits = 10 if sampling.endswith("10") else 8
    kind = np.uint8 if bits == 8 else np.dtype("<u2")
    middle = 2 ** (bits - 1)
    luma = RANDOM.integers(60 * middle // 128, 180 * middle // 128, (H, W)).astype(kind)
    width, height = (W // 2, H) if sampling == "422" else (W // 2, H // 2)
    chroma = b"" if sampling == "mono" else np.full(height * width, middle + 9, kind).tobytes() * 2
    data = header(sampling) + b"FRAME\n" + luma.tobytes() + chroma
    sink = io.BytesIO()
    stream = FrameStream(io.BytesIO(data), sink)
    for frame in stream:
        stream.write(frame)
    stream.close()
    assert sink.getvalue().partition(b"FRAME\n")[2] == luma.tobytes() + chroma


def test_raw_frames() -> None:
    levels = RANDOM.integers(0, 256, (4, H, W, 3), dtype=np.uint8)
    sink = io.BytesIO()
    session = FakeSession()
    raw = RawVideo.parse(f"{W}x{H}:rgb24:25")
    assert run_stream(session, io.BytesIO(levels.tobytes()), sink, raw, BatchOptions(), as_json=True) == 0
    np.testing.assert_array_equal(np.frombuffer(sink.getvalue(), np.uint8).reshape(levels.shape), 255 - levels)


@pytest.mark.parametrize("text", ["", "12", "0x4", "3x4:", "3x4:rgb24:0", "3x4:rgb24:25:1"])
def test_what_is_no_raw_video(text: str) -> None:
    with pytest.raises(UsageError, match="WxH"):
        RawVideo.parse(text)


def test_what_is_no_y4m_is_refused() -> None:
    with pytest.raises(PictureError, match="holds no y4m frames"):
        FrameStream(io.BytesIO(b"RIFF" + bytes(100)), io.BytesIO())


def test_each_frame_leaves_before_the_next_comes(checkpoint: Path) -> None:
    command = [sys.executable, "-c", INFER, str(checkpoint), "-", "--device", "cpu", "--threads", "1", "--json"]
    frame = b"FRAME\n" + RANDOM.integers(60, 180, 3 * H * W, dtype=np.uint8).tobytes()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        assert run.stderr is not None
        os.set_blocking(run.stdout.fileno(), False)
        run.stdin.write(header("444"))
        received = 0
        for count in range(1, 5):
            run.stdin.write(frame)
            deadline = time.monotonic() + 60
            while received < count * len(frame) and time.monotonic() < deadline:
                received += len(run.stdout.read(1 << 20) or b"")
                time.sleep(0.01)
            assert received >= count * len(frame), "a frame was held back"
        run.stdin.close()
        report = json.loads(run.stderr.read().decode().splitlines()[-1])
    assert (run.returncode, report["frames"]) == (0, 4)


def test_a_reader_that_leaves_is_an_error_in_one_line(checkpoint: Path) -> None:
    frames = header("444") + (b"FRAME\n" + bytes([128]) * (3 * H * W)) * 200
    command = [sys.executable, "-c", INFER, str(checkpoint), "-", "--device", "cpu", "--threads", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.close()
        _, errors = run.communicate(frames, timeout=120)
    assert run.returncode != 0
    assert b"Traceback" not in errors


@pytest.mark.require("ffmpeg")
def test_the_documented_pipe(checkpoint: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "pictures.md").read_text()
    (line,) = re.findall(r"^\s*(ffmpeg .* serpent-infer .*)$", page, re.MULTILINE)
    source = tmp_path / "in.mkv"
    test_picture = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=1"]
    subprocess.run(["ffmpeg", "-v", "error", *test_picture, "-c:v", "ffv1", str(source)], check=True)
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "serpent-infer"
    script.write_text(f"#!{sys.executable}\n{INFER.replace('; ', chr(10))}\n")
    script.chmod(0o755)
    shutil.copyfile(checkpoint, tmp_path / "model.safetensors")
    line = line.replace("model.onnx -", "model.safetensors - --device cpu --threads 1")
    line = line.replace("out.mkv", "-c:v ffv1 out.mkv")
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, env=environment, check=True)
    probe = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", str(tmp_path / "out.mkv")]
    (stream,) = json.loads(subprocess.run(probe, check=True, capture_output=True).stdout)["streams"]
    assert (stream["width"], stream["height"], stream["nb_read_frames"]) == (64, 48, "10")
