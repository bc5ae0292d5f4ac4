"""Options of ``serpent-infer`` that say how results are written and which pictures are taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from serpent.runtime.batch import BatchOptions


def _tile(_context: click.Context, _parameter: click.Parameter, value: str) -> int | str:
    if value in ("auto", "off"):
        return value
    if not value.isdecimal() or int(value) == 0:
        raise click.BadParameter(f"{value!r} is neither auto, off nor a number of pixels")
    return int(value)


_OPTIONS = (
    click.option(
        "--tile",
        metavar="auto|off|N",
        callback=_tile,
        default="auto",
        show_default=True,
        help="Sides of tiles in pixels. auto: tiles only where a picture exceeds the model's sizes or the free memory; "
        "off: never.",
    ),
    click.option("--overlap", type=click.IntRange(min=0), help="Pixels that neighbouring tiles share. Default: 1/8."),
    click.option(
        "--tta", is_flag=True, help="Mean over the eight ways to turn and mirror a picture: better, and 8 times slower."
    ),
    click.option(
        "--depth",
        type=click.Choice(["8", "10", "12", "16", "32"]),
        help="Bits per sample of the result; 32 is float. Default: as the picture, as far as the format goes.",
    ),
    click.option(
        "--quality",
        type=click.IntRange(1, 100),
        help="Of JPEG, AVIF and WebP (which it makes lossy). Default: as the picture, where it is a JPEG; else 95, "
        "and WebP without loss.",
    ),
    click.option(
        "--subsampling",
        type=click.Choice(["4:4:4", "4:2:0"]),
        help="Of colour in JPEG and AVIF. Default: as the picture, where it is a JPEG; else 4:4:4.",
    ),
    click.option("--lossless/--lossy", default=None, help="Of WebP and AVIF. Default: WebP lossless, AVIF lossy."),
    click.option("--resize", metavar="WxH|Wx|xH|N%", help="Size of the result.  [Lanczos]"),
    click.option("--strip", is_flag=True, help="Leave out ICC profile, EXIF, XMP and resolution."),
    click.option(
        "--max-pixels", type=click.IntRange(min=1), help="Refuse larger pictures and results. Default: 300 million."
    ),
    click.option("--overwrite", is_flag=True, help="Replace existing results."),
)


def picture_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that :func:`batch_options` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def batch_options(chosen: dict[str, Any]) -> BatchOptions:
    """What the options say; takes its own out of ``chosen``."""
    from serpent.pictures import MAX_PIXELS, Encoding
    from serpent.runtime.batch import BatchOptions
    from serpent.runtime.tiling import Tiling

    depth = chosen.pop("depth")
    max_pixels = chosen.pop("max_pixels") or MAX_PIXELS
    encoding = Encoding(
        depth=None if depth is None else int(depth),
        max_pixels=max_pixels,
        **{name: chosen.pop(name) for name in ("quality", "subsampling", "lossless", "strip", "resize")},
    )
    return BatchOptions(
        encoding,
        overwrite=chosen.pop("overwrite"),
        in_place=chosen["in_place"],
        skip_existing=chosen["skip_existing"],
        max_pixels=max_pixels,
        make_folders=chosen["out_dir"] is not None,
        tiling=Tiling(chosen.pop("tile"), chosen.pop("overlap")),
        self_ensemble=chosen.pop("tta"),
    )
