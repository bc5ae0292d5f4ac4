"""Results of another size."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
from numpy.typing import NDArray

from serpent.errors import OutOfMemoryError, PictureError, UsageError
from serpent.pictures.picture import MAX_PIXELS, Picture

_MOST_TIMES = 8
"""Up to here "2x" is taken for a factor that was meant; such a width can be named together with its height."""


def parse_size(text: str) -> tuple[float | None, float | None, bool]:
    """``WxH``, ``Wx``, ``xH`` or ``N%`` as (width, height, whether these are factors).

    Raises:
        UsageError: none of these, or a width that reads like "twice as large".
    """
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)%", text):
        factor = float(match[1]) / 100
        if factor > 0:
            return factor, factor, True
    elif (match := re.fullmatch(r"([1-9]\d*)?x([1-9]\d*)?", text)) and (match[1] or match[2]):
        if match[1] and not match[2] and float(match[1]) <= _MOST_TIMES:
            hint = f"{match[1]} times as large is --resize {match[1]}00%"
            raise UsageError(f"the size {text!r} means a width of {match[1]} pixels alone", hint=hint)
        return (float(match[1]) if match[1] else None), (float(match[2]) if match[2] else None), False
    raise UsageError(f"the size {text!r} is neither WxH, Wx, xH nor N%", hint="for example --resize 1920x")


def new_size(picture: Picture, size: str | None, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) that a picture would be resized to.

    Args:
        picture: any.
        size: as :func:`parse_size` takes it; a side that is left out follows from the other. None: the picture's own.
        max_pixels: refuse more.

    Raises:
        UsageError: no such size, or more than ``max_pixels`` pixels.
    """
    old_height, old_width, _ = picture.pixels.shape
    if size is None:
        return old_height, old_width
    width, height, factors = parse_size(size)
    if factors:
        assert width is not None
        width, height = old_width * width, old_height * width
    if width is None:
        assert height is not None
        width = old_width * height / old_height
    if height is None:
        height = old_height * width / old_width
    width, height = max(1.0, width), max(1.0, height)
    if width * height > max_pixels:  # before rounding, which an endless number of digits would not survive
        raise UsageError(
            f"the size {size!r} means {width:.0f}x{height:.0f} pixels, {width * height / 1e6:.0f} million; "
            f"the limit is {max_pixels / 1e6:.0f} million",
            hint="choose a smaller --resize, or raise the limit (--max-pixels)",
        )
    return round(height), round(width)


def resized(picture: Picture, size: str, max_pixels: int = MAX_PIXELS) -> Picture:
    """The picture at another size, by Lanczos' kernel of three lobes (libvips); colours weighted with transparency.

    Args:
        picture: any.
        size: as :func:`new_size` takes it.
        max_pixels: refuse more.

    Raises:
        UsageError: no such size, or more than ``max_pixels`` pixels.
        PictureError: libvips refuses.
        OutOfMemoryError: the result does not fit into memory.
    """
    import pyvips

    new = new_size(picture, size, max_pixels)
    smaller = "choose a smaller --resize"
    try:
        return _resized(picture, new)
    except pyvips.Error as error:
        reason = " ".join(str(error).split())
        raise PictureError(f"cannot resize to {new[1]}x{new[0]} pixels: {reason}", hint=smaller) from None
    except MemoryError:
        message = f"resizing to {new[1]}x{new[0]} pixels needs more memory than there is"
        raise OutOfMemoryError(message, hint=smaller) from None


def _resized(picture: Picture, new: tuple[int, int]) -> Picture:
    if picture.alpha is None:
        return dataclasses.replace(picture, pixels=np.clip(_resize(picture.pixels, new), 0, 1))
    alpha = _resize(picture.alpha[..., None], new)
    weighted = _resize(picture.pixels * picture.alpha[..., None], new)
    visible = alpha > 1e-3  # below, the quotient is noise
    pixels = np.where(visible, weighted / np.where(visible, alpha, 1), 0).astype(np.float32)
    return dataclasses.replace(picture, pixels=np.clip(pixels, 0, 1), alpha=np.clip(alpha[..., 0], 0, 1))


def _resize(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W, C) to (*size, C); the kernel overshoots at edges."""
    import pyvips

    height, width, channels = values.shape
    image = pyvips.Image.new_from_array(np.ascontiguousarray(values))
    image = image.resize(size[1] / width, vscale=size[0] / height, kernel="lanczos3")
    found = image.numpy().reshape(image.height, image.width, channels)
    # libvips rounds sizes itself, by a pixel more or less at most; the border takes that.
    missing = [(0, max(0, wanted - have)) for wanted, have in zip(size, found.shape, strict=False)]
    whole: NDArray[np.float32] = np.pad(found, [*missing, (0, 0)], mode="edge") if np.any(missing) else found
    return whole[: size[0], : size[1]]
