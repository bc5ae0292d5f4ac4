"""The formats that libvips' wheels leave out: Netpbm, PFM and BMP, through OpenImageIO."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent.errors import PictureError
from serpent.pictures.formats import FLOAT_DEPTH, Format
from serpent.pictures.picture import Metadata, Picture, check_size, split_channels

_TYPES = {8: "uint8", 16: "uint16", FLOAT_DEPTH: "float"}
_WRITERS = {"PPM": "pnm", "PGM": "pnm", "PFM": "pnm", "BMP": "bmp"}


def read_other(path: Path, max_pixels: int) -> Picture:
    """Decode a Netpbm, PFM or BMP file.

    Raises:
        PictureError: damaged, truncated or too large.
    """
    import OpenImageIO

    with _unicode_name(path) as name:
        source = OpenImageIO.ImageInput.open(name)
        if source is None:
            raise PictureError(f"{path} is damaged or truncated: {_reason(OpenImageIO.geterror())}")
        try:
            spec = source.spec()
            check_size(path, spec.width, spec.height, max_pixels)
            bits = {"uint8": 8, "uint16": 16, "float": FLOAT_DEPTH}[str(spec.format)]
            stored = source.read_image(spec.format)
            if stored is None:
                raise PictureError(f"{path} is damaged or truncated: {_reason(source.geterror())}")
        finally:
            source.close()
    samples = np.asarray(stored, dtype=np.float32).reshape(spec.height, spec.width, spec.nchannels)
    if bits == FLOAT_DEPTH:
        if not np.isfinite(samples).all():
            raise PictureError(f"{path} has samples that are not finite (NaN or infinity)")
        samples = samples[::-1]  # the rows of a PFM file go from the bottom to the top
    else:
        samples = samples / np.float32(2**bits - 1)
    if samples.shape[-1] == 4 and not samples[..., 3].any():
        samples = samples[..., :3]  # the fourth byte of a BMP file's pixel is most often unused, and zero
    notes: tuple[str, ...] = ()
    if samples.min() < 0 or samples.max() > 1:
        notes = (f"{path.name}: not kept: values outside [0, 1]",)
        samples = np.clip(samples, 0, 1)
    return split_channels(np.ascontiguousarray(samples), bits, Metadata(), None, notes)


def write_other(path: Path, samples: NDArray[Any], depth: int, target: Format) -> None:
    """Encode (H, W, 1 or 3) samples of type uint8, uint16 or float32 into a file.

    Raises:
        PictureError: the format cannot hold the picture.
        OSError: the file is not whole.
    """
    import OpenImageIO

    height, width, channels = samples.shape
    out = OpenImageIO.ImageOutput.create(_WRITERS[target.name])
    spec = OpenImageIO.ImageSpec(width, height, channels, _TYPES[depth])
    with _unicode_name(path) as name:
        # The library decides between PPM, PGM and PFM by the name.
        if out is None or not out.open(name, spec):
            reason = _reason(OpenImageIO.geterror() if out is None else out.geterror())
            raise PictureError(f"a picture of {width}x{height} pixels does not fit into {target.name}: {reason}")
        written = out.write_image(np.ascontiguousarray(samples))
        out.close()
        out.geterror()  # of a full disk it says nothing, or a line for each row; what was not asked for is printed
        if not written or not _holds(name, samples):
            raise OSError("what was written cannot be read back; the disk may be full")


def _holds(name: str, samples: NDArray[Any]) -> bool:
    """Whether a file has just these samples."""
    import OpenImageIO

    source = OpenImageIO.ImageInput.open(name)
    if source is None:
        return False
    stored = source.read_image(source.spec().format)
    source.close()
    if stored is None:
        return False
    found = np.asarray(stored).reshape(-1, samples.shape[1], samples.shape[2])
    return np.array_equal(found[::-1] if samples.dtype == np.float32 else found, samples)


@contextlib.contextmanager
def _unicode_name(path: Path) -> Iterator[str]:
    """A name for OpenImageIO, which takes none whose bytes are not UTF-8: then that of a link."""
    with contextlib.ExitStack() as stack:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            link = Path(folder, f"picture{path.suffix if path.suffix.isascii() else ''}")
            link.symlink_to(path.absolute())
            path = link
        yield str(path)


def _reason(text: str) -> str:
    return " ".join(text.split())
