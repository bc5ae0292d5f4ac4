"""Gradients on the GPU: as good as autograd in f32, equal to the CPU's f64 ones, the same bits each time."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from gpu_cases import STORAGE, by_device, made, moved, network_sizes, scan
from scan_cases import CPU, NAMES, Arguments, Sizes, arguments, converted, relative
from serpent.scan import selective_scan_2d_reference

DTYPES = pytest.mark.parametrize("dtype", STORAGE.values(), ids=STORAGE)


@functools.cache
def problem(sizes: Sizes, dtype: torch.dtype, slow_decay: bool = False) -> tuple[Arguments, Tensor]:
    """Arguments and a dL/dy, on the CPU; with slow decays all positive, so that nothing hides what adds up."""
    inputs = arguments(sizes, dtype, slow_decay=slow_decay)
    grad_y = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1))
    return inputs, (grad_y.abs() if slow_decay else grad_y).to(dtype)


def gradients(inputs: Arguments, grad_y: Tensor) -> tuple[Tensor, ...]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    return torch.autograd.grad(scan(*leaves), leaves, grad_y)


@functools.cache
def autograd(
    sizes: Sizes, stored: torch.dtype, dtype: torch.dtype, slow_decay: bool, device: torch.device
) -> tuple[Tensor, ...]:
    """From the reference in ``dtype``, run on ``device``, for the numbers that storage in ``stored`` leaves."""
    inputs, grad_y = problem(sizes, stored, slow_decay)
    leaves = [tensor.clone().requires_grad_() for tensor in moved(converted(inputs, dtype), device)]
    found = torch.autograd.grad(selective_scan_2d_reference(*leaves), leaves, grad_y.to(device, dtype))
    return tuple(tensor.cpu() for tensor in found)


@DTYPES
@pytest.mark.parametrize("slow_decay", [False, True], ids=["usual", "slow-decay"])
@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param(Sizes(1, 1, 1, 1, 1, 1), id="one-of-each"),
        pytest.param(Sizes(1, 1, 33, 3, 2, 2), id="one-row"),
        pytest.param(Sizes(1, 33, 1, 3, 2, 2), id="one-column"),
        pytest.param(Sizes(2, 7, 43, 37, 5, 3), id="ragged"),
        pytest.param(Sizes(1, 16, 17, 64, 6, 2), id="network-c32"),
        pytest.param(Sizes(1, 6, 11, 33, 43, 16), id="network-states-and-rank"),
        pytest.param(Sizes(1, 3, 4, 2, 64, 64), id="limits"),
    ],
)
def test_as_good_as_autograd(device: torch.device, sizes: Sizes, dtype: torch.dtype, slow_decay: bool) -> None:
    """Twice the error of autograd in f32 there, plus sums over N in one order: N roundings add like sqrt(N) of them."""
    inputs, grad_y = problem(sizes, dtype, slow_decay)
    summing = torch.finfo(torch.float32).eps * sizes.d_state**0.5
    ours = gradients(moved(inputs, device), grad_y.to(device))
    exact = autograd(sizes, dtype, torch.float64, slow_decay, CPU)
    peer = autograd(sizes, dtype, torch.float32, slow_decay, device)
    for name, given, gradient, truth, other in zip(NAMES, inputs, ours, exact, peer, strict=True):
        assert (gradient.dtype, gradient.shape, gradient.device.type) == (given.dtype, given.shape, device.type)
        if not truth.any():  # dL/dA of a single pixel
            assert not gradient.any()
            continue
        # A sum of few terms may come out exact by luck: one rounding is granted in any case.
        allowed = 2 * max(relative(other.to(gradient.dtype) - truth, truth), torch.finfo(gradient.dtype).eps) + summing
        assert relative(gradient.cpu() - truth, truth) <= allowed, name


@DTYPES
@pytest.mark.parametrize("scale", range(4))
def test_the_shapes_of_the_network_against_f64(device: torch.device, scale: int, dtype: torch.dtype) -> None:
    inputs, grad_y = problem(network_sizes("H", scale, by_device(device, 256, 32)), dtype)
    ours = gradients(moved(inputs, device), grad_y.to(device))
    exact = gradients(converted(inputs, torch.float64), grad_y.double())
    for name, gradient, truth in zip(NAMES, ours, exact, strict=True):
        # f32 sums over up to 65536 pixels, and what storing in 16 bits takes.
        storing = torch.finfo(gradient.dtype).eps if gradient.dtype.itemsize == 2 else 0
        assert relative(gradient.cpu() - truth, truth) <= 1e-5 + storing, name


@DTYPES
def test_repeats_are_equal_bit_by_bit(device: torch.device, dtype: torch.dtype) -> None:
    inputs, grad_y = problem(network_sizes("H", 0, by_device(device, 256, 32)), dtype)
    inputs, grad_y = moved(inputs, device), grad_y.to(device)
    first = gradients(inputs, grad_y)
    for _ in range(by_device(device, 100, 3)):
        assert all(torch.equal(one, other) for one, other in zip(gradients(inputs, grad_y), first, strict=True))


def test_an_empty_batch_has_zero_gradients_of_the_weights(device: torch.device) -> None:
    inputs = made(Sizes(0, 5, 9, 17, 6, 2), torch.float32, device)
    for gradient in gradients(inputs, torch.empty_like(inputs[0]))[2:]:
        assert gradient.numel() > 0
        assert not gradient.any()


def test_only_what_needs_a_gradient_gets_one(device: torch.device) -> None:
    x, *rest = made(Sizes(), torch.float32, device)
    x.requires_grad_()
    scan(x, *rest).sum().backward()
    assert x.grad is not None
    assert [tensor.grad for tensor in rest] == [None] * 5
