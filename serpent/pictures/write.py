"""Pictures into files: depth and metadata follow the source as far as the format goes, and what does not is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serpent.errors import ArgumentError, PictureError, UsageError
from serpent.files import check_writable_target, written_aside
from serpent.pictures.exif import tags_lost, with_exif
from serpent.pictures.formats import FLOAT_DEPTH, FORMATS, Carried, Format, format_of, known_suffixes
from serpent.pictures.headers import UnreadableHeaderError
from serpent.pictures.oiio import write_other
from serpent.pictures.picture import MAX_PIXELS, Picture
from serpent.pictures.resize import new_size, parse_size, resized
from serpent.pictures.vips import encode, exif_of

Subsampling = Literal["4:4:4", "4:2:0"]


@dataclass(frozen=True)
class Encoding:
    """How to write; None follows the source.

    Attributes:
        depth: bits per sample, 8, 10, 12, 16 or 32 (float).
        quality: 1 to 100, of JPEG, WebP and AVIF; given for WebP or AVIF, it makes them lossy.
        subsampling: of colour in JPEG and AVIF.
        lossless: AVIF and WebP without loss.
        strip: leave metadata out.
        resize: another size, as :func:`serpent.pictures.resize.parse_size` takes it.
        max_pixels: refuse to resize to more.
    """

    depth: int | None = None
    quality: int | None = None
    subsampling: Subsampling | None = None
    lossless: bool | None = None
    strip: bool = False
    resize: str | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.resize is not None:
            parse_size(self.resize)


def check_picture_target(path: Path, *, overwrite: bool) -> None:
    """Refuse early what :func:`write_picture` could not finish.

    Raises:
        UsageError: unknown suffix, an existing file without ``overwrite``, or no such folder.
    """
    if format_of(path) is None:
        if path.is_dir():
            raise UsageError(f"{path} is a folder; expected a file name", hint=f"for example {path / 'restored.png'}")
        raise UsageError(
            f"{path} has the suffix {path.suffix!r}, which cannot be written; "
            f"known suffixes are {' '.join(known_suffixes())}",
            hint=f"for example {path.with_suffix('.png')}",
        )
    check_writable_target(path, overwrite=overwrite)


def check_result(path: Path, picture: Picture, encoding: Encoding) -> None:
    """Refuse early what :func:`write_picture` could not make of a picture of this kind.

    Args:
        path: a target that :func:`check_picture_target` has let pass.
        picture: any; its pixels may still change.
        encoding: how it will be written.

    Raises:
        UsageError: a depth that the format does not have, or no size to resize to.
        PictureError: the format cannot hold the picture.
    """
    height, width = new_size(picture, encoding.resize, encoding.max_pixels)
    target = format_of(path)
    assert target is not None
    if target.max_side is not None and max(width, height) > target.max_side:
        raise PictureError(
            f"{target.name} holds no side of more than {target.max_side} pixels, and the result has {width}x{height}",
            hint="write a .png or .tif",
        )
    if encoding.depth is not None and encoding.depth not in target.depths:
        known = ", ".join(str(depth) for depth in target.depths)
        raise UsageError(f"{target.name} has no depth of {encoding.depth} bits; it has {known}")
    if target.name == "PGM" and not picture.gray:
        raise PictureError("PGM holds gray alone, and the picture has colour", hint="write a .ppm")


def write_picture(
    path: Path | str,
    picture: Picture | NDArray[np.float32],
    *,
    encoding: Encoding | None = None,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Encode a picture, rounded to nearest; the file appears whole or not at all.

    Args:
        path: the suffix selects the format (:data:`serpent.pictures.FORMATS`).
        picture: a picture, or pixels alone, (H, W, 3) float32 RGB, written with 8 bits per sample where the format
            can; values outside [0, 1] are clipped.
        encoding: how to write.
        overwrite: replace an existing file.

    Returns:
        One-line remarks on what the format could not keep.

    Raises:
        ArgumentError: wrong shape or dtype, or a value that is not finite.
        UsageError: unknown suffix, an existing file without ``overwrite``, no such folder, a depth that the format
            does not have, or no size to resize to.
        PictureError: the format cannot hold the picture.
        OutOfMemoryError: the resized picture does not fit into memory.
        SerpentError: the folder is read-only or full.
    """
    path = Path(path)
    picture = picture if isinstance(picture, Picture) else Picture(picture)
    encoding = encoding or Encoding()
    _check_pixels(picture)
    check_picture_target(path, overwrite=overwrite)
    check_result(path, picture, encoding)
    target = format_of(path)
    assert target is not None
    if encoding.resize is not None:
        picture = resized(picture, encoding.resize, encoding.max_pixels)
    depth = encoding.depth or target.depth_for(picture.bits)
    samples = _quantise(_channels(picture, target), depth)
    lost: list[str] = []
    if target.library == "oiio":
        with written_aside(path) as aside:
            write_other(aside, samples, depth, target)
    else:
        # In memory first: what the encoder refuses is then told apart from what the disk refuses.
        encoded = encode(samples, depth, target, picture, encoding)
        if picture.metadata.exif is not None and not encoding.strip:
            height, width, _ = samples.shape
            encoded, lost = _with_exif(encoded, picture.metadata.exif, target, width, height)
        with written_aside(path) as aside:
            aside.write_bytes(encoded)
    dropped = _dropped(picture, target, depth, gray=samples.shape[-1] < 3, encoding=encoding)
    return tuple(f"{path.name}: {target.name} cannot keep {what}" for what in (*lost, *dropped))


def _with_exif(encoded: bytes, exif: bytes, target: Format, width: int, height: int) -> tuple[bytes, list[str]]:
    """The file with what libvips leaves out of it, and what of EXIF is still not there: libvips drops tags unasked."""
    if target.name != "TIFF":
        tags = tags_lost(exif, exif_of(encoded))
        return encoded, [f"{', '.join(tags)} of EXIF"] if tags else []
    try:
        encoded, whole = with_exif(encoded, exif, width, height)
    except UnreadableHeaderError:
        return encoded, ["EXIF (damaged)"]
    return encoded, [] if whole else ["part of EXIF (damaged)"]


def encoded_png(picture: Picture) -> bytes:
    """An 8-bit PNG file in memory, with all that travels along."""
    (target,) = (each for each in FORMATS if each.name == "PNG")
    return encode(_quantise(_channels(picture, target), 8), 8, target, picture, Encoding())


def _check_pixels(picture: Picture) -> None:
    pixels = picture.pixels
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or 0 in pixels.shape or pixels.dtype != np.float32:
        raise ArgumentError(f"pixels is {pixels.dtype}{pixels.shape}; expected float32 (H, W, 3)")
    if not np.isfinite(pixels).all():
        raise ArgumentError("pixels has values that are not finite (NaN or infinity)")


def _channels(picture: Picture, target: Format) -> NDArray[np.float32]:
    """(H, W, 1 to 4): what the format stores. Transparency that it cannot hold shows a white ground."""
    color = picture.pixels
    if picture.gray and target.gray:
        color = color[..., :1]
    if picture.alpha is None:
        return color
    alpha = picture.alpha[..., None]
    if target.alpha:
        return np.concatenate([color, alpha], axis=-1)
    return np.asarray(color * alpha + (1 - alpha), dtype=np.float32)


def _quantise(samples: NDArray[np.float32], depth: int) -> NDArray[Any]:
    levels: NDArray[np.float32] = np.clip(samples, 0, 1, dtype=np.float32)
    if depth == FLOAT_DEPTH:
        return levels
    levels *= np.float32(2**depth - 1)  # in place: a large result would not fit several times
    np.rint(levels, out=levels)
    return np.asarray(levels, dtype=np.uint8 if depth == 8 else np.uint16)


def _dropped(picture: Picture, target: Format, depth: int, *, gray: bool, encoding: Encoding) -> Iterator[str]:
    if picture.bits > depth and encoding.depth is None:
        yield f"{'float' if picture.bits == FLOAT_DEPTH else f'{picture.bits}-bit'} samples (written with {depth} bits)"
    if picture.alpha is not None and not target.alpha:
        yield "transparency (put on white)"
    asked = {
        "quality": encoding.quality,
        "subsampling": encoding.subsampling,
        "lossless" if encoding.lossless else "lossy": encoding.lossless,
    }
    for choice, chosen in asked.items():
        if chosen is not None and choice not in target.choices:
            yield f"{choice if isinstance(chosen, bool) else f'{choice} {chosen}'} (it has no such choice)"
    if encoding.strip:
        return
    metadata = picture.metadata
    present: dict[Carried, object] = {
        "ICC profile": metadata.icc,
        "EXIF": metadata.exif,
        "XMP": metadata.xmp,
        "IPTC": metadata.iptc,
        "text": metadata.text,
        "resolution": metadata.resolution,
    }
    for name, value in present.items():
        if value is not None and name not in target.carries:
            yield f"{name} ({', '.join(keyword for keyword, _ in metadata.text or ())})" if name == "text" else name
    # The header of a profile names its colour space in four letters (ICC.1:2022, 7.2.8).
    described = (metadata.icc or b"")[16:20].decode("ascii", "replace").strip()
    held = "GRAY" if gray else "RGB"
    if metadata.icc is not None and "ICC profile" in target.carries and described != held:
        yield f"ICC profile (it describes {described}, the file holds {held})"
