"""Pictures out of files: libvips for most formats, OpenImageIO for the Netpbm family and BMP."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serpent.errors import PictureError
from serpent.pictures.exif import exif_of_tiff
from serpent.pictures.formats import FLOAT_DEPTH
from serpent.pictures.headers import (
    UnreadableHeaderError,
    avif_colours,
    chroma_subsampling,
    comment,
    has_further_pictures,
    is_animated_png,
    png_colours,
)
from serpent.pictures.jpeg import estimate_quality
from serpent.pictures.oiio import read_other
from serpent.pictures.picture import (
    MAX_PIXELS,
    MILLIMETRES_PER_INCH,
    USUAL_RESOLUTION,
    JpegCoding,
    Metadata,
    Picture,
    check_size,
    split_channels,
)

if TYPE_CHECKING:
    from pyvips import Image

_KNOWN = "use PNG, JPEG, TIFF, WebP, AVIF, PPM, PFM or BMP"
_CONVERT = "convert it to 8 or 16 bits per channel first"
_SIGNATURES = (  # at which byte, what, and libvips' loader; no other loader gets to see foreign bytes
    (0, b"\x89PNG\r\n\x1a\n", "pngload_buffer"),
    (0, b"\xff\xd8\xff", "jpegload_buffer"),
    (0, b"II*\0", "tiffload_buffer"),
    (0, b"MM\0*", "tiffload_buffer"),
    (0, b"II+\0", "tiffload_buffer"),
    (0, b"MM\0+", "tiffload_buffer"),
    (8, b"WEBP", "webpload_buffer"),
    (4, b"ftyp", "heifload_buffer"),
    (0, b"GIF8", "gifload_buffer"),
)
_SIGNATURES_OF_OTHERS = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"PF", b"Pf", b"BM")
_XMP_TURN = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>)\s*)[2-8]""")
_LEVELS = {"uchar": 255, "ushort": 65535}
_FIELDS = {"bits-per-sample", "exif-data", "icc-profile-data", "iptc-data", "jpeg-chroma-subsample", "n-pages"}
_FIELDS |= {"orientation", "photoshop-data", "xmp-data"}


def read_picture(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture: orientation applied, palettes resolved, gray as three equal channels.

    Colours stay in the picture's own encoding: a profile is carried along, not applied (inks apart).

    Args:
        path: PNG, JPEG, TIFF, WebP, AVIF, GIF, PPM, PGM, PBM, PFM or BMP, told by its first bytes.
        max_pixels: refuse more.

    Raises:
        PictureError: missing, empty, no picture, truncated, too large, or of a kind without a clear range.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PictureError(f"cannot read the picture {path}: {error.strerror}") from None
    if not data:
        raise PictureError(f"{path} is empty (0 bytes)")
    if data.startswith(_SIGNATURES_OF_OTHERS):
        return read_other(path, max_pixels)
    return _read_with_vips(data, path, max_pixels)


def _read_with_vips(data: bytes, path: Path, max_pixels: int) -> Picture:
    import pyvips

    # A finished picture is not read again: what libvips would keep for that is only memory.
    pyvips.cache_set_max(0)
    loader = next((name for at, what, name in _SIGNATURES if data[at : at + len(what)] == what), None)
    if loader is None or (loader == "heifload_buffer" and not _is_avif(data)):
        raise PictureError(f"{path} is no picture in a known format", hint=_KNOWN)
    # libjpeg only warns of coded data that end too early; but it warns of harmless things as well.
    levels = ("warning", "error") if loader == "jpegload_buffer" else ("error",)
    remarks: tuple[str, ...] = ()
    for level in levels:
        try:
            image = getattr(pyvips.Image, loader)(data, fail_on=level)  # the header alone, until pixels are asked for
            check_size(path, image.width, image.height, max_pixels)
            picture = _decode(image, data, path)
            return dataclasses.replace(picture, notes=(*picture.notes, *remarks))
        except (pyvips.Error, UnicodeDecodeError) as error:
            reason = _reason(error)
            if "samples out of range" in reason:
                raise PictureError(f"{path} has samples of a kind that is not read", hint=_CONVERT) from None
            if level == levels[-1] or "premature end" in reason:
                raise PictureError(f"{path} is damaged or truncated: {reason}") from None
            remarks = (f"{path.name}: the decoder warned: {reason}",)
    raise AssertionError("the last level returns or raises")


def _reason(error: Exception) -> str:
    """What libvips says, on one line. It quotes files, whose bytes need not be UTF-8; pyvips fails at those."""
    said = str(error)
    if isinstance(error, UnicodeDecodeError):
        from pyvips import vips_lib

        vips_lib.vips_error_clear()  # pyvips left them there for the next error to fail at
        said = error.object.decode("utf-8", "backslashreplace")
    return " ".join(said.split()).removeprefix("unable to call ")


def _is_avif(data: bytes) -> bool:
    """Whether the first box of an ISO base media file (ISO/IEC 14496-12, 4.3) names AVIF among its brands."""
    return b"avif" in data[8 : int.from_bytes(data[:4], "big")]


def _decode(image: Image, data: bytes, path: Path) -> Picture:
    lost: list[str] = []
    fields = _fields(image, lost)
    pages = image.get("n-pages") if "n-pages" in fields else 1
    animated = is_animated_png(data)
    if pages > 1 or animated:
        lost.append("further frames (animation)" if animated else f"{pages - 1} further frame(s)")
    metadata = _metadata(image, fields, data, lost)
    jpeg = None
    if "jpeg-chroma-subsample" in fields:
        if has_further_pictures(data):
            lost.append("further pictures (Multi-Picture Format)")
        jpeg = JpegCoding(estimate_quality(data), chroma_subsampling(data) or image.get("jpeg-chroma-subsample"))
    image = image.autorot()
    if image.interpretation == "cmyk":
        lost.append("CMYK inks (converted to sRGB)")
        image = image.icc_transform("srgb", embedded=True, depth=16 if image.format == "ushort" else 8)
        metadata = dataclasses.replace(metadata, icc=None)
    elif image.interpretation in ("lab", "labs", "xyz", "yxy", "lch"):
        lost.append(f"{image.interpretation} encoding (converted to sRGB of 16 bits)")
        image = image.colourspace("rgb16")
        metadata = dataclasses.replace(metadata, icc=None)
    bits = _bits(image, fields, path)
    if image.bands > 4:
        raise PictureError(f"{path} has {image.bands} channels; expected at most 4", hint="convert it to RGB first")
    samples = _samples(image, bits, path)
    if bits == FLOAT_DEPTH and samples.size and (samples.min() < 0 or samples.max() > 1):
        lost.append(f"values outside [0, 1] (they span {samples.min():.4g} to {samples.max():.4g})")
        samples = np.clip(samples, 0, 1)
    notes = tuple(f"{path.name}: not kept: {each}" for each in lost)
    picture = split_channels(samples, bits, metadata, jpeg, notes)
    return dataclasses.replace(picture, alone=pages == 1 and not animated)


def _fields(image: Image, lost: list[str]) -> set[str]:
    """What libvips knows of the file, by its names."""
    try:
        return set(image.get_fields())
    except UnicodeDecodeError:  # pyvips takes all names for UTF-8, but a keyword of PNG's text is Latin-1
        lost.append("text (a keyword is not encoded in UTF-8)")
        return {name for name in _FIELDS if image.get_typeof(name)}


def _bits(image: Image, fields: set[str], path: Path) -> int:
    if image.format in ("float", "double"):
        return FLOAT_DEPTH
    if image.format not in _LEVELS:
        raise PictureError(f"{path} has samples of kind {image.format} without a known range", hint=_CONVERT)
    stored: int = image.get("bits-per-sample") if "bits-per-sample" in fields else 16
    return min(stored, 16 if image.format == "ushort" else 8)


def _samples(image: Image, bits: int, path: Path) -> NDArray[np.float32]:
    """(H, W, bands) float32 in [0, 1] (float pictures: as stored)."""
    raw: NDArray[Any] = image.numpy()
    raw = raw if raw.ndim == 3 else raw[..., None]
    if bits == FLOAT_DEPTH:
        if not np.isfinite(raw).all():
            raise PictureError(f"{path} has samples that are not finite (NaN or infinity)")
        return raw.astype(np.float32)
    if image.get_typeof("heif-compression") and 8 < bits < 16:
        raw = raw >> (16 - bits)  # libvips shifts 10 and 12 bits to the top
        return raw.astype(np.float32) / np.float32(2**bits - 1)
    return raw.astype(np.float32) / np.float32(_LEVELS[image.format])


def _metadata(image: Image, fields: set[str], data: bytes, lost: list[str]) -> Metadata:
    """What travels along; what cannot joins ``lost``."""

    def blob(name: str) -> bytes | None:
        return bytes(image.get(name)) if name in fields else None

    loader = image.get("vips-loader")
    exif, iptc = blob("exif-data"), blob("iptc-data")
    if loader.startswith("tiff"):
        if iptc is not None or "photoshop-data" in fields:
            lost.append("IPTC")
            iptc = None
        try:
            exif, whole = exif_of_tiff(data)
            if not whole:
                lost.append("part of EXIF (damaged)")
        except UnreadableHeaderError:
            lost.append("EXIF (damaged)")
    said = {"png": png_colours, "hei": avif_colours}.get(loader[:3])
    if said is not None and "icc-profile-data" not in fields and (named := said(data)):
        lost.append(f"colours that its {' and '.join(named)} say (taken for sRGB)")
    text = _png_text(image, fields, lost)
    if loader.startswith(("jpeg", "gif")) and (remark := comment(data)) is not None:
        text = [("Comment", remark)]
    resolution, xmp = _resolution(image), blob("xmp-data")
    turn = image.get("orientation") if "orientation" in fields else 1
    if resolution is not None and turn >= 5:  # a quarter turn, to the left or to the right
        resolution = resolution[::-1]
    if xmp is not None and turn != 1:
        xmp = _XMP_TURN.sub(rb"\g<1>1", xmp)
    return Metadata(blob("icc-profile-data"), exif, xmp, resolution, iptc, tuple(text) or None)


def _png_text(image: Image, fields: set[str], lost: list[str]) -> list[tuple[str, str]]:
    found = []
    named = [name.split("-", 3) for name in fields if name.startswith("png-comment-")]
    for _, _, number, keyword in sorted(named, key=lambda parts: int(parts[2])):
        text = image.get(f"png-comment-{number}-{keyword}")
        if "\N{REPLACEMENT CHARACTER}" in text:
            lost.append(f"text ({keyword}: its letters are not encoded in UTF-8)")
        else:
            found.append((keyword, text))
    return found


def _resolution(image: Image) -> tuple[float, float] | None:
    if image.xres == image.yres == 1.0:  # pixel per mm: libvips' word for unknown
        return None
    found = (image.xres * MILLIMETRES_PER_INCH, image.yres * MILLIMETRES_PER_INCH)
    return None if all(round(value, 1) == USUAL_RESOLUTION for value in found) else found
