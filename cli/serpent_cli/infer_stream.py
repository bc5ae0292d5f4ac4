"""``serpent-infer MODEL -``: video frames from stdin to stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from click.core import ParameterSource

from serpent_cli.console import json_text
from serpent_cli.memory_lines import MemoryLines

if TYPE_CHECKING:
    from serpent.pictures.video import RawVideo
    from serpent.runtime.batch import BatchOptions
    from serpent.runtime.session import Session


_TAKEN = {"model", "pictures", "raw", "tile", "overlap", "tta", "max_pixels"}
_TAKEN |= {"device", "scan", "threads", "precision", "allow_native_code", "as_json"}


def restore_stream(raw: str | None, options: BatchOptions, opened: Callable[[], Session], *, as_json: bool) -> int:
    """Restore stdin to stdout, with the options of the command that is running; the exit code.

    Raises:
        UsageError: options that say something about files, a picture beside the stream, or a terminal.
        PictureError: as :func:`run_stream` says.
    """
    from serpent.pictures.video import RawVideo

    _refuse_what_streams_ignore(click.get_current_context())
    kind = None if raw is None else RawVideo.parse(raw)
    source, sink = _standard_streams()
    with opened() as session:
        return run_stream(session, source, sink, kind, options, as_json=as_json)


def _refuse_what_streams_ignore(context: click.Context) -> None:
    from serpent.errors import UsageError

    if len(context.params["pictures"]) > 1:
        raise UsageError("- is video from stdin, and goes alone", hint="restore pictures in a run of their own")
    given = [
        "/".join((parameter.opts[-1], *parameter.secondary_opts))
        for parameter in context.command.params
        if parameter.name not in _TAKEN
        and context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    ]
    if given:
        hint = "size, rate and format stay; a program behind the pipe, such as ffmpeg, changes them and writes files"
        raise UsageError(f"video goes to stdout as it came; {' and '.join(given)} cannot be had with -", hint=hint)


def _standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Stdin, and stdout without a buffer, which would hold frames back."""
    from serpent.errors import UsageError

    hint = "for example: ffmpeg -i in.mp4 -f yuv4mpegpipe - | serpent-infer MODEL - | ffmpeg -i - out.mp4"
    if sys.stdin.isatty():
        raise UsageError("frames are read from stdin, and that is a terminal", hint=hint)
    if sys.stdout.isatty():
        raise UsageError("frames go to stdout, and that is a terminal", hint=hint)
    source = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115 (the process's own)
    sink = open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115 (the process's own)
    return source, sink


def run_stream(
    session: Session, source: BinaryIO, sink: BinaryIO, raw: RawVideo | None, options: BatchOptions, *, as_json: bool
) -> int:
    """Restore frame by frame; what is said goes to stderr.

    Raises:
        PictureError: not one frame came, or what :class:`FrameStream` says.
    """
    from serpent.errors import PictureError
    from serpent.pictures import Picture
    from serpent.pictures.video import FrameStream
    from serpent.runtime.restoration import restore_picture

    start = time.perf_counter()
    frames = FrameStream(source, sink, raw, max_pixels=options.max_pixels)
    memory = MemoryLines(quiet=as_json)
    count = 0
    notes: dict[str, None] = dict.fromkeys((*frames.notes, *session.info.remarks))
    for pixels in frames:
        frame = Picture(pixels, bits=frames.bits)
        restored = restore_picture(
            session,
            frame,
            tiling=options.tiling,
            self_ensemble=options.self_ensemble,
            on_plan=memory.planned,
        )
        frames.write(restored.pixels)
        notes |= dict.fromkeys(restored.notes)
        count += 1
    if count == 0:
        raise PictureError("stdin ended before the first frame", hint="the program in front of the pipe may say why")
    seconds = time.perf_counter() - start
    memory.measured(session)
    if as_json:
        report: dict[str, Any] = {"frames": count, "seconds": round(seconds, 3), "memory": memory.figures()}
        click.echo(json_text({**report, "notes": list(notes)}), err=True)
        return 0
    click.echo(f"{count} frames in {seconds:.1f} s, {count / seconds:.2f} a second", err=True)
    for line in memory.lines():
        click.echo(line, err=True)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    return 0
