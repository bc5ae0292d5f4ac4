"""What an exported file takes and gives at its border (``--io``), and the way there from f32 (B, 3, H, W).

The conversions inside the file are its own; these two functions only put pictures into its types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent.errors import ModelFileError


@dataclass(frozen=True)
class Border:
    """Type and layout of a file's tensors ``image`` and ``restored``.

    Attributes:
        dtype: of the arrays.
        tensorrt: the name of that type in TensorRT's ``DataType``.
        channels_last: (B, H, W, 3) rather than (B, 3, H, W).
        rounding: how far apart neighbouring values of the type are, at most, for values in [0, 1]; 0 for f32.
    """

    dtype: Any
    tensorrt: str
    channels_last: bool
    rounding: float

    @property
    def dtype_name(self) -> str:
        """The type's name, "float32" for example."""
        return str(np.dtype(self.dtype).name)

    def shape(self, batch: int, height: int, width: int) -> tuple[int, ...]:
        """The tensors' shape for B, H, W."""
        return (batch, height, width, 3) if self.channels_last else (batch, 3, height, width)


BORDERS = {
    "f32-nchw": Border(np.float32, "FLOAT", channels_last=False, rounding=0.0),
    "f16-nchw": Border(np.float16, "HALF", channels_last=False, rounding=2.0**-11),
    "u8-nhwc": Border(np.uint8, "UINT8", channels_last=True, rounding=1 / 255),
}
"""By the value of ``--io``, the manifest's ``io``."""


def to_border(image: NDArray[np.float32], io: str) -> NDArray[Any]:
    """Pictures (B, 3, H, W) float32 in [0, 1] as the file of border ``io`` takes them, C-contiguous.

    8-bit values are rounded half to even and clamped, as the file itself does with its result.
    """
    border = border_named(io)
    if io == "u8-nhwc":
        image = np.rint(np.clip(image, 0, 1) * np.float32(255))
    return np.ascontiguousarray(image.transpose(0, 2, 3, 1) if border.channels_last else image, border.dtype)


def from_border(result: NDArray[Any], io: str) -> NDArray[np.float32]:
    """What a file of border ``io`` gave, as (B, 3, H, W) float32, C-contiguous."""
    border = border_named(io)
    values = np.ascontiguousarray(result.transpose(0, 3, 1, 2) if border.channels_last else result, np.float32)
    return values / np.float32(255) if io == "u8-nhwc" else values


def border_named(io: str) -> Border:
    """The border of a manifest's ``io``.

    Raises:
        ModelFileError: there is none of that name.
    """
    try:
        return BORDERS[io]
    except KeyError:
        raise ModelFileError(
            f"the border {io!r} is unknown to this version; it knows {', '.join(BORDERS)}",
            hint="install the version that exported the file, or export it again with serpent-export",
        ) from None
