"""The scan in plain torch operations, chunk by chunk, against the f64 oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scan_cases import DTYPES, NAMES, Sizes, arguments, assert_as_good_as_same_precision, problem, relative
from serpent.errors import ArgumentError
from serpent.scan import selective_scan_2d_chunked, selective_scan_2d_reference

ODD = Sizes(2, 5, 7, 9, 3, 2)


@pytest.mark.parametrize("chunk", [1, 2, 8, 34, 35, 64])
def test_any_chunk_gives_the_scan(chunk: int) -> None:
    inputs, truth, _ = problem(ODD, torch.float64)
    assert relative(selective_scan_2d_chunked(*inputs, chunk=chunk) - truth, truth) <= 1e-14


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 33), (33, 1), (12, 11)])
def test_any_picture(height: int, width: int) -> None:
    inputs, truth, _ = problem(Sizes(1, height, width, 4, 3, 1), torch.float64)
    assert relative(selective_scan_2d_chunked(*inputs) - truth, truth) <= 1e-14


@pytest.mark.parametrize("slow_decay", [False, True], ids=["usual", "slow-decay"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_error_on_a_long_sequence(dtype: torch.dtype, slow_decay: bool) -> None:
    inputs, truth, single = problem(Sizes(height=40, width=40), dtype, slow_decay=slow_decay)
    assert_as_good_as_same_precision(selective_scan_2d_chunked(*inputs), inputs, truth, single)


def test_decays_beyond_the_range_of_exp_do_no_harm() -> None:
    x, x_dbl, dt_weight, dt_bias, A, D_skip = arguments(Sizes(height=9), torch.float32)
    inputs = (x, x_dbl, dt_weight, dt_bias + 6, 1000 * A, D_skip)
    torch.testing.assert_close(selective_scan_2d_chunked(*inputs), selective_scan_2d_reference(*inputs))


def test_gradients_are_those_of_the_oracle() -> None:
    results = []
    for scan in (selective_scan_2d_chunked, selective_scan_2d_reference):
        leaves = [tensor.clone().requires_grad_() for tensor in arguments(ODD)]
        results.append(torch.autograd.grad(scan(*leaves).square().sum(), leaves))
    for name, ours, truth in zip(NAMES, *results, strict=True):
        assert relative(ours - truth, truth) <= 1e-13, name


class _NothingOnTheCpu(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, result)):
            assert not isinstance(tensor, torch.Tensor) or tensor.device.type != "cpu", f"{func} on the CPU"
        return result


def test_nothing_is_copied_from_the_cpu_which_no_cuda_graph_can_hold() -> None:
    inputs = [tensor.to("meta") for tensor in arguments(ODD, torch.float32)]
    with _NothingOnTheCpu():
        assert selective_scan_2d_chunked(*inputs).device.type == "meta"


def test_an_empty_batch_gives_an_empty_result() -> None:
    assert selective_scan_2d_chunked(*arguments(Sizes(batch=0))).shape == (0, 5, 9, 16)


def test_a_chunk_of_nothing_is_refused() -> None:
    with pytest.raises(ArgumentError, match="chunk is 0; expected at least 1"):
        selective_scan_2d_chunked(*arguments(ODD), chunk=0)
