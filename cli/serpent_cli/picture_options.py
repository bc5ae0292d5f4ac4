"""Options of ``serpent-infer`` that say how results are written and which pictures are taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from serpent.pictures import Encoding

_OPTIONS = (
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
    click.option("--strip", is_flag=True, help="Leave out ICC profile, EXIF, XMP and resolution."),
)


def encoding_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that :func:`encoding_from` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def encoding_from(chosen: dict[str, Any]) -> Encoding:
    """What the options say; takes them out of ``chosen``."""
    from serpent.pictures import Encoding

    depth = chosen.pop("depth")
    return Encoding(
        depth=None if depth is None else int(depth),
        quality=chosen.pop("quality"),
        subsampling=chosen.pop("subsampling"),
        lossless=chosen.pop("lossless"),
        strip=chosen.pop("strip"),
    )
