"""What libvips does not tell of a file's header, from Pillow's readers of headers."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable

from PIL import GifImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin

# Of PNG (W3C, third edition, table 12 and 11.3.2.1): white, red, green, blue, each x and y.
_SRGB_GAMMA = 0.45455
_SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
# Luma samples for one of chroma, in a row and in a column.
_SUBSAMPLING: dict[tuple[float, float], str] = {
    (1, 1): "4:4:4",
    (2, 1): "4:2:2",
    (2, 2): "4:2:0",
    (1, 2): "4:4:0",
    (4, 1): "4:1:1",
    (4, 2): "4:1:0",
}

# What is damaged is said in our words. For good: warnings.catch_warnings would get in the way of other threads.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")


class UnreadableHeaderError(Exception):
    """Pillow cannot make sense of it."""


def quantization_tables(data: bytes) -> dict[int, list[int]]:
    """The tables of a JPEG file, 64 values each, by number; none where Pillow cannot read it."""
    header = _opened(JpegImagePlugin.JpegImageFile, data)
    return {} if header is None else dict(getattr(header, "quantization", {}))


def chroma_subsampling(data: bytes) -> str | None:
    """That of a JPEG file of three channels; libvips calls every kind 4:2:0."""
    layers: list[tuple[int, int, int, int]] = getattr(_opened(JpegImagePlugin.JpegImageFile, data), "layer", [])
    if len(layers) != 3:
        return None
    (_, across, down, _), *chroma = layers
    kinds = {_SUBSAMPLING.get((across / each[1], down / each[2])) for each in chroma if each[1] and each[2]}
    return kinds.pop() if len(kinds) == 1 else None


def is_animated_png(data: bytes) -> bool:
    """Whether a PNG file has frames (APNG), of which libvips sees one."""
    return data.startswith(b"\x89PNG") and b"acTL" in data[: data.find(b"IDAT")]


def has_further_pictures(data: bytes) -> bool:
    """Whether a JPEG file has others behind it (CIPA DC-007): previews, gain maps."""
    header = _opened(JpegImagePlugin.JpegImageFile, data)
    return header is not None and "mp" in header.info


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


def png_colours(data: bytes) -> list[str]:
    """Chunks of a PNG file that say other colours than sRGB's where no profile does: gAMA, cHRM, cICP."""
    header = _opened(PngImagePlugin.PngImageFile, data)
    if header is None or "srgb" in header.info:
        return []
    found: list[str] = []
    if abs(header.info.get("gamma", _SRGB_GAMMA) - _SRGB_GAMMA) > 1e-3:
        found.append("gAMA")
    primaries = header.info.get("chromaticity", _SRGB_PRIMARIES)
    if any(abs(one - other) > 1e-3 for one, other in zip(primaries, _SRGB_PRIMARIES, strict=True)):
        found.append("cHRM")
    before_pixels = data[: data.find(b"IDAT")]
    if b"cICP" in before_pixels and b"cICP\1\x0d\0" not in before_pixels:  # sRGB's code points (ITU-T H.273)
        found.append("cICP")
    return found


def avif_colours(data: bytes) -> list[str]:
    """Other colours than sRGB's that an AVIF file says in a box of numbers (ISO/IEC 23008-12: colr, nclx)."""
    at = data.find(b"colrnclx") + 8
    if at < 8 or len(data) < at + 4:
        return []
    primaries, transfer = struct.unpack_from(">HH", data, at)  # ITU-T H.273; 2 is: not said
    return [] if primaries in (1, 2) and transfer in (2, 13) else [f"nclx box ({primaries}/{transfer})"]


def _opened(reader: Callable[[io.BytesIO], ImageFile.ImageFile], data: bytes) -> ImageFile.ImageFile | None:
    # Not Image.open, which refuses by a limit of its own what max_pixels allows.
    try:
        return reader(io.BytesIO(data))
    except (OSError, SyntaxError, ValueError):
        return None
