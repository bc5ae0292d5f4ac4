"""The size rule that all peers share."""

from __future__ import annotations

from torch import Tensor

from serpent.errors import UsageError


def check_sides(image: Tensor, multiple: int) -> None:
    """Refuse a picture that a network cannot take.

    Args:
        image: anything; what passes is (B, 3, H, W).
        multiple: H and W must be positive multiples of this many pixels.

    Raises:
        UsageError: another rank or number of channels, or a side that is no such multiple.
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise UsageError(f"image has shape {tuple(image.shape)}; expected (B, 3, H, W)")
    for name, side in zip(("height", "width"), image.shape[2:], strict=True):
        if side < 1 or side % multiple:
            hint = (
                f"pad the picture, for example to {-(-max(side, 1) // multiple) * multiple} pixels, and crop the result"
            )
            raise UsageError(f"{name} {side} is no positive multiple of {multiple}", hint=hint)
