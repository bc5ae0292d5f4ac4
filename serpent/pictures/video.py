"""Streams of video frames between programs: y4m or raw samples in, the same out, one frame at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from serpent.errors import PictureError, UsageError
from serpent.pictures.picture import MAX_PIXELS, check_size
from serpent.pictures.video_colours import add_change, to_rgb
from serpent.pictures.video_formats import FrameFormat, raw_format, y4m_format

_LONGEST_LINE = 4096
_INTERLACED = ("t", "b", "m")


@dataclass(frozen=True)
class RawVideo:
    """Frames without a header.

    Attributes:
        width: pixels.
        height: pixels.
        pixel_format: by FFmpeg's name, as "rgb24" or "yuv420p".
    """

    width: int
    height: int
    pixel_format: str = "rgb24"

    @classmethod
    def parse(cls, text: str) -> RawVideo:
        """From ``WxH[:FORMAT[:RATE]]``, as 1920x1080:yuv420p:30000/1001; nothing depends on the rate.

        Raises:
            UsageError: not of this form, or a format that is not taken.
        """
        match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)(?::(\w+)(?::[1-9]\d*(?:/[1-9]\d*)?)?)?", text)
        if match is None:
            raise UsageError(f"raw frames {text!r} are not WxH[:FORMAT[:RATE]]", hint="for example 1920x1080:rgb24:25")
        raw_format(match[3] or "rgb24")
        return cls(int(match[1]), int(match[2]), match[3] or "rgb24")


class FrameStream:
    """Frames from one pipe, and their results into another of the same kind.

    Lines of text (y4m's header and those before frames) go on as they came. Colours are BT.709 of limited range (gray:
    full), unless header or format say otherwise. Samples change by what the result's colours differ from the frame's.

    Args:
        source: binary stream of y4m, or of raw frames; ``read(n)`` must wait for all n bytes.
        sink: unbuffered binary stream for the results.
        raw: what raw frames look like; None for y4m.
        max_pixels: refuse larger frames.

    Attributes:
        bits: per sample.
        notes: one-line remarks.

    Raises:
        PictureError: no frames of this kind.
        UsageError: raw frames of a format that is not taken.
    """

    def __init__(
        self, source: BinaryIO, sink: BinaryIO, raw: RawVideo | None = None, *, max_pixels: int = MAX_PIXELS
    ) -> None:
        self._source, self._sink = source, sink
        self._has_lines = raw is None
        header = b""
        if raw is None:
            header = source.readline(_LONGEST_LINE)
            self._width, self._height, self._format, self.notes = _read_header(header)
        else:
            self._width, self._height, self._format = raw.width, raw.height, raw_format(raw.pixel_format)
            self.notes = ()
        self.bits = self._format.bits
        check_size(Path("stdin"), self._width, self._height, max_pixels)
        self._count = 0
        self._hand_on(header)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Each frame, (H, W, 3) float32 RGB in [0, 1].

        Raises:
            PictureError: the stream ends within a frame or is damaged.
        """
        form, size = self._format, self._format.samples(self._height, self._width)
        while True:
            self._line = self._source.readline(_LONGEST_LINE) if self._has_lines else b""
            if self._has_lines and not self._line:
                return
            if self._has_lines and not re.fullmatch(rb"FRAME( .*)?\n", self._line):
                raise self._damaged(f"a frame begins with {self._line[:60]!r}")
            data = self._source.read(size * form.kind.itemsize)
            if not data and not self._has_lines:
                return
            if len(data) < size * form.kind.itemsize:
                raise self._damaged(f"it ends after {len(data)} of {size * form.kind.itemsize} bytes of a frame")
            self._samples = np.frombuffer(bytearray(data), form.kind)
            if (most := int(self._samples.max())) >= 2**form.bits:
                raise self._damaged(f"a sample is {most}, which {form.bits} bits in the lower end do not hold")
            self._seen = to_rgb(form.components(self._samples, self._height, self._width), form)
            self._count += 1
            yield self._seen

    def _damaged(self, how: str) -> PictureError:
        return PictureError(f"the stream of frames is damaged after {self._count} whole frames: {how}")

    def write(self, pixels: NDArray[np.float32]) -> None:
        """Write the result of the frame read last, and hand it on at once.

        Args:
            pixels: (H, W, 3) float32 RGB, clipped to [0, 1].

        Raises:
            PictureError: the reading end is gone or refuses.
        """
        components = self._format.components(self._samples, self._height, self._width)
        add_change(components, np.clip(pixels, 0, 1) - self._seen, self._format)
        self._hand_on(self._line + self._samples.tobytes())

    def _hand_on(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._sink.write(rest) :]
        except OSError as error:
            raise PictureError(f"the results cannot be handed on: {error.strerror or error}") from None


def _read_header(line: bytes) -> tuple[int, int, FrameFormat, tuple[str, ...]]:
    """Width, height, format and remarks of a y4m stream (mjpegtools' yuv4mpeg(5), and FFmpeg's tags X)."""
    magic, *tags = line.decode("ascii", "replace").rstrip("\n").split(" ")
    said = {tag[:1]: tag[1:] for tag in tags if tag[:1] != "X"}
    extra = dict(tag[1:].split("=", 1) for tag in tags if re.match("X.*=", tag))
    sides = [said.get(side, "") for side in "WH"]
    if magic != "YUV4MPEG2" or line[-1:] != b"\n" or not all(re.fullmatch(r"[1-9]\d*", side) for side in sides):
        hint = "y4m comes from ffmpeg with -f yuv4mpegpipe; raw frames need --raw WxH"
        raise PictureError(f"the stream holds no y4m frames: it begins with {line[:60]!r}", hint=hint)
    form = y4m_format(said.get("C", extra.get("YSCSS", "420jpeg").lower()), extra.get("COLORRANGE"))
    if said.get("I") not in _INTERLACED:
        return int(sides[0]), int(sides[1]), form, ()
    note = f"the video is interlaced (I{said['I']}): both fields of a frame were restored as one picture"
    return int(sides[0]), int(sides[1]), form, (note,)
