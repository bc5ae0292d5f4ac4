"""What libvips does not tell of a file's header, from Pillow's readers of headers."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable

from PIL import ExifTags, GifImagePlugin, Image, ImageFile, JpegImagePlugin, TiffImagePlugin

_CAPTURE = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# Of the first directory of a TIFF file, what speaks of the picture and not of how the file stores it.
_DESCRIPTIVE = (
    ExifTags.Base.DocumentName,
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Rating,
    ExifTags.Base.Copyright,
    ExifTags.Base.XPTitle,
    ExifTags.Base.XPComment,
    ExifTags.Base.XPAuthor,
    ExifTags.Base.XPKeywords,
    ExifTags.Base.XPSubject,
)
_POINTERS = (ExifTags.IFD.Interop,)  # to places in the old file

# What is damaged is said in our words. For good: warnings.catch_warnings would get in the way of other threads.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")


class UnreadableHeaderError(Exception):
    """Pillow cannot make sense of it."""


def quantization_tables(data: bytes) -> dict[int, list[int]]:
    """The tables of a JPEG file, 64 values each, by number; none where Pillow cannot read it."""
    header = _opened(JpegImagePlugin.JpegImageFile, data)
    return {} if header is None else dict(getattr(header, "quantization", {}))


def comment(data: bytes) -> str | None:
    """The comment of a JPEG or GIF file, which is in no known encoding: UTF-8, or else Latin-1."""
    reader = GifImagePlugin.GifImageFile if data.startswith(b"GIF") else JpegImagePlugin.JpegImageFile
    header = _opened(reader, data)
    found = None if header is None else header.info.get("comment")
    if not isinstance(found, bytes) or not found.strip(b"\0 "):
        return None
    try:
        return found.decode()
    except UnicodeDecodeError:
        return found.decode("latin-1")


def tiff_exif(data: bytes) -> bytes | None:
    """The EXIF block of a TIFF file, as other formats hold it, if the file has such tags.

    Raises:
        UnreadableHeaderError: its directories are damaged.
    """
    try:
        found, kept = Image.Exif(), Image.Exif()
        found.endian = "<" if data.startswith(b"I") else ">"
        found.bigtiff = 43 in data[2:4]
        first = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if found.bigtiff else 8]).next
        found.load_from_fp(io.BytesIO(data), first)
        kept.update({tag: found[tag] for tag in _DESCRIPTIVE if tag in found})
        for directory in _CAPTURE:
            values = {tag: value for tag, value in found.get_ifd(directory).items() if tag not in _POINTERS}
            if directory in found and not values:
                raise UnreadableHeaderError
            kept.get_ifd(directory).update(values)
        return kept.tobytes() if kept or any(map(kept.get_ifd, _CAPTURE)) else None
    except (ArithmeticError, AttributeError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error):
        raise UnreadableHeaderError from None


def _opened(reader: Callable[[io.BytesIO], ImageFile.ImageFile], data: bytes) -> ImageFile.ImageFile | None:
    # Not Image.open, which refuses by a limit of its own what max_pixels allows.
    try:
        return reader(io.BytesIO(data))
    except (OSError, SyntaxError, ValueError):
        return None
