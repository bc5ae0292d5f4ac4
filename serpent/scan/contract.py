"""The argument contract of ``selective_scan_2d``, checked in one place for every torch implementation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from serpent.config import NUM_DIRECTIONS
from serpent.errors import ArgumentError

STORAGE_DTYPES = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"}


@dataclass(frozen=True)
class ScanSizes:
    """B, H, W, D, N, R of one scan."""

    batch: int
    height: int
    width: int
    channels: int
    d_state: int
    dt_rank: int


def check_arguments(
    x: Tensor, x_dbl: Tensor, dt_weight: Tensor, dt_bias: Tensor, A: Tensor, D_skip: Tensor
) -> ScanSizes:
    """Sizes of valid arguments.

    Raises:
        ArgumentError: names the argument, its shape and dtype, and what was expected.
    """
    for name, tensor, rank in (("x", x, 4), ("A", A, 3), ("dt_weight", dt_weight, 3)):
        if tensor.ndim != rank:
            raise ArgumentError(f"{name} has shape {tuple(tensor.shape)}; expected rank {rank}")
    if x.dtype not in STORAGE_DTYPES:
        raise ArgumentError(f"x has dtype {x.dtype}; expected one of {', '.join(map(str, STORAGE_DTYPES))}")
    batch, height, width, channels = x.shape
    d_state, dt_rank = A.shape[2], dt_weight.shape[2]
    scan_dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    expected = (
        ("x_dbl", x_dbl, (batch, height, width, NUM_DIRECTIONS * (dt_rank + 2 * d_state)), x.dtype),
        ("dt_weight", dt_weight, (NUM_DIRECTIONS, channels, dt_rank), scan_dtype),
        ("dt_bias", dt_bias, (NUM_DIRECTIONS, channels), scan_dtype),
        ("A", A, (NUM_DIRECTIONS, channels, d_state), scan_dtype),
        ("D_skip", D_skip, (NUM_DIRECTIONS, channels), scan_dtype),
    )
    for name, tensor, shape, dtype in expected:
        if tensor.ndim != len(shape) or tensor.shape != shape:
            raise ArgumentError(
                f"{name} has shape {tuple(tensor.shape)}; expected {tuple(shape)} beside x {tuple(x.shape)}"
            )
        if tensor.dtype != dtype:
            raise ArgumentError(f"{name} has dtype {tensor.dtype}; expected {dtype} beside x in {x.dtype}")
        if tensor.device != x.device:
            raise ArgumentError(f"{name} is on {tensor.device}; expected {x.device}, where x is")
    return ScanSizes(batch, height, width, channels, d_state, dt_rank)
