"""``serpent-infer``: restore pictures."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serpent_cli.comparison import Against
from serpent_cli.console import activity, show_json
from serpent_cli.memory_lines import MemoryLines
from serpent_cli.options import native_code_option, version_option
from serpent_cli.picture_options import batch_options, picture_options
from serpent_cli.tf32 import keep_f32

if TYPE_CHECKING:
    from serpent.pictures.jobs import Job
    from serpent.runtime.batch import BatchOptions
    from serpent.runtime.open import Precision, Scan
    from serpent.runtime.session import Session


class _Named(click.Path):
    """A path that is not empty: Path takes "", an unset variable of a script, for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


@click.command(short_help="Restore pictures.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("pictures", nargs=-1, type=_Named(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Result of one picture; its suffix selects the format. Default: NAME_restored beside the picture, in its "
    "format (.png where that cannot be written).",
)
@click.option(
    "--compare", type=click.Path(path_type=Path), help="Of one picture: write it and its result side by side."
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="Of one picture: what it should be. Says PSNR and SSIM, and --compare shows it too.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Of one picture: write a page (.html) with both, their difference, timings, engine and parity.",
)
@click.option("--raw", metavar="WxH[:FORMAT[:RATE]]", help="With -: frames without a header, by FFmpeg's names.")
@click.option("--out-dir", type=_Named(path_type=Path), help="Folder of results; the tree of folders is kept.")
@click.option("--suffix", help="Added to the name of a result. Default: _restored, and none with --out-dir.")
@click.option("--in-place", is_flag=True, help="Replace pictures by their results.")
@click.option("--skip-existing", is_flag=True, help="Leave alone what has a result: resumes an interrupted run.")
@click.option("--files-from", metavar="FILE", help="Take names of pictures from FILE, one per line; - is stdin.")
@click.option("-0", "--null", is_flag=True, help="With --files-from: names end with NUL (find -print0).")
@picture_options
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu or cuda:N; for many pictures also cuda:0,cuda:1."
)
@click.option(
    "--scan",
    type=click.Choice(["native", "function"]),
    help="For .onnx: run the selective scan on the native kernel, or on the file's own function (slow). "
    "Default: native where its library is there.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. Default: all.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "bf16"]), help="For .safetensors: inside the network.")
@native_code_option
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Write one JSON object to stdout, errors included; of many pictures, one a line; with -, to stderr.",
)
@version_option
def infer(
    model: Path,
    pictures: tuple[Path, ...],
    output: Path | None,
    compare: Path | None,
    reference: Path | None,
    report: Path | None,
    raw: str | None,
    device: str,
    scan: Scan | None,
    threads: int | None,
    precision: Precision | None,
    allow_native_code: bool,
    as_json: bool,
    **chosen: Any,
) -> int:
    """Restore PICTURES with MODEL.

    MODEL is a .safetensors checkpoint (PyTorch), an .onnx file (ONNX Runtime), a .plan (TensorRT), or B, L or H for the
    weights that ship. PICTURES are files, folders (with all below them) and patterns, or - for video frames (y4m) from
    stdin to stdout. A picture of any size is taken: one smaller than the model's size is padded, a larger one goes
    through in overlapping, blended tiles.

    A result keeps the picture's depth, transparency, ICC profile, EXIF, XMP and resolution as far as its format goes;
    each thing that is not kept gets a line. Of many pictures, those that fail are listed at the end (exit code 1)
    while the rest is done.
    """
    from serpent.runtime.open import open_session

    keep_f32()
    options = batch_options(chosen)
    # None: where it is not asked for, it is no option that other kinds of file would have to refuse.
    native_code = allow_native_code or None
    one = _only_picture(pictures, chosen)

    def opened(on: str) -> Session:
        return open_session(model, on, scan=scan, threads=threads, allow_native_code=native_code, precision=precision)

    shown = any(path is not None for path in (compare, reference, report))
    if shown and (one is None or str(one) == "-"):
        context = click.get_current_context()
        raise click.UsageError("--compare, --reference and --report are for one picture and its --output", context)
    if Path("-") in pictures:
        from serpent_cli.infer_stream import restore_stream

        return restore_stream(raw, options, lambda: opened(device), as_json=as_json)
    if raw is not None:
        raise click.UsageError("--raw is for frames on stdin (-)", click.get_current_context())
    if one is not None:
        _check_picture(one, model)
        against = Against(compare, reference)
        _restore_one(model, one, output, options, lambda: opened(device), against, report, as_json=as_json)
        return 0

    from serpent_cli.infer_many import run_many

    jobs = _jobs(model, pictures, output, chosen)
    with contextlib.ExitStack() as stack:
        with activity(f"loading {model.name}"):
            sessions = [stack.enter_context(opened(each)) for each in device.split(",")]
        return run_many(sessions, jobs, options, as_json=as_json)


def _only_picture(pictures: tuple[Path, ...], chosen: dict[str, Any]) -> Path | None:
    """The picture, where one file was named and nothing asks for more."""
    asked = any(chosen.values()) or chosen["suffix"] is not None  # the empty suffix asks for something, too
    if len(pictures) != 1 or pictures[0].is_dir() or asked:
        return None
    alone = pictures[0]
    return None if any(sign in str(alone) for sign in "*?[") and not os.path.lexists(alone) else alone


def _jobs(model: Path, pictures: tuple[Path, ...], output: Path | None, chosen: dict[str, Any]) -> list[Job]:
    from serpent.errors import UsageError
    from serpent.pictures.formats import format_of
    from serpent.pictures.jobs import Targets, collect
    from serpent_cli.infer_many import expand, expand_list, read_list

    if not pictures and chosen["files_from"] is None and (format_of(model) is not None or model.is_dir()):
        raise UsageError(
            f"{model} stands in the place of the model, and no picture is named",
            hint=f"the model comes first: serpent-infer B {shlex.quote(str(model))}",
        )
    if chosen["in_place"] and chosen["skip_existing"]:
        raise UsageError(
            "--skip-existing tells what is done by its result, and --in-place leaves none beside a picture",
            hint="restore into a folder (--out-dir), which can be resumed, or without --skip-existing",
        )
    if output is not None and chosen["in_place"]:
        raise UsageError(f"--in-place replaces the picture, --output writes {output}", hint="give one of them")
    if output is not None:
        raise UsageError("--output names one result", hint="use --out-dir for many pictures")
    folder = chosen["out_dir"]
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"--out-dir {folder} is a file; expected a folder", hint="choose another folder")
    if chosen["null"] and chosen["files_from"] is None:
        raise UsageError("--null says how names end in a list", hint="add --files-from -")
    listed = [] if chosen["files_from"] is None else read_list(chosen["files_from"], null=chosen["null"])
    if not pictures and not listed:
        raise click.UsageError("no picture named", click.get_current_context())
    for path in (*pictures, *listed):
        _check_picture(path, model)
    suffix = chosen["suffix"]
    if suffix is None:
        suffix = "" if chosen["in_place"] or chosen["out_dir"] is not None else "_restored"
    inputs = expand(pictures) | expand_list(listed)
    targets = Targets(chosen["out_dir"], suffix, chosen["in_place"])
    return collect(list(inputs), targets, inputs, leave_results=chosen["skip_existing"])


def _restore_one(
    model: Path,
    picture: Path,
    output: Path | None,
    options: BatchOptions,
    opened: Callable[[], Session],
    against: Against,
    report: Path | None,
    *,
    as_json: bool,
) -> None:
    from serpent.pictures import check_picture_target, check_result, read_picture, write_picture
    from serpent.pictures.jobs import Targets
    from serpent.pictures.resize import new_size
    from serpent.runtime.inspection import inspect_file
    from serpent.runtime.restoration import restore_picture
    from serpent_cli.report import Finished, check_report_target, write_report

    target = Targets().of(picture, picture.parent) if output is None else output
    _check_distinct(picture, against.reference, target, against.target, report)
    # What can fail at once fails before the model is loaded; first what was named, then what it would become.
    source = read_picture(picture, max_pixels=options.max_pixels)
    check_picture_target(target, overwrite=options.overwrite)
    check_result(target, source, options.encoding)
    if report is not None:
        check_report_target(report, overwrite=options.overwrite)
    against.prepare(source, options)
    memory = MemoryLines(quiet=as_json)
    with activity(f"loading {model.name}") as progress:
        start = time.perf_counter()
        with opened() as session:
            loaded = time.perf_counter()
            info = session.info
            described = None if report is None else inspect_file(info.path)
            progress.stage(f"restoring {picture.name}")
            begun = time.perf_counter()
            restored = restore_picture(
                session,
                source,
                on_tile=progress.tile,
                tiling=options.tiling,
                self_ensemble=options.self_ensemble,
                on_plan=memory.planned,
            )
            seconds = time.perf_counter() - begun
            memory.measured(session)
        progress.stage(f"writing {target.name}")
        dropped = write_picture(target, restored, encoding=options.encoding, overwrite=options.overwrite)
    lost = against.write(source, restored, overwrite=options.overwrite)
    height, width = new_size(restored, options.encoding.resize, options.encoding.max_pixels)
    notes = (*restored.notes, *dropped, *lost, *info.remarks)
    if report is not None and described is not None:
        times = (loaded - start, seconds)
        done = Finished(picture, target, source, restored, info, described, *times, options.encoding.resize, notes)
        with activity(f"writing {report.name}"):
            write_report(report, done, against, overwrite=options.overwrite)
    if as_json:
        show_json(
            {
                "output": str(target),
                "width": width,
                "height": height,
                "backend": info.backend,
                "device": info.device,
                "scan": info.scan,
                "precision": info.precision,
                "task": info.task,
                "weights": info.weights,
                "load_seconds": round(loaded - start, 3),
                "seconds": round(seconds, 3),
                "memory": memory.figures(),
                **against.figures(),
                **({} if report is None else {"report": str(report)}),
                "notes": list(notes),
            }
        )
        return
    how = f"{info.backend} on {info.device}, {info.scan} scan"
    click.echo(f"{target}  {width}x{height}  {how}, {seconds:.2f} s (loading {loaded - start:.2f} s)")
    for line in (*memory.lines(), *against.lines()):
        click.echo(line)
    if report is not None:
        click.echo(f"report: {report}")
    for note in notes:
        click.echo(f"note: {note}")


_MODEL_SUFFIXES = (".safetensors", ".onnx", ".plan")


def _check_distinct(picture: Path, reference: Path | None, *written: Path | None) -> None:
    """Refuse to write two things into one file, or anything over what is read."""
    from serpent.errors import UsageError

    taken = {os.path.realpath(picture)}
    for path in filter(None, written):
        if os.path.realpath(path) == os.path.realpath(picture):
            raise UsageError(
                f"{path} is the picture itself", hint="add --in-place, without --output, to replace it by its result"
            )
        if reference is not None and os.path.realpath(path) == os.path.realpath(reference):
            raise UsageError(f"{path} is the reference", hint="give each output a name of its own")
        if os.path.realpath(path) in taken:
            raise UsageError(f"{path} is named twice", hint="give each output a name of its own")
        taken.add(os.path.realpath(path))


def _check_picture(picture: Path, model: Path) -> None:
    """Refuse what its name alone says is no picture: arguments in the wrong order."""
    from serpent.errors import UsageError
    from serpent.pictures.formats import format_of
    from serpent.weights import is_variant

    if picture.suffix.lower() in _MODEL_SUFFIXES:
        hint = f"the model comes first: serpent-infer {shlex.quote(str(picture))} {shlex.quote(str(model))}"
        raise UsageError(f"{picture} is a model file, not a picture", hint=hint)
    if format_of(model) is not None:
        named = picture if is_variant(str(picture)) else "B"
        hint = f"the model comes first: serpent-infer {named} {shlex.quote(str(model))}"
        raise UsageError(f"{model} is a picture, not a model", hint=hint)
