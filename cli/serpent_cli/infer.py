"""``serpent-infer``: restore one picture."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serpent_cli.console import activity, show_json
from serpent_cli.options import json_option, native_code_option, version_option

if TYPE_CHECKING:
    from serpent.pictures.write import Subsampling
    from serpent.runtime.open import Scan


@click.command(short_help="Restore one picture.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("picture", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Result; its suffix selects the format. Default: NAME_restored beside the picture, in its format "
    "(.png where that cannot be written).",
)
@click.option(
    "--depth",
    type=click.Choice(["8", "10", "12", "16", "32"]),
    help="Bits per sample of the result; 32 is float. Default: as the picture, as far as the format goes.",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    help="Of JPEG, AVIF and WebP (which it makes lossy). Default: "
    "as the picture, where it is a JPEG; else 95, and WebP without loss.",
)
@click.option(
    "--subsampling",
    type=click.Choice(["4:4:4", "4:2:0"]),
    help="Of colour in JPEG and AVIF. Default: as the picture, where it is a JPEG; else 4:4:4.",
)
@click.option("--lossless/--lossy", default=None, help="Of WebP and AVIF. Default: WebP lossless, AVIF lossy.")
@click.option("--strip", is_flag=True, help="Leave out ICC profile, EXIF, XMP and resolution.")
@click.option("--max-pixels", type=click.IntRange(min=1), help="Refuse larger pictures. Default: 300 million.")
@click.option("--overwrite", is_flag=True, help="Replace an existing result.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N.")
@click.option(
    "--scan",
    type=click.Choice(["native", "function"]),
    help="For .onnx: run the selective scan on the native kernel, or on the file's own function (slow). "
    "Default: native where its library is there.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. Default: all.")
@native_code_option
@json_option
@version_option
def infer(
    model: Path,
    picture: Path,
    output: Path | None,
    depth: str | None,
    quality: int | None,
    subsampling: Subsampling | None,
    lossless: bool | None,
    strip: bool,
    max_pixels: int | None,
    overwrite: bool,
    device: str,
    scan: Scan | None,
    threads: int | None,
    allow_native_code: bool,
    as_json: bool,
) -> None:
    """Restore PICTURE with MODEL.

    MODEL is a .safetensors checkpoint (PyTorch), an .onnx file (ONNX Runtime) or a .plan (TensorRT).
    A picture of any size is taken: one smaller than the model's size is padded, a larger one goes through in
    overlapping, blended tiles.

    The result keeps the picture's depth, transparency, ICC profile, EXIF, XMP and resolution as far as its format
    goes; each thing that is not kept gets a line.
    """
    from serpent.pictures import MAX_PIXELS, Encoding, check_picture_target, read_picture, write_picture
    from serpent.runtime.open import open_session
    from serpent.runtime.restoration import restore_picture

    _check_picture(picture, model)
    target = _default_output(picture) if output is None else output
    # What can fail at once fails before the model is loaded.
    check_picture_target(target, overwrite=overwrite)
    encoding = Encoding(None if depth is None else int(depth), quality, subsampling, lossless, strip)
    source = read_picture(picture, max_pixels=max_pixels or MAX_PIXELS)
    with activity(f"loading {model.name}") as progress:
        start = time.perf_counter()
        # None: where it is not asked for, it is no option that other kinds of file would have to refuse.
        native_code = allow_native_code or None
        with open_session(model, device, scan=scan, threads=threads, allow_native_code=native_code) as session:
            loaded = time.perf_counter()
            progress.stage(f"restoring {picture.name}")
            restored = restore_picture(session, source, on_tile=progress.tile)
            seconds = time.perf_counter() - loaded
            info = session.info
        dropped = write_picture(target, restored, encoding=encoding, overwrite=overwrite)
    height, width, _ = restored.pixels.shape
    untrained = (_UNTRAINED,) if info.weights == "untrained" else ()
    notes = (*source.notes, *dropped, *info.notes, *untrained)
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
                "notes": list(notes),
            }
        )
        return
    how = f"{info.backend} on {info.device}, {info.scan} scan"
    click.echo(f"{target}  {width}x{height}  {how}, {seconds:.2f} s (loading {loaded - start:.2f} s)")
    for note in notes:
        click.echo(f"note: {note}")


_MODEL_SUFFIXES = (".safetensors", ".onnx", ".plan")
_UNTRAINED = "the weights of this model are untrained: the result is no restoration"


def _check_picture(picture: Path, model: Path) -> None:
    """Refuse what its name alone says is no picture: arguments in the wrong order, or the current folder."""
    from serpent.errors import PictureError, UsageError

    if picture.suffix.lower() in _MODEL_SUFFIXES:
        hint = f"the model comes first: serpent-infer {shlex.quote(str(picture))} {shlex.quote(str(model))}"
        raise UsageError(f"{picture} is a model file, not a picture", hint=hint)
    if not picture.name:
        raise PictureError(f"{picture} is a folder, not a picture", hint="name one picture; serpent-infer takes one")


def _default_output(picture: Path) -> Path:
    from serpent.pictures import format_of

    suffix = picture.suffix if format_of(picture) is not None else ".png"
    return picture.with_name(f"{picture.stem}_restored{suffix}")
