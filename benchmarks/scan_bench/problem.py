"""The problems that are timed: sizes, inputs as a fresh network sees them, and how far a result is from the exact one.

Axes: B batch, H W pixels, D channels, N state, R dt rank, L = H * W tokens.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from serpent.config import NUM_DIRECTIONS, SerpentConfig
from serpent.errors import UsageError
from serpent.native import ScanShape

Boundary = Literal["scan core", "SS2D", "VSS block"]
Decay = Literal["usual", "slow"]
BOUNDARIES: dict[str, Boundary] = {"core": "scan core", "ss2d": "SS2D", "block": "VSS block"}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Shape:
    """Sizes of one scan: B, H, W, D, N, R."""

    name: str
    batch: int
    height: int
    width: int
    channels: int
    d_state: int
    dt_rank: int

    @property
    def tokens(self) -> int:
        """L."""
        return self.height * self.width

    @property
    def columns(self) -> int:
        """Last extent of x_dbl."""
        return NUM_DIRECTIONS * (self.dt_rank + 2 * self.d_state)

    @property
    def exps(self) -> int:
        """Decays exp(dt A) of one scan; those inside softplus are not counted."""
        return NUM_DIRECTIONS * self.batch * self.channels * self.tokens * self.d_state

    @property
    def sizes(self) -> str:
        """D, N, HxW in words."""
        batch = "" if self.batch == 1 else f"B {self.batch}, "
        return f"{batch}D {self.channels}, N {self.d_state}, {self.height}x{self.width}"

    def minimal_bytes(self, boundary: Boundary, itemsize: int) -> int:
        """Bytes that must cross the memory bus once: inputs and the result (weights are left out)."""
        per_token = {
            "scan core": 2 * self.channels + self.columns,  # x, x_dbl, y
            "SS2D": 2 * self.channels,  # x, y
            "VSS block": self.channels,  # in and out of c = D / 2 channels
        }
        return self.batch * self.tokens * per_token[boundary] * itemsize

    def in_one_row(self) -> Shape:
        """The same tokens as a picture of one row, where column order is memory order too."""
        return replace(self, name=f"{self.name} as 1x{self.tokens}", height=1, width=self.tokens)

    def native(self, dtype: str) -> ScanShape:
        """For calls into the library."""
        return ScanShape(self.batch, self.height, self.width, self.channels, self.d_state, self.dt_rank, dtype)


def _of_network(letter: str, side: int) -> dict[str, Shape]:
    """The scan at each of the four scales of a published network whose first scale has ``side`` x ``side`` pixels."""
    shapes = {}
    config = SerpentConfig.from_variant("H")
    for scale in range(config.num_scales + 1):
        c, pixels = config.channels(scale), side >> scale
        name = f"{letter}{scale}"
        shapes[name] = Shape(name, 1, pixels, pixels, config.ssm_expand * c, config.state_size(c), config.dt_rank(c))
    return shapes


NAMED = {**_of_network("s", 512), **_of_network("b", 128)}
"""s0 to s3: the scales of H at 512x512. b0 to b3: of B, whose patches are 4x4, at 512x512."""


def parse_shapes(text: str) -> list[Shape]:
    """Shapes from ``s0,s3,64x6x2x40x30``: names of :data:`NAMED`, or DxNxRxHxW.

    Raises:
        UsageError: neither a name nor five positive numbers.
    """
    shapes = []
    for word in text.split(","):
        if word in NAMED:
            shapes.append(NAMED[word])
            continue
        if re.fullmatch(r"[1-9]\d*(x[1-9]\d*){4}", word) is None:
            raise UsageError(f"shape {word!r} is neither one of {', '.join(NAMED)} nor DxNxRxHxW, as in 64x6x2x40x30")
        channels, d_state, dt_rank, height, width = map(int, word.split("x"))
        shapes.append(Shape(word, 1, height, width, channels, d_state, dt_rank))
    return shapes


@dataclass(frozen=True)
class Weights:
    """Parameters of one scan: dt_weight (4, D, R), dt_bias (4, D), A (4, D, N), D_skip (4, D), all f32."""

    dt_weight: Tensor
    dt_bias: Tensor
    A: Tensor
    D_skip: Tensor

    def all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """In the operator's order."""
        return self.dt_weight, self.dt_bias, self.A, self.D_skip


@dataclass(frozen=True)
class Inputs:
    """x (B, H, W, D) and x_proj (4 * (R + 2N), D) in the storage type, and the scan's weights."""

    x: Tensor
    x_proj: Tensor
    weights: Weights


def make_inputs(shape: Shape, dtype: torch.dtype, device: torch.device, decay: Decay = "usual") -> Inputs:
    """Seeded inputs as Mamba initialises them (arXiv 2312.00752, section 3.6): A near -(1 .. N), dt in 1e-3 .. 1e-1.

    ``slow`` instead: A near -1, dt constant along the picture in 1e-4 .. 1e-3, everything else positive and no skip,
    so that the state remembers thousands of pixels and the error of a decay adds up.
    """
    generator = torch.Generator().manual_seed(0)
    D, N, R = shape.channels, shape.d_state, shape.dt_rank

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=generator)

    x = torch.nn.functional.silu(2 * normal(shape.batch, shape.height, shape.width, D))
    x_proj = normal(shape.columns, D) / (math.sqrt(D) * x.square().mean().sqrt())  # makes x_dbl about unit normal
    dt_weight = normal(NUM_DIRECTIONS, D, R) * 0.5 / math.sqrt(R)
    low, high = (1e-4, 1e-3) if decay == "slow" else (1e-3, 1e-1)
    uniform = torch.rand(NUM_DIRECTIONS, D, generator=generator, dtype=torch.float64)
    dt = torch.exp(uniform * math.log(high / low) + math.log(low))
    dt_bias = (dt + torch.log(-torch.expm1(-dt))).float()  # the inverse of softplus
    rates = torch.ones(N) if decay == "slow" else torch.arange(1, N + 1)
    A = -rates * (0.9 + 0.2 * torch.rand(NUM_DIRECTIONS, D, N, generator=generator))
    D_skip = 1 + 0.1 * normal(NUM_DIRECTIONS, D)
    if decay == "slow":
        x, x_proj, dt_weight, D_skip = x.abs(), x_proj.abs() / math.sqrt(D), 0 * dt_weight, 0 * D_skip
    weights = Weights(*(tensor.to(device) for tensor in (dt_weight, dt_bias, A, D_skip)))
    return Inputs(x.to(device, dtype), x_proj.to(device, dtype), weights)


@dataclass(frozen=True)
class Error:
    """Relative L2 error against f64, of the whole and of the worst channel."""

    relative_l2: float
    worst_channel: float

    def __str__(self) -> str:
        return f"relative L2 {self.relative_l2:.1e}, worst channel {self.worst_channel:.1e}"

    def within(self, bound: Error) -> bool:
        """Whether both are; NaN is not."""
        return self.relative_l2 <= bound.relative_l2 and self.worst_channel <= bound.worst_channel


def error_of(result: Tensor, truth: Tensor, base: Tensor | float = 0.0) -> Error:
    """Error of ``result`` (B, H, W, D) beside ``truth``, f64 on the CPU.

    Args:
        result: what a row computed, any dtype and device.
        truth: the exact result.
        base: what both hold besides the result proper; without it a block's residual would hide errors.
    """
    signal = (truth - base).flatten(0, 2).square().sum(0)
    error = (result.detach().cpu().double() - truth).flatten(0, 2).square().sum(0)
    # A channel that should be zero and is counts as exact.
    channels = torch.where(error == 0, error, (error / signal).sqrt())
    return Error(float((error.sum() / signal.sum()).sqrt()), float(channels.max()))


def scan_bound(dtype: torch.dtype, *, peer: bool) -> Error:
    """Largest acceptable error of a scan: what f32 arithmetic leaves, and one rounding to the storage type.

    Peers round more in between (dt and each direction's y to the storage type); they may err four times as much, far
    less than any mistake in the arithmetic does.
    """
    rounding = 0.0 if dtype == torch.float32 else torch.finfo(dtype).eps / 2
    factor = 4 if peer else 1
    return Error(factor * (2e-6 + rounding), factor * (1e-5 + rounding))
