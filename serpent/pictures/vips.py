"""Encoding with libvips: PNG, JPEG, TIFF, WebP and AVIF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serpent.errors import PictureError
from serpent.pictures.formats import FLOAT_DEPTH, Format
from serpent.pictures.picture import MILLIMETRES_PER_INCH, USUAL_RESOLUTION, Picture

if TYPE_CHECKING:
    from serpent.pictures.write import Encoding

USUAL_QUALITY = 95


def encode(samples: NDArray[Any], depth: int, target: Format, picture: Picture, encoding: Encoding) -> bytes:
    """A whole file.

    Args:
        samples: (H, W, 1 to 4), uint8, uint16 (10 and 12 bits too) or float32.
        depth: bits per sample.
        target: one of libvips' formats.
        picture: where metadata and JPEG coding come from.
        encoding: what the caller asked for.

    Raises:
        PictureError: the format cannot hold the picture.
    """
    import pyvips

    height, width, channels = samples.shape
    if 8 < depth < 16:
        samples = samples << (16 - depth)  # libvips takes 10 and 12 bits at the top of 16
    horizontal, vertical = (None if encoding.strip else picture.metadata.resolution) or (USUAL_RESOLUTION,) * 2
    try:
        image = pyvips.Image.new_from_array(np.ascontiguousarray(samples))
        image = image.copy(interpretation=_interpretation(channels, depth))
        _attach(image, picture, target, strip=encoding.strip)
        image = image.copy(xres=horizontal / MILLIMETRES_PER_INCH, yres=vertical / MILLIMETRES_PER_INCH)
        data: bytes = image.write_to_buffer(
            target.suffixes[0], keep="none" if encoding.strip else "all", **_options(target, depth, picture, encoding)
        )
    except pyvips.Error as error:
        reason = " ".join(str(error).split())
        raise PictureError(f"a picture of {width}x{height} pixels does not fit into {target.name}: {reason}") from None
    return data


def exif_of(encoded: bytes) -> bytes | None:
    """The EXIF block of a file that :func:`encode` made, no TIFF."""
    import pyvips

    image = pyvips.Image.new_from_buffer(encoded, "")
    return bytes(image.get("exif-data")) if "exif-data" in image.get_fields() else None


def _interpretation(channels: int, depth: int) -> str:
    if depth == FLOAT_DEPTH:
        return "b-w" if channels < 3 else "scrgb"
    if depth > 8:
        return "grey16" if channels < 3 else "rgb16"
    return "b-w" if channels < 3 else "srgb"


def _attach(image: Any, picture: Picture, target: Format, *, strip: bool) -> None:
    import pyvips

    metadata = picture.metadata
    blobs = {
        "icc-profile-data": metadata.icc,
        "exif-data": metadata.exif,
        "xmp-data": metadata.xmp,
        "iptc-data": metadata.iptc if target.name == "JPEG" else None,  # of JPEG; TIFF would hold it in another form
    }
    for name, blob in blobs.items():
        if blob is not None and not strip:
            image.set_type(pyvips.GValue.blob_type, name, blob)
    for number, (keyword, text) in enumerate(metadata.text or ()):
        if not strip:
            image.set_type(pyvips.GValue.gstr_type, f"png-comment-{number}-{keyword}", text)
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)  # libvips corrects the tag in EXIF by this


def _options(target: Format, depth: int, picture: Picture, encoding: Encoding) -> dict[str, Any]:
    jpeg = picture.jpeg
    # libvips writes no other: what is coarser in one direction alone, as 4:2:2, keeps all that it has as 4:4:4.
    subsampling = encoding.subsampling or ("4:2:0" if jpeg is not None and jpeg.subsampling == "4:2:0" else "4:4:4")
    subsample_mode = "on" if subsampling == "4:2:0" else "off"
    quality = encoding.quality or (jpeg.quality if jpeg is not None else USUAL_QUALITY)
    lossless = encoding.lossless if encoding.lossless is not None else target.lossless and encoding.quality is None
    match target.name:
        case "JPEG":
            return {"Q": quality, "subsample_mode": subsample_mode, "optimize_coding": True}
        case "TIFF":
            return {"compression": "deflate", "predictor": "float" if depth == FLOAT_DEPTH else "horizontal"}
        case "WebP":
            return {"lossless": True, "exact": True} if lossless else {"Q": quality}
        case "AVIF":
            return {"Q": quality, "lossless": lossless, "bitdepth": depth, "subsample_mode": subsample_mode}
        case _:
            return {}
