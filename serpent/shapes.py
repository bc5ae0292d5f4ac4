"""Image sizes that an export accepts: static, or a range with an optimum, for batch, height and width."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from serpent.config import SerpentConfig
from serpent.errors import UsageError

MAX_ELEMENTS = 2**31 - 1
"""Elements of the image tensor that runtimes with 32-bit indices can address."""


@dataclass(frozen=True)
class Range:
    """An inclusive range of sizes with the one to tune for; ``max`` is None where nothing bounds it."""

    min: int
    opt: int
    max: int | None

    @property
    def is_static(self) -> bool:
        return self.min == self.max

    def __contains__(self, size: int) -> bool:
        return self.min <= size and (self.max is None or size <= self.max)

    def __str__(self) -> str:
        return str(self.min) if self.is_static else f"{self.min}:{self.opt}:{self.max if self.max is not None else ''}"


@dataclass(frozen=True)
class ShapeProfile:
    """Accepted image shapes: pictures per batch, height and width in pixels, sides multiples of ``multiple``."""

    batch: Range
    height: Range
    width: Range
    multiple: int

    @property
    def resolution(self) -> str:
        """The sizes in the form of ``--res``: "512", "512x768", "256:512:2048" or "256x256:512x768:1024x2048"."""
        if self.height == self.width:
            return str(self.height)
        if self.height.is_static and self.width.is_static:
            return f"{self.height}x{self.width}"
        pairs = [(getattr(self.height, end), getattr(self.width, end)) for end in ("min", "opt", "max")]
        return ":".join("x".join("" if side is None else str(side) for side in pair) for pair in pairs)

    def to_dict(self) -> dict[str, Any]:
        """Inverse of :meth:`from_dict`: [min, opt, max] of batch, height and width, and the multiple."""
        ranges = {"batch": self.batch, "height": self.height, "width": self.width}
        return {**{name: [r.min, r.opt, r.max] for name, r in ranges.items()}, "multiple": self.multiple}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ShapeProfile:
        """Inverse of :meth:`to_dict`.

        Raises:
            KeyError, TypeError, ValueError: no such dictionary, as damaged files give them.
        """
        batch, height, width = (_stored_range(name, fields[name]) for name in ("batch", "height", "width"))
        if type(fields["multiple"]) is not int or fields["multiple"] < 1:
            raise ValueError(f"multiple is {fields['multiple']!r}")
        return cls(batch, height, width, fields["multiple"])


def _stored_range(name: str, sizes: Any) -> Range:
    least, best, most = sizes
    known = [size for size in (least, best, most) if size is not None]
    whole = all(type(size) is int and size >= 1 for size in known)
    if least is None or best is None or not whole or known != sorted(known):
        raise ValueError(f"{name} is {sizes!r}")
    return Range(least, best, most)


def parse_profile(config: SerpentConfig, resolution: str, batch: str = "1") -> ShapeProfile:
    """Read ``--res`` and ``--batch``.

    Args:
        config: the network, whose ``size_multiple`` the sides must honour.
        resolution: "512", "512x768" (height x width), "256:512:2048" (min:opt:max of both sides), or
            "256x256:512x768:1024x2048" (min:opt:max of height x width).
        batch: "1" or "1:1:8".

    Raises:
        UsageError: not of that form, not positive, not ordered, or no multiple of 8P.
    """
    if "x" in resolution:
        sizes = [size.split("x") for size in resolution.split(":")]
        if any(len(size) != 2 for size in sizes):
            raise UsageError(f"the size {resolution!r} is not understood", hint=_RES_FORMS)
        height, width = (_parse_range(":".join(side), "the size", resolution) for side in zip(*sizes, strict=True))
    else:
        height = width = _parse_range(resolution, "the size", resolution)
    assert height.max is not None
    assert width.max is not None
    for size in ((height.min, width.min), (height.opt, width.opt), (height.max, width.max)):
        config.check_size(*size)
    pictures = _parse_range(batch, "--batch", batch)
    assert pictures.max is not None
    elements = pictures.max * config.in_channels * height.max * width.max
    if elements > MAX_ELEMENTS:
        raise UsageError(
            f"the size {resolution} with --batch {batch} makes an image of {elements} elements, more than "
            f"{MAX_ELEMENTS}, which runtimes cannot index",
            hint="choose a smaller size; larger pictures go through in tiles",
        )
    return ShapeProfile(pictures, height, width, config.size_multiple)


_RES_FORMS = (
    "use --res 512, --res 512x768 (height x width), --res 256:512:2048 (min:opt:max) or "
    "--profile 256x256:512x768:1024x2048"
)
_BATCH_FORMS = "use --batch 1 or --batch 1:1:8 (min:opt:max)"


def _parse_range(text: str, option: str, whole: str) -> Range:
    forms = _BATCH_FORMS if option == "--batch" else _RES_FORMS
    parts = text.split(":")
    if not all(re.fullmatch("-?[0-9]+", part) for part in parts):
        raise UsageError(f"{option} {whole!r} is not understood", hint=forms)
    numbers = [int(part) for part in parts]
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3:
        raise UsageError(f"{option} {whole!r} is not understood", hint=forms)
    if min(numbers) < 1:
        raise UsageError(f"{option} {whole!r} has the size {min(numbers)}, which is not positive", hint=forms)
    if not numbers[0] <= numbers[1] <= numbers[2]:
        raise UsageError(f"{option} {whole!r} is not ordered min <= opt <= max", hint=forms)
    return Range(*numbers)
