"""``serpent-infer MODEL -``: video frames from stdin to stdout."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO

import click

if TYPE_CHECKING:
    from serpent.pictures.video import RawVideo
    from serpent.runtime.batch import BatchOptions
    from serpent.runtime.session import Session


def standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Stdin and stdout without buffers, which would hold frames back.

    Raises:
        UsageError: one of them is a terminal.
    """
    from serpent.errors import UsageError

    hint = "for example: ffmpeg -i in.mp4 -f yuv4mpegpipe - | serpent-infer MODEL - | ffmpeg -i - out.mp4"
    if sys.stdin.isatty():
        raise UsageError("frames are read from stdin, and that is a terminal", hint=hint)
    if sys.stdout.isatty():
        raise UsageError("frames go to stdout, and that is a terminal", hint=hint)
    source = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115 (the process's own)
    sink = open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115 (the process's own)
    return source, sink


def run_stream(
    session: Session, source: BinaryIO, sink: BinaryIO, raw: RawVideo | None, options: BatchOptions, *, as_json: bool
) -> int:
    """Restore frame by frame; what is said goes to stderr."""
    from serpent.pictures import Picture
    from serpent.pictures.video import FrameStream
    from serpent.runtime.restoration import restore_picture

    start = time.perf_counter()
    frames = FrameStream(source, sink, raw)
    count = 0
    notes: dict[str, None] = dict.fromkeys(session.info.notes)
    try:
        for pixels in frames:
            restored = restore_picture(
                session, Picture(pixels), tiling=options.tiling, self_ensemble=options.self_ensemble
            )
            frames.write(restored.pixels)
            notes |= dict.fromkeys(restored.notes)
            count += 1
    finally:
        frames.close()
    seconds = time.perf_counter() - start
    if as_json:
        report: dict[str, Any] = {"frames": count, "seconds": round(seconds, 3), "notes": list(notes)}
        click.echo(json.dumps(report), err=True)
        return 0
    click.echo(f"{count} frames in {seconds:.1f} s, {count / seconds:.2f} a second", err=True)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    return 0
