"""Pictures in and out of files, as float32 RGB; what a file holds beyond that is named, never dropped silently."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from serpent.errors import ArgumentError, PictureError, UsageError
from serpent.files import check_writable_target, written_aside

ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".bmp": ("BMP", {}),
    ".ppm": ("PPM", {}),
}
"""File suffixes that can be written, with Pillow's encoder; all but JPEG are lossless."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: (H, W, 3) float32, RGB in [0, 1], upright.
        notes: one-line remarks on what of the file is not in ``pixels``.
    """

    pixels: NDArray[np.float32]
    notes: tuple[str, ...] = ()


def read_picture(path: Path | str) -> Picture:
    """Decode a picture: orientation applied, palettes and gray turned into RGB.

    Raises:
        PictureError: missing, empty, no picture, truncated, too large, or of a kind without a clear range.
    """
    path = Path(path)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise PictureError(f"cannot read the picture {path}: {error.strerror}") from None
    with stream, warnings.catch_warnings(record=True) as caught:
        # Not the warning about 89 megapixels, which cameras reach; at twice that Pillow refuses.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        picture = _open_and_decode(stream, path)
    remarks = dict.fromkeys(f"{path.name}: {' '.join(str(warning.message).split())}" for warning in caught)
    return Picture(picture.pixels, (*picture.notes, *remarks))


def _open_and_decode(stream: BinaryIO, path: Path) -> Picture:
    try:
        if not stream.read(1):
            raise PictureError(f"{path} is empty (0 bytes)")
        stream.seek(0)
        with Image.open(stream) as image:
            return _decode(image, path)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"{path} is no picture in a known format", hint="use PNG, JPEG, WebP, TIFF or BMP") from None
    except Image.DecompressionBombError as error:
        raise PictureError(f"{path} is too large to decode safely: {error}") from None
    # A decoder fed with damaged bytes raises nearly anything: SyntaxError, struct.error, zlib.error, IndexError.
    except Exception as error:
        raise PictureError(f"{path} is damaged or truncated: {' '.join(str(error).split())}") from error


def _decode(image: Image.Image, path: Path) -> Picture:
    lost = []
    # Asked before loading, which forgets how the file stored its samples.
    sixteen_bit = _is_sixteen_bit(image)
    frames = getattr(image, "n_frames", 1)
    if sixteen_bit:
        lost.append("16-bit depth (results have 8 bits)")
    if frames > 1:
        lost.append(f"{frames - 1} further frame(s)")
    if image.info.get("icc_profile"):
        lost.append("colour profile")
    if image.mode == "CMYK":
        lost.append("CMYK inks (converted to RGB)")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        if not (sixteen_bit and image.mode != "F"):
            raise PictureError(f"{path} has samples of kind {image.mode} without a known range", hint=_CONVERT)
        gray = np.asarray(ImageOps.exif_transpose(image), dtype=np.float32) / np.float32(65535)
        pixels = np.repeat(np.clip(gray, 0, 1)[..., None], 3, axis=-1)
    else:
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            if image.getchannel("A").getextrema() != (255, 255):
                lost.append("transparency")
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)
    notes = (f"{path.name}: not kept: {', '.join(lost)}",) if lost else ()
    return Picture(pixels, notes)


_CONVERT = "convert it to 8 or 16 bits per channel first"


def _is_sixteen_bit(image: Image.Image) -> bool:
    """Whether the file stores 16 bits per sample, which Pillow's mode alone does not tell (16-bit RGB is "RGB")."""
    arguments = image.tile[0][3] if isinstance(image, ImageFile.ImageFile) and image.tile else ()
    if image.format == "PPM":  # (mode, largest value)
        return isinstance(arguments, tuple) and isinstance(arguments[-1], int) and arguments[-1] > 255
    return ";16" in str(arguments)


def check_picture_target(path: Path, *, overwrite: bool) -> None:
    """Refuse early what :func:`write_picture` could not finish.

    Raises:
        UsageError: unknown suffix, an existing file without ``overwrite``, or no such folder.
    """
    if path.suffix.lower() not in ENCODERS:
        if path.is_dir():
            raise UsageError(f"{path} is a folder; expected a file name", hint=f"for example {path / 'restored.png'}")
        known = " ".join(ENCODERS)
        raise UsageError(
            f"{path} has the suffix {path.suffix!r}, which cannot be written; known suffixes are {known}",
            hint=f"for example {path.with_suffix('.png')}",
        )
    check_writable_target(path, overwrite=overwrite)


def write_picture(path: Path | str, pixels: NDArray[np.float32], *, overwrite: bool = False) -> None:
    """Encode a picture with 8 bits per channel, rounded to nearest; the file appears whole or not at all.

    Args:
        path: the suffix selects the format (:data:`ENCODERS`).
        pixels: (H, W, 3) float32, RGB; values outside [0, 1] are clipped.
        overwrite: replace an existing file.

    Raises:
        ArgumentError: wrong shape or dtype, or a value that is not finite.
        UsageError: unknown suffix, an existing file without ``overwrite``, or no such folder.
        PictureError: the format cannot hold the picture.
        SerpentError: the folder is read-only or full.
    """
    path = Path(path)
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or 0 in pixels.shape or pixels.dtype != np.float32:
        raise ArgumentError(f"pixels is {pixels.dtype}{pixels.shape}; expected float32 (H, W, 3)")
    if not np.isfinite(pixels).all():
        raise ArgumentError("pixels has values that are not finite (NaN or infinity)")
    check_picture_target(path, overwrite=overwrite)
    encoder, options = ENCODERS[path.suffix.lower()]
    encoded = io.BytesIO()
    levels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    try:
        # In memory first: what the encoder refuses is then told apart from what the disk refuses.
        Image.fromarray(levels).save(encoded, encoder, **options)
    except (OSError, ValueError) as error:
        height, width, _ = pixels.shape
        raise PictureError(f"a picture of {width}x{height} pixels does not fit into {encoder}: {error}") from error
    with written_aside(path) as aside:
        aside.write_bytes(encoded.getbuffer())
