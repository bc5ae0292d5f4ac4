"""The scan through mamba-ssm's kernel: for parity and comparison, never needed to run a model.

That kernel scans sequences (B, channels, L), so the four orders of the pixels are written out before it (VMamba's
cross-scan, arXiv 2401.10166, section 4.2) and added up after it (cross-merge). One call takes all four directions
as four groups of B and C.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from serpent.config import NUM_DIRECTIONS
from serpent.extras import require
from serpent.scan.contract import check_arguments


def require_mamba() -> Callable[..., Tensor]:
    """``selective_scan_fn`` of mamba-ssm.

    Raises:
        MissingExtraError: the package is not installed.
        SerpentError: it is installed but does not load.
    """
    module = require("mamba_ssm.ops.selective_scan_interface", "mamba", "the scan backend 'mamba'")
    return module.selective_scan_fn  # type: ignore[no-any-return]


def selective_scan_2d_mamba(
    x: Tensor, x_dbl: Tensor, dt_weight: Tensor, dt_bias: Tensor, A: Tensor, D_skip: Tensor
) -> Tensor:
    """Four-direction selective scan by ``mamba_ssm``'s ``selective_scan_fn`` (arXiv 2312.00752, section 3.3).

    Arguments and result are those of :func:`serpent.scan.selective_scan_2d_reference`; differentiable. mamba-ssm runs
    on CUDA, in f32, f16 and bf16. Its input delta has the dtype of ``x``, so that dt is rounded to it, and its
    softplus is linear above 20: in 16 bits expect the accuracy of those.

    Raises:
        ArgumentError: wrong rank, shape, dtype or device.
        MissingExtraError: mamba-ssm is not installed.
    """
    selective_scan_fn = require_mamba()
    sizes = check_arguments(x, x_dbl, dt_weight, dt_bias, A, D_skip)
    columns = x_dbl.unflatten(3, (NUM_DIRECTIONS, sizes.dt_rank + 2 * sizes.d_state)).permute(0, 3, 4, 1, 2)
    ordered = _in_order(columns)  # (B, 4, R + 2N, L)
    dt_r, B, C = ordered.split([sizes.dt_rank, sizes.d_state, sizes.d_state], dim=2)
    u = _in_order(x.permute(0, 3, 1, 2)[:, None].expand(-1, NUM_DIRECTIONS, -1, -1, -1))  # (B, 4, D, L)
    delta = torch.einsum("bkrl,kdr->bkdl", dt_r, dt_weight.to(x.dtype))
    y = selective_scan_fn(
        u.flatten(1, 2),
        delta.flatten(1, 2),
        A.flatten(0, 1),
        B.contiguous(),
        C.contiguous(),
        D_skip.flatten(),
        delta_bias=dt_bias.flatten(),
        delta_softplus=True,
    )
    return _merged(y.unflatten(1, (NUM_DIRECTIONS, sizes.channels)), sizes.height, sizes.width).to(x.dtype)


def _in_order(images: Tensor) -> Tensor:
    """(B, 4, C, H, W) as sequences (B, 4, C, L), each in the order of its direction."""
    rows, columns, rows_reversed, columns_reversed = images.unbind(1)
    return torch.stack(
        [
            rows.flatten(2),
            columns.transpose(2, 3).flatten(2),
            rows_reversed.flatten(2).flip(-1),
            columns_reversed.transpose(2, 3).flatten(2).flip(-1),
        ],
        dim=1,
    )


def _merged(y: Tensor, height: int, width: int) -> Tensor:
    """(B, 4, D, L) in the orders of the directions as their sum (B, H, W, D), added up in f32 at least."""
    rows, columns, rows_reversed, columns_reversed = y.to(torch.promote_types(y.dtype, torch.float32)).unbind(1)
    by_row = (rows + rows_reversed.flip(-1)).unflatten(2, (height, width))
    by_column = (columns + columns_reversed.flip(-1)).unflatten(2, (width, height))
    merged: Tensor = by_row + by_column.transpose(2, 3)
    return merged.permute(0, 2, 3, 1).contiguous()
