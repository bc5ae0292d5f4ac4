"""The argument contract of ``selective_scan_2d``, checked in one place for every torch implementation."""

from __future__ import annotations

import torch
from torch import Tensor

from serpent.config import NUM_DIRECTIONS
from serpent.errors import ArgumentError
from serpent.native import ScanShape

STORAGE_DTYPES = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"}

NAMES = ("x", "x_dbl", "dt_weight", "dt_bias", "A", "D_skip")
"""The arguments of a scan, in order."""


def check_arguments(
    x: Tensor, x_dbl: Tensor, dt_weight: Tensor, dt_bias: Tensor, A: Tensor, D_skip: Tensor
) -> ScanShape:
    """Sizes and storage type of valid arguments.

    Raises:
        ArgumentError: names the argument, its shape, dtype or device, and what was expected.
    """
    for name, tensor, rank in (("x", x, 4), ("A", A, 3), ("dt_weight", dt_weight, 3)):
        if tensor.ndim != rank:
            raise ArgumentError(f"{name} has shape {tuple(tensor.shape)}; expected rank {rank}")
    if x.dtype not in STORAGE_DTYPES:
        raise ArgumentError(f"x has dtype {x.dtype}; expected one of {', '.join(map(str, STORAGE_DTYPES))}")
    batch, height, width, channels = x.shape
    d_state, dt_rank = A.shape[2], dt_weight.shape[2]
    scan_dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    columns = NUM_DIRECTIONS * (dt_rank + 2 * d_state)
    _check(x, "x_dbl", x_dbl, (batch, height, width, columns), x.dtype)
    _check(x, "dt_weight", dt_weight, (NUM_DIRECTIONS, channels, dt_rank), scan_dtype)
    _check(x, "dt_bias", dt_bias, (NUM_DIRECTIONS, channels), scan_dtype)
    _check(x, "A", A, (NUM_DIRECTIONS, channels, d_state), scan_dtype)
    _check(x, "D_skip", D_skip, (NUM_DIRECTIONS, channels), scan_dtype)
    return ScanShape(batch, height, width, channels, d_state, dt_rank, STORAGE_DTYPES[x.dtype])


def check_device(x: Tensor) -> None:
    """Accept a device that has a native kernel, and the one that traces.

    Raises:
        ArgumentError: names the device and those expected.
    """
    if x.device.type not in ("cpu", "cuda", "meta"):
        raise ArgumentError(
            f"x is on {x.device}; the native scan runs on cpu and cuda",
            hint="elsewhere runs serpent.scan.selective_scan_2d_reference, the slow sequential form",
        )


def check_gradient(x: Tensor, grad_y: Tensor) -> None:
    """Accept dL/dy of a scan of ``x``.

    Raises:
        ArgumentError: names its shape, dtype or device, and what was expected.
    """
    _check(x, "grad_y", grad_y, tuple(x.shape), x.dtype)


def check_dense(**tensors: Tensor) -> None:
    """Accept contiguous tensors, which native code reads where they lie.

    Raises:
        ArgumentError: names the argument, its strides, and what was expected.
    """
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided:
            raise ArgumentError(f"{name} has layout {tensor.layout}; expected torch.strided")
        if not tensor.is_contiguous():
            raise ArgumentError(
                f"{name} of shape {tuple(tensor.shape)} has strides {tensor.stride()}; expected a contiguous tensor",
                hint=f"pass {name}.contiguous()",
            )


def _check(x: Tensor, name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tensor.ndim != len(shape) or tensor.shape != shape:
        raise ArgumentError(f"{name} has shape {tuple(tensor.shape)}; expected {shape} beside x {tuple(x.shape)}")
    if tensor.dtype != dtype:
        raise ArgumentError(f"{name} has dtype {tensor.dtype}; expected {dtype} beside x in {x.dtype}")
    if tensor.device != x.device:
        raise ArgumentError(f"{name} is on {tensor.device}; expected {x.device}, where x is")
