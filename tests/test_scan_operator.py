"""torch.ops.serpent.selective_scan_2d (the native kernel) against the f64 oracle, and its contract."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from scan_cases import (
    DTYPES,
    Arguments,
    Sizes,
    arguments,
    assert_as_good_as_same_precision,
    problem,
    relative,
    worst_channel,
)
from serpent import native
from serpent.errors import ArgumentError, NativeLibraryError
from serpent.scan import selective_scan_2d_reference

scan = torch.ops.serpent.selective_scan_2d
BASE = Sizes()


def changed(**sizes: int) -> Sizes:
    return dataclasses.replace(BASE, **sizes)


ROWS = [
    pytest.param(BASE, id="base"),
    pytest.param(changed(height=1, width=1), id="1x1"),
    pytest.param(changed(height=1, width=7), id="1x7"),
    pytest.param(changed(height=7, width=1), id="7x1"),
    pytest.param(changed(height=33, width=17), id="33x17"),
    # Tokens are scanned in blocks of 32.
    *(pytest.param(changed(height=1, width=w), id=f"tokens-{w}") for w in (31, 32, 33, 64, 65)),
    # Channels come in vectors: 4, 8 or 16 in f32, half of that in f64.
    *(pytest.param(changed(channels=d), id=f"channels-{d}") for d in (1, 7, 8, 9, 15, 17, 31, 32, 33)),
    # Around what one merging task adds up, 1024 pixels.
    *(pytest.param(changed(height=5, width=205 + w, d_state=1), id=f"pixels-{1025 + 5 * w}") for w in (-1, 0, 1)),
    *(pytest.param(changed(height=1, width=w, d_state=1), id=f"pixels-{w}") for w in (1023, 1024)),
    pytest.param(changed(d_state=1), id="state-1"),
    pytest.param(changed(d_state=256, height=2), id="state-256"),
    pytest.param(changed(dt_rank=1), id="rank-1"),
    pytest.param(changed(dt_rank=256, height=2), id="rank-256"),
    pytest.param(changed(batch=3), id="three-pictures"),
    # Many tiles of channels.
    pytest.param(Sizes(3, 4, 8, 5600, 1, 1), id="many-channels"),
    pytest.param(Sizes(1, 8, 9, 64, 6, 2), id="network-c32"),
    pytest.param(Sizes(1, 6, 7, 128, 11, 4), id="network-c64"),
    pytest.param(Sizes(1, 5, 6, 256, 22, 8), id="network-c128"),
    pytest.param(Sizes(1, 4, 5, 512, 43, 16), id="network-c256"),
]


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("sizes", ROWS)
def test_error_against_the_oracle(sizes: Sizes, dtype: torch.dtype) -> None:
    inputs, truth, single = problem(sizes, dtype)
    assert_as_good_as_same_precision(scan(*inputs), inputs, truth, single)


@pytest.mark.parametrize("slow_decay", [False, True], ids=["usual", "slow-decay"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_error_on_a_long_sequence(dtype: torch.dtype, slow_decay: bool) -> None:
    inputs, truth, single = problem(changed(height=40, width=40), dtype, slow_decay=slow_decay)
    assert_as_good_as_same_precision(scan(*inputs), inputs, truth, single)


@pytest.mark.parametrize("slow_decay", [False, True], ids=["usual", "slow-decay"])
def test_f32_error_is_small_in_itself(slow_decay: bool) -> None:
    inputs, truth, _ = problem(changed(height=33, width=17, channels=33), torch.float32, slow_decay=slow_decay)
    assert relative(scan(*inputs) - truth, truth) <= 2e-6
    assert worst_channel(scan(*inputs) - truth, truth) <= 1e-5


def run_or_skip(isa: str, inputs: Arguments) -> Tensor:
    """The scan; a skip where this machine or build lacks the instruction set."""
    try:
        y: Tensor = scan(*inputs)
    except (ArgumentError, NativeLibraryError) as error:
        if isa == "portable" or not re.search(r"this processor lacks it|is not in this build", str(error)):
            raise
        pytest.skip(str(error))
    return y


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("slow_decay", [False, True], ids=["usual", "slow-decay"])
def test_every_instruction_set(isa: str, dtype: torch.dtype, slow_decay: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, truth, single = problem(Sizes(2, 9, 11, 37, 11, 4), dtype, slow_decay=slow_decay)
    monkeypatch.setenv("SERPENT_ISA", isa)
    assert_as_good_as_same_precision(run_or_skip(isa, inputs), inputs, truth, single)


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
@pytest.mark.parametrize(("dtype", "lowest"), [(torch.float32, -86.0), (torch.float64, -700.0)], ids=["f32", "f64"])
def test_decay_is_right_over_the_whole_range_of_exp(
    isa: str, dtype: torch.dtype, lowest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two pixels in a row, x = (1, 0), B = C = 1, direction 0 alone: y = (dt, exp(dt A) dt).
    channels = 20_000
    x = torch.tensor([1.0, 0.0], dtype=dtype)[None, None, :, None].repeat(1, 1, 1, channels)
    x_dbl = torch.zeros(1, 1, 2, 12, dtype=dtype)
    x_dbl[..., 1:3] = 1
    rates = torch.cat([torch.linspace(lowest, 0, channels // 2), -torch.logspace(-9, 1, channels // 2)]).to(dtype)
    zeros = torch.zeros(4, channels, dtype=dtype)
    monkeypatch.setenv("SERPENT_ISA", isa)
    dt, decayed = run_or_skip(isa, (x, x_dbl, zeros[..., None], zeros, rates.repeat(4, 1)[..., None], zeros))[0, 0]
    assert dt.unique().numel() == 1
    exponents = dt.numpy().astype(np.longdouble) * rates.numpy()
    error = np.abs(decayed.numpy() / (np.exp(exponents) * dt.numpy()) - 1)
    # Three roundings of the exponent dt A log2(e), 2 ulp of 2^z, and half of one for the product.
    assert float((error - 1.5 * torch.finfo(dtype).eps * np.abs(exponents)).max()) <= 2.5 * torch.finfo(dtype).eps


def test_an_unknown_instruction_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERPENT_ISA", "mmx")
    with pytest.raises(ArgumentError, match=r"SERPENT_ISA=mmx is not in this build; known are .*portable"):
        scan(*arguments(BASE))


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param(Sizes(1, 1, 1, 1, 1, 1), id="fewer-tasks-than-threads"),
        pytest.param(changed(channels=33, width=13), id="ragged-tile"),
        pytest.param(changed(batch=3, channels=17), id="three-pictures"),
        pytest.param(Sizes(3, 32, 32, 177, 1, 1), id="several-rounds"),
        pytest.param(Sizes(1, 129, 130, 33, 1, 1), id="rounds-by-threads"),
        pytest.param(Sizes(1, 32, 32, 144, 1, 1), id="many-tiles-in-a-round"),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_result_does_not_depend_on_threads(sizes: Sizes, dtype: torch.dtype) -> None:
    arrays = [as_numpy(tensor) for tensor in arguments(sizes, dtype)]
    one = native.selective_scan_2d(*arrays, threads=1).tobytes()
    assert [native.selective_scan_2d(*arrays, threads=n).tobytes() == one for n in (2, 3, 8)] == [True] * 3


def as_numpy(tensor: Tensor) -> np.ndarray:
    import ml_dtypes

    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def test_torch_threads_change_nothing() -> None:
    inputs = arguments(changed(channels=40), torch.float32)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(scan(*inputs))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_an_empty_batch_gives_an_empty_result(dtype: torch.dtype) -> None:
    inputs = arguments(changed(batch=0), dtype)
    for y in (scan(*inputs), selective_scan_2d_reference(*inputs)):
        assert (y.shape, y.dtype) == ((0, 5, 9, 16), dtype)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_bad_pixel_stays_in_its_picture_and_channel(value: float, dtype: torch.dtype) -> None:
    x, *rest = arguments(changed(batch=2, channels=19), dtype)
    clean = scan(x, *rest)
    poisoned = x.clone()
    poisoned[0, 2, 4, 5] = value
    y = scan(poisoned, *rest)
    others = torch.arange(19) != 5
    assert not y[0, 2, 4, 5].isfinite()
    assert torch.equal(y[1], clean[1])
    assert torch.equal(y[0][..., others], clean[0][..., others])


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_bad_step_size_is_not_swallowed(dtype: torch.dtype) -> None:
    x, x_dbl, *weights = arguments(changed(batch=2, channels=19), dtype)
    clean = scan(x, x_dbl, *weights)
    x_dbl = x_dbl.clone()
    x_dbl[0, 2, 4, 0] = float("nan")  # dt_r of direction 0
    y = scan(x, x_dbl, *weights)
    assert y[0].flatten(0, 1)[2 * 9 + 4 :].isnan().all()  # this pixel and all after it, row by row
    assert torch.equal(y[0].flatten(0, 1)[: 2 * 9 + 4], clean[0].flatten(0, 1)[: 2 * 9 + 4])
    assert torch.equal(y[1], clean[1])
