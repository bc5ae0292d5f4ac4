"""``torch.ops.serpent.selective_scan_2d``: the operator that models call and exporters translate."""

from __future__ import annotations

import torch
from torch import Tensor

from serpent import native
from serpent.scan.contract import STORAGE_DTYPES, check_arguments


@torch.library.custom_op("serpent::selective_scan_2d", mutates_args=(), device_types="cpu")
def selective_scan_2d(
    x: Tensor, x_dbl: Tensor, dt_weight: Tensor, dt_bias: Tensor, A: Tensor, D_skip: Tensor
) -> Tensor:
    """Four-direction selective scan on the native CPU kernel; forward only.

    Same arguments, result and errors as :func:`serpent.scan.selective_scan_2d_reference`; sums in f32 for
    f32, f16 and bf16 storage and in f64 for f64. Uses torch's thread count; the result does not depend on it.

    Raises:
        ArgumentError: wrong rank, shape or dtype.
        NativeLibraryError: the native library is missing.
    """
    sizes = check_arguments(x, x_dbl, dt_weight, dt_bias, A, D_skip)
    inputs = [tensor.contiguous() for tensor in (x, x_dbl, dt_weight, dt_bias, A, D_skip)]
    y = torch.empty_like(inputs[0])
    shape = native.ScanShape(
        sizes.batch, sizes.height, sizes.width, sizes.channels, sizes.d_state, sizes.dt_rank, STORAGE_DTYPES[x.dtype]
    )
    pointers = native.ScanPointers(*[tensor.data_ptr() for tensor in (*inputs, y)])
    native.library().scan_cpu(shape, pointers, torch.get_num_threads())
    return y


@selective_scan_2d.register_fake
def _(x: Tensor, x_dbl: Tensor, dt_weight: Tensor, dt_bias: Tensor, A: Tensor, D_skip: Tensor) -> Tensor:
    check_arguments(x, x_dbl, dt_weight, dt_bias, A, D_skip)
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)
