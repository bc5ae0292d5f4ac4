"""The oracle: the four-direction selective scan, one pixel after the other, in any floating dtype."""

from __future__ import annotations

import torch
from torch import Tensor

from serpent.scan.contract import check_arguments


def scan_order(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Pixels in the order each direction visits them.

    Returns:
        (4, H * W) int64 indices into the row-major pixels: row-major, column-major, and their reverses. They are made
        on ``device``, not copied to it, which could not be captured into a CUDA graph.
    """
    rows = torch.arange(height * width, device=device).reshape(height, width)
    forward = torch.stack([rows.flatten(), rows.T.flatten()])
    return torch.cat([forward, forward.flip(1)])


def softplus(value: Tensor) -> Tensor:
    """max(v, 0) + log1p(exp(-|v|)), without the threshold of ``torch.nn.functional.softplus``."""
    return value.clamp(min=0) + torch.log1p(torch.exp(-value.abs()))


def selective_scan_2d_reference(
    x: Tensor, x_dbl: Tensor, dt_weight: Tensor, dt_bias: Tensor, A: Tensor, D_skip: Tensor
) -> Tensor:
    """Four-direction selective scan, sequential (S6 recurrence: arXiv 2312.00752, eq. 2; directions: 2401.10166).

    Per direction k: dt = softplus(dt_weight[k] dt_r + dt_bias[k]); h = exp(dt A) h + dt B x;
    y_k = C.h + D_skip x; y is the sum over k, each at its own pixel.

    Args:
        x: (B, H, W, D) features; f32, f16, bf16 or f64.
        x_dbl: (B, H, W, 4 * (R + 2N)), dtype of ``x``: per direction dt_r (R), B (N), C (N).
        dt_weight: (4, D, R); f64 when ``x`` is f64, else f32, as the next three.
        dt_bias: (4, D).
        A: (4, D, N), negative decay rates.
        D_skip: (4, D).

    Returns:
        y (B, H, W, D), dtype of ``x``; all arithmetic in the dtype of ``A``.

    Raises:
        ArgumentError: wrong rank, shape or dtype.
    """
    sizes = check_arguments(x, x_dbl, dt_weight, dt_bias, A, D_skip)
    batch, tokens, channels = sizes.batch, sizes.height * sizes.width, sizes.channels
    order = scan_order(sizes.height, sizes.width, x.device)
    directions = torch.arange(4, device=x.device)[:, None]

    pixels = x.to(A.dtype).reshape(batch, tokens, channels)
    columns = x_dbl.to(A.dtype).reshape(batch, tokens, 4, sizes.dt_rank + 2 * sizes.d_state)
    x_k = pixels[:, order]  # (B, 4, L, D)
    dt_r, B_k, C_k = columns[:, order, directions].split([sizes.dt_rank, sizes.d_state, sizes.d_state], dim=-1)
    dt = softplus(torch.einsum("bklr,kdr->bkld", dt_r, dt_weight) + dt_bias[:, None])

    state = A.new_zeros(batch, 4, channels, sizes.d_state)
    y = A.new_zeros(batch, tokens, channels)
    for step in range(tokens):
        decay = torch.exp(dt[:, :, step, :, None] * A)
        drive = (dt[:, :, step] * x_k[:, :, step]).unsqueeze(-1) * B_k[:, :, step, None, :]
        state = decay * state + drive
        y_step = (state * C_k[:, :, step, None, :]).sum(-1) + D_skip * x_k[:, :, step]
        for k in range(4):
            y[:, order[k, step]] += y_step[:, k]
    return y.reshape(x.shape).to(x.dtype)
