"""The scalar loop of ``scalar_scan.cpp`` on torch tensors: the slow peer in f32, the exact result in f64."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from scan_bench.build import cpp_library
from serpent.errors import ArgumentError
from serpent.scan.contract import check_arguments


class _Sizes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("batch", "height", "width", "channels", "d_state", "dt_rank")]


class _Tensors(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("x", "x_dbl", "dt_weight", "dt_bias", "A", "D_skip", "y")]


def scan_into(y: Tensor, arguments: tuple[Tensor, ...], threads: int) -> None:
    """Write the scan of contiguous f32 or f64 CPU tensors into ``y``.

    Raises:
        ArgumentError: another dtype or device, or not contiguous.
        SerpentError: no C++ compiler.
    """
    sizes = check_arguments(*arguments)
    for tensor in (*arguments, y):
        if tensor.dtype not in (torch.float32, torch.float64) or tensor.device.type != "cpu":
            raise ArgumentError(f"the scalar loop takes f32 or f64 on the CPU, not {tensor.dtype} on {tensor.device}")
        if not tensor.is_contiguous():
            raise ArgumentError(f"a tensor with strides {tensor.stride()} is not contiguous")
    library = cpp_library("scalar_scan.cpp", "-march=native")
    run = library.scalar_scan_f64 if y.dtype == torch.float64 else library.scalar_scan_f32
    c_sizes = _Sizes(sizes.batch, sizes.height, sizes.width, sizes.channels, sizes.d_state, sizes.dt_rank)
    c_tensors = _Tensors(*(tensor.data_ptr() for tensor in (*arguments, y)))
    run(ctypes.byref(c_sizes), ctypes.byref(c_tensors), ctypes.c_int64(threads))


def scan(*arguments: Tensor, threads: int) -> Tensor:
    """y of the scan, in the dtype of the arguments."""
    y = torch.empty_like(arguments[0])
    scan_into(y, arguments, threads)
    return y


def exact_scan(*arguments: Tensor, threads: int) -> Tensor:
    """y in f64 on the CPU, of the very numbers in the arguments."""
    return scan(*(tensor.detach().cpu().double().contiguous() for tensor in arguments), threads=threads)
