"""What a Serpent network is made of: the frozen, validated configuration and the image-size rule.

The paper (arXiv 2403.17902) gives the recipe but not every layer. The fields ``mlp_ratio``, ``up_order``,
``skip``, ``d_state`` and ``global_residual`` are choices that its published numbers do not settle; the
defaults are the reading that meets its parameter and FLOP claims together (see CONTRIBUTING, "Decisions").
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from serpent.errors import UsageError

PATCH_SIZES = {"B": 4, "L": 2, "H": 1}
"""Patch size P of the variants of the paper (section 4)."""

_WITHOUT_RESIDUAL = ("B",)
"""A patch of B has 4 * 4 * 3 = 48 values and its embedding 32 channels: a correction of that rank leaves a third of the
input's noise where it is (CONTRIBUTING, "Decisions")."""

NUM_DIRECTIONS = 4
"""K: row-major, column-major, and the reverse of each."""


@dataclass(frozen=True, kw_only=True)
class SerpentConfig:
    """Configuration of one network; immutable, hashable, valid once constructed.

    Attributes:
        patch_size: P, side of the embedded patches in pixels (B 4, L 2, H 1).
        variant: label of the variant this configuration came from ("B", "L", "H" or "custom").
        embed_dim: channels c after patch embedding; doubles at each scale.
        num_scales: down-sampling scales S; the bottleneck lies below them.
        depth: n, VSS blocks in every stack.
        ssm_expand: inner channels D of the scan are ``ssm_expand * c``.
        conv_size: side of the depth-wise convolution, odd.
        d_state: N per scale: "ceil" or "floor" of c/6, or one fixed positive integer.
        mlp_ratio: hidden width of the block's MLP over c; 0 drops the MLP.
        up_order: "pre" expands, mixes the skip, then runs the blocks; "post" runs the blocks first.
        skip: "catlin" concatenates and projects the skip; "add" adds it.
        global_residual: whether the network predicts a correction to its input; of the variants, L and H do.
        in_channels: colour channels of the image.

    Raises:
        UsageError: a field has an unacceptable value.
    """

    patch_size: int
    variant: str = "custom"
    embed_dim: int = 32
    num_scales: int = 3
    depth: int = 2
    ssm_expand: int = 2
    conv_size: int = 3
    d_state: Literal["ceil", "floor"] | int = "ceil"
    mlp_ratio: float = 4.0
    up_order: Literal["pre", "post"] = "pre"
    skip: Literal["catlin", "add"] = "catlin"
    global_residual: bool = True
    in_channels: int = 3

    def __post_init__(self) -> None:
        for name in ("patch_size", "embed_dim", "num_scales", "depth", "ssm_expand", "conv_size", "in_channels"):
            value = getattr(self, name)
            _require(
                isinstance(value, int) and not isinstance(value, bool) and value >= 1, name, value, "an integer >= 1"
            )
        _require(self.embed_dim % 2 == 0, "embed_dim", self.embed_dim, "an even integer")
        _require(self.conv_size % 2 == 1, "conv_size", self.conv_size, "an odd integer")
        fixed = isinstance(self.d_state, int) and not isinstance(self.d_state, bool) and self.d_state >= 1
        _require(
            fixed or self.d_state in ("ceil", "floor"), "d_state", self.d_state, "'ceil', 'floor' or an integer >= 1"
        )
        ratio = self.mlp_ratio
        numeric = isinstance(ratio, (int, float)) and not isinstance(ratio, bool) and math.isfinite(ratio)
        _require(numeric and ratio >= 0, "mlp_ratio", ratio, "a finite number >= 0")
        object.__setattr__(self, "mlp_ratio", float(ratio))  # 4 and 4.0 shall give equal files
        _require(self.up_order in ("pre", "post"), "up_order", self.up_order, "'pre' or 'post'")
        _require(self.skip in ("catlin", "add"), "skip", self.skip, "'catlin' or 'add'")
        _require(isinstance(self.global_residual, bool), "global_residual", self.global_residual, "a boolean")
        _require(isinstance(self.variant, str) and self.variant != "", "variant", self.variant, "a non-empty string")

    @classmethod
    def from_variant(cls, variant: str, **overrides: Any) -> SerpentConfig:
        """The configuration of a published variant, with fields replaced by ``overrides``.

        Raises:
            UsageError: unknown variant or unknown field.
        """
        key = variant.upper() if isinstance(variant, str) else variant
        if key not in PATCH_SIZES:
            known = ", ".join(PATCH_SIZES)
            raise UsageError(f"unknown variant {variant!r}; known variants are {known}")
        residual = key not in _WITHOUT_RESIDUAL
        return cls.from_dict({"patch_size": PATCH_SIZES[key], "variant": key, "global_residual": residual, **overrides})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> SerpentConfig:
        """Inverse of :meth:`to_dict`; a field this version does not know is an error.

        Raises:
            UsageError: unknown, missing or invalid field.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise UsageError(
                f"unknown configuration field {', '.join(unknown)}; known fields are {', '.join(sorted(known))}"
            )
        if "patch_size" not in fields:
            raise UsageError("the configuration lacks the field patch_size")
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values."""
        return dataclasses.asdict(self)

    def channels(self, scale: int) -> int:
        """c at ``scale``: 0 after patch embedding, ``num_scales`` in the bottleneck."""
        return self.embed_dim << scale

    def state_size(self, channels: int) -> int:
        """N for blocks of ``channels`` (VMamba's "auto" rule c/6, rounded as ``d_state`` says)."""
        if isinstance(self.d_state, int):
            return self.d_state
        return math.ceil(channels / 6) if self.d_state == "ceil" else max(1, channels // 6)

    def mlp_width(self, channels: int) -> int:
        """Hidden width of the MLP in blocks of ``channels``: at least 1 where ``mlp_ratio`` > 0, else 0."""
        return max(1, int(channels * self.mlp_ratio)) if self.mlp_ratio > 0 else 0

    def dt_rank(self, channels: int) -> int:
        """R for blocks of ``channels``: ceil(c/16), Mamba's "auto" rule."""
        return math.ceil(channels / 16)

    @property
    def num_scans(self) -> int:
        """Selective scans in one forward pass (14 for the published variants)."""
        return self.depth * (2 * self.num_scales + 1)

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this many pixels: P * 2**num_scales (8P)."""
        return self.patch_size << self.num_scales

    def check_size(self, height: int, width: int) -> None:
        """Accept an image size in pixels.

        Raises:
            UsageError: a side is not a positive multiple of :attr:`size_multiple`; names the nearest two.
        """
        unit = self.size_multiple
        for name, side in (("height", height), ("width", width)):
            if side >= 1 and side % unit == 0:
                continue
            below = side // unit * unit if side > 0 else 0
            options = f"{below} or {below + unit}" if below > 0 else f"{unit} or {2 * unit}"
            what = "is not positive" if side < 1 else f"is no multiple of {unit}"
            raise UsageError(
                f"{name} {side} {what}: variant {self.variant} takes multiples of {unit} pixels",
                hint=f"nearest: {options}",
            )


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise UsageError(f"SerpentConfig.{name} is {value!r}; expected {expected}")
