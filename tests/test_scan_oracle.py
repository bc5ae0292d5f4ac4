"""The oracle against loops written differently, and both against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from scan_cases import Arguments, Sizes, arguments, brute_force, walk
from serpent.scan import selective_scan_2d, selective_scan_2d_reference
from serpent.scan.reference import scan_order, softplus

Scan = Callable[..., Tensor]

BOTH = pytest.mark.parametrize("scan", [selective_scan_2d_reference, selective_scan_2d], ids=["oracle", "operator"])
SMALL = {"channels": 3, "d_state": 2, "dt_rank": 2}


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param(Sizes(1, 1, 1, **SMALL), id="one-pixel"),
        pytest.param(Sizes(1, 1, 7, **SMALL), id="one-row"),
        pytest.param(Sizes(1, 7, 1, **SMALL), id="one-column"),
        pytest.param(Sizes(1, 5, 9, **SMALL), id="5x9"),
        pytest.param(Sizes(1, 33, 17, **SMALL), id="33x17"),
        pytest.param(Sizes(3, 5, 9, **SMALL), id="three-pictures"),
        pytest.param(Sizes(1, 4, 6, 1, 1, 1), id="one-channel-one-state"),
        pytest.param(Sizes(1, 4, 6, 5, 7, 3), id="more-states-than-channels"),
    ],
)
@pytest.mark.parametrize("slow_decay", [False, True], ids=["usual", "slow-decay"])
def test_oracle_agrees_with_nested_loops(sizes: Sizes, slow_decay: bool) -> None:
    inputs = arguments(sizes, slow_decay=slow_decay)
    expected = brute_force(inputs)
    np.testing.assert_allclose(selective_scan_2d_reference(*inputs).numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (7, 1), (2, 3), (5, 9)])
def test_each_direction_visits_the_pixels_that_steps_reach(height: int, width: int) -> None:
    order = scan_order(height, width)
    for direction in range(4):
        expected = [row * width + column for row, column in walk(height, width, direction)]
        assert order[direction].tolist() == expected


def halving(picture: list[list[float]], direction: int) -> Arguments:
    """Arguments by which h becomes h / 2 + x along ``direction``, and y is that h.

    dt = softplus(0) = ln 2 everywhere; A = -1, so that exp(dt A) = 1/2; B = 1 / ln 2, so that dt B x = x; C = 1 in
    the direction asked for and 0 in the others; no skip.
    """
    x = torch.tensor(picture, dtype=torch.float64)[None, :, :, None]
    x_dbl = torch.zeros(*x.shape[:3], 4, 3, dtype=torch.float64)  # per direction dt_r, B, C
    x_dbl[..., 1] = 1 / math.log(2)
    x_dbl[..., direction, 2] = 1
    zeros = torch.zeros(4, 1, dtype=torch.float64)
    return x, x_dbl.flatten(3), zeros[..., None], zeros, zeros[..., None] - 1, zeros


@BOTH
@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        # along the rows: 1, 1/2 + 2, 2.5/2 + 3, 4.25/2 + 4, 6.125/2 + 5, 8.0625/2 + 6
        pytest.param(0, [[1, 2.5, 4.25], [6.125, 8.0625, 10.03125]], id="rows"),
        # down the columns 1 4 | 2 5 | 3 6: 1, 1/2 + 4, 4.5/2 + 2, 4.25/2 + 5, 7.125/2 + 3, 6.5625/2 + 6
        pytest.param(1, [[1, 4.25, 6.5625], [4.5, 7.125, 9.28125]], id="columns"),
        # back along the rows: 6, 6/2 + 5, 8/2 + 4, 8/2 + 3, 7/2 + 2, 5.5/2 + 1
        pytest.param(2, [[3.75, 5.5, 7], [8, 8, 6]], id="rows-reversed"),
        # up the columns 6 3 | 5 2 | 4 1: 6, 6/2 + 3, 6/2 + 5, 8/2 + 2, 6/2 + 4, 7/2 + 1
        pytest.param(3, [[4.5, 6, 6], [7, 8, 6]], id="columns-reversed"),
    ],
)
def test_direction_by_hand(scan: Scan, direction: int, expected: list[list[float]]) -> None:
    y = scan(*halving([[1, 2, 3], [4, 5, 6]], direction))
    np.testing.assert_allclose(y[0, :, :, 0].numpy(), expected, rtol=1e-14)


@BOTH
def test_the_four_directions_add_up(scan: Scan) -> None:
    x, x_dbl, *weights = halving([[1, 2, 3], [4, 5, 6]], 0)
    x_dbl = x_dbl.clone()
    x_dbl[..., 2::3] = 1  # C of every direction
    # The sums of the four pictures above: 1 + 1 + 3.75 + 4.5, and so on.
    expected = [[10.25, 18.25, 23.8125], [25.625, 31.1875, 31.3125]]
    np.testing.assert_allclose(scan(x, x_dbl, *weights)[0, :, :, 0].numpy(), expected, rtol=1e-14)


@BOTH
def test_dt_b_and_c_by_hand(scan: Scan) -> None:
    # Two pixels in a row, x = (1, 1), direction 0 alone (C = 0 elsewhere).
    # v = dt_weight dt_r + dt_bias = 2 dt_r - 2 with dt_r = 1 at both, so dt = ln 2; A = -2, so decay = 1/4.
    # B = (3, 5), C = (7, 11), D_skip = 0.5:
    #   h0 = 3 ln2, y0 = 7 * 3 ln2 + 0.5;   h1 = 3/4 ln2 + 5 ln2 = 5.75 ln2, y1 = 11 * 5.75 ln2 + 0.5
    x = torch.ones(1, 1, 2, 1, dtype=torch.float64)
    x_dbl = torch.zeros(1, 1, 2, 12, dtype=torch.float64)
    x_dbl[0, 0, :, :3] = torch.tensor([[1.0, 3.0, 7.0], [1.0, 5.0, 11.0]])
    dt_weight = torch.full((4, 1, 1), 2, dtype=torch.float64)
    D_skip = torch.tensor([[0.5], [0], [0], [0]], dtype=torch.float64)
    y = scan(x, x_dbl, dt_weight, dt_weight[..., 0] * -1, dt_weight * -1, D_skip)
    np.testing.assert_allclose(y.flatten(), [21 * math.log(2) + 0.5, 63.25 * math.log(2) + 0.5], rtol=1e-14)


SOFTPLUS = [
    # v, log(1 + e^v) worked out with 50 digits
    (-100.0, 3.720075976020835962959695803863e-44),
    (-20.0, 2.061153620314380703238982798878e-9),
    (-0.001, 0.6926473055599401010842460),
    (0.0, 0.69314718055994530941723212),
    (1.0, 1.31326168751822283404899550),
    (20.0, 20.0000000020611536203143807),
    (30.0, 30.0000000000000935762296884),  # a threshold of 20 would give 30 here
    (100.0, 100.0),
]


@pytest.mark.parametrize(("value", "expected"), SOFTPLUS, ids=[f"v={value:g}" for value, _ in SOFTPLUS])
def test_softplus_of_the_oracle_has_no_threshold(value: float, expected: float) -> None:
    result = softplus(torch.tensor(value, dtype=torch.float64))
    np.testing.assert_allclose(float(result), expected, rtol=4e-16)


def dt_of(scan: Scan, value: float, dtype: torch.dtype) -> float:
    """softplus(value) as the scan of one pixel yields it: B = C = x = 1 in direction 0, no skip."""
    zeros = torch.zeros(4, 1, dtype=dtype)
    x_dbl = torch.zeros(1, 1, 1, 12, dtype=dtype)
    x_dbl[..., 1:3] = 1
    x = torch.ones(1, 1, 1, 1, dtype=dtype)
    return float(scan(x, x_dbl, zeros[..., None], zeros + value, zeros[..., None] - 1, zeros))


@BOTH
@pytest.mark.parametrize(("value", "expected"), SOFTPLUS, ids=[f"v={value:g}" for value, _ in SOFTPLUS])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_softplus_in_the_scan_has_no_threshold(scan: Scan, value: float, expected: float, dtype: torch.dtype) -> None:
    # The kernel's exp ends at e^-87 in f32, so softplus below that is e^-87 = 1.7e-38, which no y can tell from 0.
    # A value v that f32 cannot hold is off by half an ulp to begin with.
    eps = torch.finfo(dtype).eps
    floor = 1.7e-38 if dtype == torch.float32 else 0.0
    assert abs(dt_of(scan, value, dtype) - expected) <= 4 * eps * expected + floor


def test_reference_computes_in_the_dtype_asked_for() -> None:
    inputs = arguments(Sizes())
    double = selective_scan_2d_reference(*inputs)
    single = selective_scan_2d_reference(*(tensor.float() for tensor in inputs))
    half = selective_scan_2d_reference(inputs[0].half(), inputs[1].half(), *(tensor.float() for tensor in inputs[2:]))
    assert (double.dtype, single.dtype, half.dtype) == (torch.float64, torch.float32, torch.float16)
    assert 0 < float((single - double).abs().max()) < 1e-5
