"""The CPU kernel's own joints: long sequences, tiles and their tails, threads, and numbers that are none."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from scan_cases import DTYPES, Arguments, Sizes, arguments, exact, relative, worst_channel
from serpent import native
from serpent.errors import ArgumentError, NativeLibraryError

scan = torch.ops.serpent.selective_scan_2d
ISAS = pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
INF = float("inf")
NAN = float("nan")


@pytest.fixture
def isa_scan(isa: str, monkeypatch: pytest.MonkeyPatch) -> functools.partial[Tensor]:
    """The scan on one instruction set; a skip where this machine or build lacks it."""
    monkeypatch.setenv("SERPENT_ISA", isa)
    try:
        scan(*arguments(Sizes(1, 1, 1)))
    except (ArgumentError, NativeLibraryError) as error:
        if isa == "portable" or not re.search(r"this processor lacks it|is not in this build", str(error)):
            raise
        pytest.skip(str(error))
    return functools.partial(scan)


@functools.cache
def long_problem(slow_decay: bool) -> tuple[Arguments, Tensor]:
    inputs = arguments(Sizes(1, 128, 144, 17, 3, 1), torch.float32, slow_decay=slow_decay)
    return inputs, exact(inputs)


@ISAS
@pytest.mark.parametrize("slow_decay", [False, True], ids=["usual", "slow-decay"])
def test_f32_error_over_18432_pixels(isa_scan: functools.partial[Tensor], slow_decay: bool) -> None:
    # Slow decays of 1e-4 a pixel, equal along the picture: rounding each to f32 would be 3e-4 of the rate, always the
    # same, and would add up over the thousands of pixels that the state remembers.
    inputs, truth = long_problem(slow_decay)
    error = isa_scan(*inputs) - truth
    assert relative(error, truth) <= 2e-6
    assert worst_channel(error, truth) <= 1e-5


@ISAS
@pytest.mark.parametrize("slow_decay", [False, True], ids=["usual", "slow-decay"])
def test_f64_error(isa_scan: functools.partial[Tensor], slow_decay: bool) -> None:
    inputs = arguments(Sizes(1, 33, 17, 37, 11, 4), torch.float64, slow_decay=slow_decay)
    truth = exact(inputs)
    error = isa_scan(*inputs) - truth
    assert relative(error, truth) <= 1e-14  # the oracle in f64 is itself some 1e-15 off
    assert worst_channel(error, truth) <= 1e-14


@ISAS
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("channels", [3, 63, 64, 65, 97, 130])
def test_tiles_and_their_tails(isa_scan: functools.partial[Tensor], dtype: torch.dtype, channels: int) -> None:
    # Tiles have 256 bytes of sums: 64 channels in f32, 32 in f64, of which the last may be part of a vector.
    # A channel's result cannot depend on where in a tile it lies.
    x, x_dbl, dt_weight, dt_bias, A, D_skip = arguments(Sizes(1, 5, 7, channels, 5, 3), dtype)
    y = isa_scan(x, x_dbl, dt_weight, dt_bias, A, D_skip)
    for d in {0, 1, channels // 2, channels - 1}:
        one = [tensor[:, d : d + 1].contiguous() for tensor in (dt_weight, dt_bias, A, D_skip)]
        assert torch.equal(isa_scan(x[..., d : d + 1].contiguous(), x_dbl, *one)[..., 0], y[..., d])


@ISAS
def test_groups_of_states(isa_scan: functools.partial[Tensor]) -> None:
    # States are worked on 4 or 8 at a time, in groups of nearly equal size: every remainder once.
    for d_state in range(1, 18):
        inputs = arguments(Sizes(1, 4, 9, 5, d_state, 1), torch.float32)
        truth = exact(inputs)
        assert relative(isa_scan(*inputs) - truth, truth) <= 1e-6


# Work for at least 8 threads by the kernel's measure, 2^18 state updates for each.
@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param(Sizes(1, 64, 64, 1, 128, 1), id="one-vector"),  # 4 tasks, the directions, at most
        pytest.param(Sizes(1, 40, 50, 33, 8, 2), id="ragged-tile"),
        pytest.param(Sizes(1, 32, 32, 200, 3, 1), id="several-tiles"),
        pytest.param(Sizes(5, 16, 25, 40, 7, 3), id="five-pictures"),
        # One set of sums exceeds 8 MiB / 4: directions apart take several rounds, and their number depends on threads.
        pytest.param(Sizes(1, 255, 257, 36, 1, 1), id="rounds"),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_threads_change_no_bit(sizes: Sizes, dtype: torch.dtype) -> None:
    arrays = [as_numpy(tensor) for tensor in arguments(sizes, dtype)]
    one = native.selective_scan_2d(*arrays, threads=1).tobytes()
    assert [native.selective_scan_2d(*arrays, threads=n).tobytes() == one for n in (2, 3, 5, 8, 64)] == [True] * 5


def as_numpy(tensor: Tensor) -> np.ndarray:
    import ml_dtypes

    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


@ISAS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_a_decay_rate_of_minus_infinity_forgets_at_once(
    isa_scan: functools.partial[Tensor], dtype: torch.dtype
) -> None:
    x, x_dbl, dt_weight, dt_bias, A, D_skip = arguments(Sizes(1, 3, 11, 19, 5, 2), dtype)
    largest = torch.finfo(dtype).max
    results = [isa_scan(x, x_dbl, dt_weight, dt_bias, A * 0 + rate, D_skip) for rate in (-INF, -largest, -1e6)]
    # dt >= 1e-3, so that exp(-1e6 dt) is 0 too.
    assert results[0].isfinite().all()
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@ISAS
@pytest.mark.parametrize("name", ["dt_weight", "dt_bias", "A", "D_skip"])
@pytest.mark.parametrize("bits", [0x7FC00000, -0x400000, 0x7FC001FF, -0x3FFE01], ids=["nan", "-nan", "low", "-low"])
def test_a_nan_weight_reaches_its_channel_and_no_other(
    isa_scan: functools.partial[Tensor], name: str, bits: int
) -> None:
    # NaNs of either sign and with a payload: the exponential works on the bits of a number.
    inputs = dict(
        zip(("x", "x_dbl", "dt_weight", "dt_bias", "A", "D_skip"), arguments(BASE, torch.float32), strict=True)
    )
    clean = isa_scan(*inputs.values())
    spoilt = inputs[name].clone()
    spoilt.view(torch.int32)[(1, 4) + (0,) * (spoilt.dim() - 2)] = bits
    y = isa_scan(*(inputs | {name: spoilt}).values())
    others = torch.arange(BASE.channels) != 4
    assert y[..., 4].flatten()[1:].isnan().all()
    assert torch.equal(y[..., others], clean[..., others])


BASE = Sizes(1, 5, 9, 19, 6, 2)


@ISAS
@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_bad_b_reaches_only_the_pixels_after_it(
    isa_scan: functools.partial[Tensor], value: float, dtype: torch.dtype
) -> None:
    x, x_dbl, *weights = arguments(BASE, dtype)
    clean = isa_scan(x, x_dbl, *weights)
    x_dbl = x_dbl.clone()
    x_dbl[0, 2, 4, 2] = value  # B of direction 0, its first state
    y = isa_scan(x, x_dbl, *weights)[0].flatten(0, 1)
    assert torch.equal(y[: 2 * 9 + 4], clean[0].flatten(0, 1)[: 2 * 9 + 4])
    assert not y[2 * 9 + 4].isfinite().any()


@ISAS
def test_denormal_numbers_are_kept(isa_scan: functools.partial[Tensor]) -> None:
    # A picture so dark that its values are denormal in f32, and y, linear in x, too.
    x, *rest = arguments(BASE, torch.float32)
    dark = 2.0**-130
    y = isa_scan(x * dark, *rest).double() / dark
    truth = exact((x, *rest))
    ulp = 2.0**-149 / dark
    # Each of the steps from pixel to pixel rounds to a multiple of an ulp, in each state and direction.
    assert float((y - truth).abs().max()) <= 4 * 45 * 6 * 4 * ulp
    assert float(y.abs().max()) > 0


@ISAS
def test_steep_inputs_saturate(isa_scan: functools.partial[Tensor]) -> None:
    # dt = 300 and decay rates up to 1e4: exp(dt A) is 0, so that y = (sum_n C_n B_n dt + D_skip) x in each direction.
    x, x_dbl, dt_weight, dt_bias, A, D_skip = arguments(BASE, torch.float32)
    y = isa_scan(x, x_dbl, dt_weight * 0, dt_bias * 0 + 300, A * 0 - 1e4, D_skip)
    columns = x_dbl.double().unflatten(-1, (4, -1))
    gain = 300 * (columns[..., 2:8] * columns[..., 8:14]).sum(-1).sum(-1, keepdim=True) + D_skip.double().sum(0)
    truth = gain * x.double()
    assert relative(y - truth, truth) <= 1e-6


@ISAS
def test_growth_beyond_f32_is_not_finite(isa_scan: functools.partial[Tensor]) -> None:
    # A > 0 is outside the contract; what overflows must still not pass for a result. C = B = x = 1, no skip.
    sizes = Sizes(1, 1, 8, 3, 1, 1)
    _, _, dt_weight, dt_bias, A, D_skip = arguments(sizes, torch.float32)
    x = torch.ones(1, 1, 8, 3)
    x_dbl = torch.ones(1, 1, 8, 12)
    y = isa_scan(x, x_dbl, dt_weight * 0, dt_bias * 0 + 200, A * 0 + 1, D_skip * 0)
    assert not y.isfinite().any()
