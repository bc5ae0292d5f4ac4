"""Streams of video frames between programs: y4m or raw pixels in, the same out, one frame at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from serpent.errors import PictureError, UsageError
from serpent.extras import require
from serpent.pictures.video_colours import from_rgb, to_rgb

if TYPE_CHECKING:
    from av import VideoFrame


@dataclass(frozen=True)
class RawVideo:
    """Frames without a header.

    Attributes:
        width: pixels.
        height: pixels.
        pixel_format: by FFmpeg's name, as "rgb24" or "yuv420p".
        rate: frames a second.
    """

    width: int
    height: int
    pixel_format: str = "rgb24"
    rate: Fraction = Fraction(25)

    @classmethod
    def parse(cls, text: str) -> RawVideo:
        """From ``WxH[:FORMAT[:RATE]]``, as 1920x1080:yuv420p:30000/1001.

        Raises:
            UsageError: not of this form.
        """
        match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)(?::(\w+)(?::(\d+(?:/\d+)?))?)?", text)
        if match is None or match[4] in ("0", "0/1"):
            raise UsageError(f"raw frames {text!r} are not WxH[:FORMAT[:RATE]]", hint="for example 1920x1080:rgb24:25")
        return cls(int(match[1]), int(match[2]), match[3] or "rgb24", Fraction(match[4] or 25))


class FrameStream:
    """Frames from one pipe, and their results into another of the same kind.

    The matrix and the range of the colours are the header's, else BT.709 and limited; results are encoded the same way.

    Args:
        source: unbuffered binary stream of y4m, or of raw frames.
        sink: binary stream for the results.
        raw: what raw frames look like; None for y4m.

    Raises:
        MissingExtraError: PyAV is not installed.
        PictureError: no frames of this kind.
    """

    def __init__(self, source: BinaryIO, sink: BinaryIO, raw: RawVideo | None = None) -> None:
        require("av", "video", "streams of video frames")
        import av

        self._sink = sink
        # Without probing: it would hold back frames until megabytes of them are there.
        options = {"probesize": "32", "analyzeduration": "0"}
        if raw is not None:
            options |= {"video_size": f"{raw.width}x{raw.height}", "pixel_format": raw.pixel_format}
            options |= {"framerate": str(raw.rate)}
        self._kind = "yuv4mpegpipe" if raw is None else "rawvideo"
        try:
            self._input: Any = av.open(source, format=self._kind, options=options)
        except (av.FFmpegError, ValueError) as error:
            hint = "y4m comes from ffmpeg with -f yuv4mpegpipe; raw frames need --raw WxH" if raw is None else None
            raise PictureError(
                f"the stream holds no {'y4m' if raw is None else 'raw'} frames: {error}", hint=hint
            ) from None
        self._output: Any = None
        self._last: VideoFrame | None = None

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Each frame, (H, W, 3) float32 RGB in [0, 1].

        Raises:
            PictureError: the stream ends within a frame or is damaged.
        """
        import av

        try:
            for frame in self._input.decode(video=0):
                self._last = frame
                yield to_rgb(frame)
        except av.FFmpegError as error:
            raise PictureError(f"the stream of frames is damaged: {error}") from None

    def write(self, pixels: NDArray[np.float32]) -> None:
        """Write the result of the frame read last, and hand it on at once.

        Args:
            pixels: (H, W, 3) float32 RGB, clipped to [0, 1].

        Raises:
            PictureError: the reading end is gone or refuses.
        """
        like = self._last
        assert like is not None, "a result without a frame"
        frame = from_rgb(pixels, like)
        frame.pts, frame.time_base = like.pts, like.time_base
        if self._output is None:
            self._open_output(like)
        try:
            for packet in self._stream.encode(frame):
                self._output.mux(packet)
            self._sink.flush()
        except OSError as error:  # FFmpeg's errors of this kind are OSErrors as well
            raise PictureError(f"the results cannot be handed on: {error.strerror or error}") from None

    def _open_output(self, like: VideoFrame) -> None:
        import av

        source = self._input.streams.video[0]
        self._output = av.open(self._sink, "w", format=self._kind, options={"flush_packets": "1", "strict": "-1"})
        self._stream = self._output.add_stream("rawvideo", rate=source.average_rate)
        self._stream.width, self._stream.height = like.width, like.height
        self._stream.pix_fmt = like.format.name
        self._stream.codec_context.color_range = like.color_range
        self._stream.codec_context.colorspace = like.colorspace
        if source.sample_aspect_ratio:
            self._stream.sample_aspect_ratio = source.sample_aspect_ratio

    def close(self) -> None:
        """End both streams."""
        if self._output is not None:
            self._output.close()
        self._input.close()
