"""How pictures cross a plan's border: layout and type of its input and output, as the manifest's ``io`` names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent.errors import ModelFileError

DEFAULT_IO = "f32-nchw"


@dataclass(frozen=True)
class Border:
    """One of the formats of :data:`BORDERS`.

    Attributes:
        name: as ``--io`` spells it.
        dtype: numpy name of both tensors' type. uint8 stands for [0, 1] in 255 steps, rounded to the nearest.
        channels_last: (B, H, W, 3) instead of (B, 3, H, W).
    """

    name: str
    dtype: str
    channels_last: bool

    def shape(self, batch: int, height: int, width: int) -> tuple[int, ...]:
        """The tensors' shape for B, H, W."""
        return (batch, height, width, 3) if self.channels_last else (batch, 3, height, width)

    def write(self, target: NDArray[Any], image: NDArray[np.float32]) -> None:
        """Put (B, 3, H, W) f32 into an array of this format."""
        if self.channels_last:
            image = image.transpose(0, 2, 3, 1)
        if self.dtype == "uint8":
            image = np.rint(np.clip(image, 0.0, 1.0) * np.float32(255))
        np.copyto(target, image, casting="unsafe")

    def read(self, source: NDArray[Any]) -> NDArray[np.float32]:
        """A new array (B, 3, H, W) f32 from an array of this format."""
        image = source.astype(np.float32)
        if self.dtype == "uint8":
            image /= np.float32(255)
        return np.ascontiguousarray(image.transpose(0, 3, 1, 2)) if self.channels_last else image


BORDERS = {
    border.name: border
    for border in (
        Border(DEFAULT_IO, "float32", channels_last=False),
        Border("f16-nchw", "float16", channels_last=False),
        Border("u8-nhwc", "uint8", channels_last=True),
    )
}


def border_named(name: object, where: str) -> Border:
    """The border of a manifest's ``io`` field, which may be absent (None).

    Raises:
        ModelFileError: no such border.
    """
    name = DEFAULT_IO if name is None else name
    if not isinstance(name, str) or name not in BORDERS:
        raise ModelFileError(
            f"{where} gives the io format {name!r}; expected one of {', '.join(BORDERS)}",
            hint="install the version of this package that exported it, or run serpent-export again",
        )
    return BORDERS[name]
