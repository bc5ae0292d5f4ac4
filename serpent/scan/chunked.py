"""The scan in plain torch operations, chunk by chunk: what can be had without a kernel, eagerly or compiled."""

from __future__ import annotations

import torch
from torch import Tensor

from serpent.errors import ArgumentError
from serpent.scan.contract import check_arguments
from serpent.scan.reference import scan_order, softplus


def selective_scan_2d_chunked(
    x: Tensor,
    x_dbl: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D_skip: Tensor,
    *,
    chunk: int = 32,
) -> Tensor:
    """Four-direction selective scan whose steps run over all chunks of the sequence at once.

    Each chunk is scanned from a zero state, the states at the chunk ends are carried from chunk to chunk in
    log2(L / chunk) doubling steps, and each chunk is scanned again from the state that enters it. Decays are only
    multiplied, never divided by, so that nothing overflows however fast they are.

    Args:
        x: (B, H, W, D), and the other five as :func:`serpent.scan.selective_scan_2d_reference` takes them.
        x_dbl: (B, H, W, 4 * (R + 2N)).
        dt_weight: (4, D, R).
        dt_bias: (4, D).
        A: (4, D, N).
        D_skip: (4, D).
        chunk: pixels in a chunk, hence sequential steps; at least 1.

    Returns:
        y (B, H, W, D), dtype of ``x``; all arithmetic in the dtype of ``A``. Differentiable.

    Raises:
        ArgumentError: wrong rank, shape or dtype; a chunk of less than one pixel.
    """
    if chunk < 1:
        raise ArgumentError(f"chunk is {chunk}; expected at least 1")
    sizes = check_arguments(x, x_dbl, dt_weight, dt_bias, A, D_skip)
    batch, tokens, channels = sizes.batch, sizes.height * sizes.width, sizes.channels
    order = scan_order(sizes.height, sizes.width, x.device)
    directions = torch.arange(4, device=x.device)[:, None]

    pixels = x.to(A.dtype).reshape(batch, tokens, channels)
    columns = x_dbl.to(A.dtype).reshape(batch, tokens, 4, sizes.dt_rank + 2 * sizes.d_state)
    x_k = pixels[:, order]  # (B, 4, L, D)
    dt_r, B_k, C_k = columns[:, order, directions].split([sizes.dt_rank, sizes.d_state, sizes.d_state], dim=-1)
    dt = softplus(torch.einsum("bklr,kdr->bkld", dt_r, dt_weight) + dt_bias[:, None])

    # With dt = 0 a step changes nothing: the last chunk is filled up with such.
    dt_c, dt_x_c, B_c, C_c = (_in_chunks(part, chunk) for part in (dt, dt * x_k, B_k, C_k))
    rates = A[:, None]  # (4, chunks, D, N)

    def step(state: Tensor, t: int) -> Tensor:
        decay = torch.exp(dt_c[:, :, :, t, :, None] * rates)
        return decay * state + dt_x_c[:, :, :, t, :, None] * B_c[:, :, :, t, None, :]

    state = A.new_zeros(*dt_c.shape[:3], channels, sizes.d_state)
    for t in range(chunk):
        state = step(state, t)
    state = _entering(torch.exp(dt_c.sum(3).unsqueeze(-1) * rates), state)
    y_steps = []
    for t in range(chunk):
        state = step(state, t)
        y_steps.append((state * C_c[:, :, :, t, None, :]).sum(-1))
    y_k = torch.stack(y_steps, dim=3).flatten(2, 3)[:, :, :tokens] + D_skip[:, None] * x_k
    # The inverse of a permutation gathers where the permutation would scatter.
    merged = y_k[:, directions, order.argsort(1)].sum(1)
    return merged.reshape(x.shape).to(x.dtype)


def _in_chunks(sequence: Tensor, chunk: int) -> Tensor:
    """(B, 4, L, C) as (B, 4, chunks, chunk, C), the last chunk filled up with zeros."""
    batch, directions, tokens, width = sequence.shape
    chunks = -(-tokens // chunk)
    filled = torch.nn.functional.pad(sequence, (0, 0, 0, chunks * chunk - tokens))
    return filled.reshape(batch, directions, chunks, chunk, width)


def _entering(decay: Tensor, end: Tensor) -> Tensor:
    """States that enter each chunk, from what a chunk makes of a zero state and its decay: (B, 4, chunks, D, N)."""
    reach = 1
    while reach < end.shape[2]:  # ``end`` covers ``reach`` chunks up to and with its own
        carried = end[:, :, reach:] + decay[:, :, reach:] * end[:, :, :-reach]
        end = torch.cat([end[:, :, :reach], carried], dim=2)
        decay = torch.cat([decay[:, :, :reach], decay[:, :, reach:] * decay[:, :, :-reach]], dim=2)
        reach *= 2
    return torch.cat([torch.zeros_like(end[:, :, :1]), end[:, :, :-1]], dim=2)
