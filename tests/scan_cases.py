"""Arguments of the selective scan with the statistics of a real network, a brute-force scan, measures of error."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from serpent.scan import selective_scan_2d_reference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Arguments = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

CPU = torch.device("cpu")
NAMES = ("x", "x_dbl", "dt_weight", "dt_bias", "A", "D_skip")
DTYPES = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Sizes:
    """B, H, W, D, N, R; the defaults are the base case that other cases change in one respect."""

    batch: int = 1
    height: int = 5
    width: int = 9
    channels: int = 16
    d_state: int = 6
    dt_rank: int = 2


def arguments(
    sizes: Sizes, dtype: torch.dtype = torch.float64, *, slow_decay: bool = False, seed: int = 0
) -> Arguments:
    """Arguments as Mamba initialises them: A near -(1 .. N), dt log-uniform in 1e-3 .. 1e-1.

    Every value is representable in f32 (and ``x``, ``x_dbl`` in ``dtype``), so a conversion to f64 changes nothing.

    Args:
        sizes: the shape.
        dtype: storage type of ``x`` and ``x_dbl``.
        slow_decay: instead A near -1 and dt constant along the picture, in 1e-4 .. 1e-3, so that the state remembers
            thousands of pixels, an error of the decay adds up, and (x, B, C positive, no skip) nothing hides it.
        seed: of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    picture = (sizes.batch, sizes.height, sizes.width)
    low, high = (1e-4, 1e-3) if slow_decay else (1e-3, 1e-1)
    uniform = torch.rand(4, sizes.channels, generator=generator, dtype=torch.float64)
    dt = torch.exp(uniform * math.log(high / low) + math.log(low))
    dt_bias = dt + torch.log(-torch.expm1(-dt))  # the inverse of softplus
    x = torch.nn.functional.silu(2 * normal(*picture, sizes.channels))
    x_dbl = normal(*picture, 4 * (sizes.dt_rank + 2 * sizes.d_state))
    dt_weight = normal(4, sizes.channels, sizes.dt_rank) * 0.5 / math.sqrt(sizes.dt_rank)
    rates = torch.ones(sizes.d_state) if slow_decay else torch.arange(1, sizes.d_state + 1)
    A = -rates * (0.9 + 0.2 * torch.rand(4, sizes.channels, sizes.d_state, generator=generator))
    D_skip = 1 + 0.1 * normal(4, sizes.channels)
    if slow_decay:
        x, x_dbl, dt_weight, D_skip = x.abs(), x_dbl.abs(), 0 * dt_weight, 0 * D_skip
    scan_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    dt_weight, dt_bias, A, D_skip = (tensor.float().to(scan_dtype) for tensor in (dt_weight, dt_bias, A, D_skip))
    return x.to(dtype), x_dbl.to(dtype), dt_weight, dt_bias, A, D_skip


def converted(inputs: Arguments, dtype: torch.dtype) -> Arguments:
    """All six arguments in one dtype."""
    x, x_dbl, dt_weight, dt_bias, A, D_skip = inputs
    return x.to(dtype), x_dbl.to(dtype), dt_weight.to(dtype), dt_bias.to(dtype), A.to(dtype), D_skip.to(dtype)


def exact(inputs: Arguments) -> Tensor:
    """The oracle's y in f64 for these very numbers."""
    return selective_scan_2d_reference(*converted(inputs, torch.float64))


def relative(error: Tensor, truth: Tensor) -> float:
    """|error| / |truth| in the L2 norm."""
    return float(error.double().norm() / truth.norm())


def worst_channel(error: Tensor, truth: Tensor) -> float:
    """The largest relative L2 error of any one channel."""
    return float((error.double().flatten(0, 2).norm(dim=0) / truth.flatten(0, 2).norm(dim=0)).max())


@functools.cache
def problem(
    sizes: Sizes, dtype: torch.dtype, *, slow_decay: bool = False, device: torch.device = CPU
) -> tuple[Arguments, Tensor, Tensor]:
    """Arguments, the y of the oracle in f64, and its y in f32 for the same numbers; all on the CPU.

    In f32 it is run on ``device``: an exponential of PyTorch errs more on a GPU, whose unit for exp2 is everybody's.
    """
    inputs = arguments(sizes, dtype, slow_decay=slow_decay)
    single = selective_scan_2d_reference(*(tensor.to(device) for tensor in converted(inputs, torch.float32)))
    return inputs, exact(inputs), single.cpu().double()


def assert_as_good_as_same_precision(y: Tensor, inputs: Arguments, truth: Tensor, single: Tensor) -> None:
    """Twice the error of the oracle run in f32, plus the kernel's sum over N in one order, plus storing y.

    N roundings of random sign add up like sqrt(N) of them; torch sums pairwise and so has less of that error.
    """
    error, eager, dtype = y.double() - truth, single - truth, inputs[0].dtype
    assert y.dtype == dtype
    assert y.shape == truth.shape
    if dtype == torch.float64:
        assert relative(error, truth) <= 1e-12
        return
    summing = torch.finfo(torch.float32).eps * inputs[4].shape[2] ** 0.5
    if dtype == torch.float32:
        assert relative(error, truth) <= 2 * relative(eager, truth) + summing
        assert worst_channel(error, truth) <= 2 * worst_channel(eager, truth) + summing
        return
    storage = torch.finfo(dtype)
    rounding = storage.eps / 2 * truth.abs() + storage.smallest_normal * storage.eps / 2
    slack = rounding + 2 * eager.abs().max() + summing * truth.abs().max() - error.abs()
    assert float(slack.min()) >= 0


def walk(height: int, width: int, direction: int) -> Iterator[tuple[int, int]]:
    """(row, column) of each pixel in the order of a direction, one step after the other."""
    along_rows = direction in (0, 2)
    forward = direction in (0, 1)
    row, column = (0, 0) if forward else (height - 1, width - 1)
    step = 1 if forward else -1
    for _ in range(height * width):
        yield row, column
        if along_rows:
            column += step
            if column in (-1, width):
                row, column = row + step, 0 if forward else width - 1
        else:
            row += step
            if row in (-1, height):
                row, column = 0 if forward else height - 1, column + step


def brute_force(inputs: Arguments) -> NDArray[np.float64]:
    """The scan as five nested loops over Python floats; shares nothing with the oracle but the formula."""
    import numpy as np

    x, x_dbl, dt_weight, dt_bias, A, D_skip = (tensor.double().numpy() for tensor in inputs)
    batch, height, width, channels = x.shape
    d_state, dt_rank = A.shape[2], dt_weight.shape[2]
    y = np.zeros(x.shape)
    for b in range(batch):
        for k in range(4):
            first = k * (dt_rank + 2 * d_state)
            for d in range(channels):
                h = [0.0] * d_state
                for row, column in walk(height, width, k):
                    numbers = x_dbl[b, row, column, first : first + dt_rank + 2 * d_state]
                    v = float(dt_bias[k, d])
                    for r in range(dt_rank):
                        v += float(dt_weight[k, d, r]) * float(numbers[r])
                    dt = math.log1p(math.exp(v)) if v <= 0 else v + math.log1p(math.exp(-v))
                    value = float(x[b, row, column, d])
                    total = float(D_skip[k, d]) * value
                    for n in range(d_state):
                        decay = math.exp(dt * float(A[k, d, n]))
                        h[n] = decay * h[n] + dt * float(numbers[dt_rank + n]) * value
                        total += float(numbers[dt_rank + d_state + n]) * h[n]
                    y[b, row, column, d] += total
    return y
