"""``serpent-infer MODEL -``: what it refuses, order and latency of frames, and pipes with ffmpeg."""

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

from serpent.errors import PictureError
from serpent.pictures.video import RawVideo
from serpent.runtime.batch import BatchOptions
from serpent.runtime.memory import Memory
from serpent_cli.infer_stream import run_stream
from serpent_cli.main import run_infer
from tests.fakes import FakeSession

RANDOM = np.random.default_rng(0)
H, W = 22, 34
INFER = "from serpent_cli.main import run_infer; run_infer()"
HEADER = f"YUV4MPEG2 W{W} H{H} F30000:1001 Ip A1:1 C444\n".encode()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("-o", "out.y4m", "--resize", "200%", "--depth", "16"), "--output and --depth and --resize"),
        (("--out-dir", "results"), "--out-dir"),
        (("--suffix", ""), "--suffix"),
        (("--in-place",), "--in-place"),
        (("--skip-existing",), "--skip-existing"),
        (("--overwrite",), "--overwrite"),
        (("--quality", "90"), "--quality"),
        (("--subsampling", "4:4:4"), "--subsampling"),
        (("--lossy",), "--lossless/--lossy cannot"),
        (("--strip",), "--strip"),
        (("--files-from", "list.txt"), "--files-from"),
        (("picture.png",), "- is video from stdin, and goes alone"),
        (("--raw", "16x16:p010le"), "raw frames of format 'p010le' are not taken"),
    ],
)
def test_what_a_stream_would_ignore_is_refused(
    arguments: tuple[str, ...], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["serpent-infer", "model.onnx", "-", *arguments])
    with pytest.raises(SystemExit) as leaving:
        run_infer()
    assert leaving.value.code == 2
    error = capsys.readouterr().err
    assert named in error
    assert ("video goes to stdout as it came" in error) == named.startswith("--")


def test_raw_frames() -> None:
    levels = RANDOM.integers(0, 256, (4, H, W, 3), dtype=np.uint8)
    sink = io.BytesIO()
    raw = RawVideo.parse(f"{W}x{H}:rgb24:25")
    assert run_stream(FakeSession(), io.BytesIO(levels.tobytes()), sink, raw, BatchOptions(), as_json=True) == 0
    np.testing.assert_array_equal(np.frombuffer(sink.getvalue(), np.uint8).reshape(levels.shape), 255 - levels)


def test_the_peak_memory_is_said_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    session = FakeSession()
    monkeypatch.setattr(session, "run_bytes", lambda *_: 40_000_000)
    monkeypatch.setattr(session, "memory", lambda: Memory(used=1_000_000, peak=2_000_000, free=10**9))
    data = HEADER + 3 * (b"FRAME\n" + bytes(3 * H * W))
    run_stream(session, io.BytesIO(data), io.BytesIO(), None, BatchOptions(), as_json=False)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("peak memory")]
    assert lines == ["peak memory: 41.1 MB predicted, 1.0 GB free", "peak memory 2.0 MB, predicted 41.1 MB"]


def test_interlaced_video_gets_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    data = HEADER.replace(b"Ip", b"Ib") + b"FRAME\n" + bytes(3 * H * W)
    run_stream(FakeSession(), io.BytesIO(data), io.BytesIO(), None, BatchOptions(), as_json=False)
    shown = capsys.readouterr()
    line = "note: the video is interlaced (Ib): both fields of a frame were restored as one picture\n"
    assert (shown.out, line in shown.err) == ("", True)
    assert "note: the weights of this model are untrained" in shown.err


def test_frames_beyond_the_limit_of_pixels_are_refused_by_the_header() -> None:
    with pytest.raises(PictureError, match=r"34x22 pixels.*the limit"):
        run_stream(FakeSession(), io.BytesIO(HEADER), io.BytesIO(), None, BatchOptions(max_pixels=747), as_json=True)


@pytest.mark.parametrize(("data", "raw"), [(HEADER, None), (b"", RawVideo(W, H))])
def test_a_stream_without_frames_is_an_error(data: bytes, raw: RawVideo | None) -> None:
    with pytest.raises(PictureError, match="stdin ended before the first frame"):
        run_stream(FakeSession(), io.BytesIO(data), io.BytesIO(), raw, BatchOptions(), as_json=True)


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
        run.stdin.write(HEADER)
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
    frames = HEADER + (b"FRAME\n" + bytes([128]) * (3 * H * W)) * 200
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
    (line,) = re.findall(r"^\s*(ffmpeg .* serpent-infer .*\|\n.*)$", page, re.MULTILINE)
    source = tmp_path / "in.mkv"
    film = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=1", "-f", "lavfi", "-i", "sine=duration=1"]
    subprocess.run(["ffmpeg", "-v", "error", *film, "-c:v", "ffv1", "-c:a", "flac", str(source)], check=True)
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
    video, sound = json.loads(subprocess.run(probe, check=True, capture_output=True).stdout)["streams"]
    assert (video["width"], video["height"], video["nb_read_frames"]) == (64, 48, "10")
    assert (sound["codec_name"], sound["codec_type"]) == ("flac", "audio")


def test_errors_in_json_do_not_come_between_frames(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["serpent-infer", "model.onnx", "-", "--output", "x.png", "--json"])
    with pytest.raises(SystemExit):
        run_infer()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["error"]["type"] == "UsageError"
