"""Gradients of the scan operator: every input, autocast, torch.compile, and what it refuses to differentiate."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scan_cases import NAMES, Arguments, Sizes, arguments, relative
from serpent.errors import ArgumentError, SerpentError
from serpent.model import create_model
from serpent.scan import selective_scan_2d_reference

scan = torch.ops.serpent.selective_scan_2d
backward = torch.ops.serpent.selective_scan_2d_backward

ODD = Sizes(2, 3, 5, 7, 3, 2)
LOW = {"f16": torch.float16, "bf16": torch.bfloat16}


def leaves_of(inputs: Arguments) -> list[Tensor]:
    return [tensor.detach().clone().requires_grad_() for tensor in inputs]


def noise_like(y: Tensor) -> Tensor:
    return torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)


def gradients(run: Callable[..., Tensor], inputs: Arguments) -> tuple[Tensor, ...]:
    """dL/d(input) of every input for one dL/dy, the same in every call."""
    leaves = leaves_of(inputs)
    y = run(*leaves)
    return torch.autograd.grad(y, leaves, noise_like(y))


@pytest.mark.parametrize("sizes", [ODD, Sizes(1, 1, 1, 1, 1, 1), Sizes(1, 7, 1, 17, 2, 1), Sizes(1, 1, 35, 2, 1, 3)])
@pytest.mark.parametrize("name", NAMES)
def test_gradcheck_with_respect_to_one_input(name: str, sizes: Sizes) -> None:
    inputs = [tensor.requires_grad_(which == name) for which, tensor in zip(NAMES, arguments(sizes), strict=True)]
    assert torch.autograd.gradcheck(scan, inputs)


def test_gradcheck_with_respect_to_all_inputs() -> None:
    assert torch.autograd.gradcheck(scan, leaves_of(arguments(ODD)))


@pytest.mark.parametrize("wanted", [("x",), ("x_dbl", "A"), NAMES[2:]], ids="-".join)
def test_inputs_that_need_no_gradient_get_none(wanted: tuple[str, ...]) -> None:
    inputs = dict(zip(NAMES, arguments(ODD, torch.float32), strict=True))
    expected = dict(zip(NAMES, gradients(scan, tuple(inputs.values())), strict=True))
    leaves = {name: tensor.clone().requires_grad_(name in wanted) for name, tensor in inputs.items()}
    y = scan(*leaves.values())
    y.backward(noise_like(y))
    for name, leaf in leaves.items():
        if name in wanted:
            assert torch.equal(leaf.grad, expected[name])
        else:
            assert leaf.grad is None


def test_without_gradients_nothing_is_recorded() -> None:
    leaves = leaves_of(arguments(ODD))
    with torch.no_grad():
        assert scan(*leaves).grad_fn is None
    assert scan(*arguments(ODD)).grad_fn is None


@pytest.mark.parametrize("spread", ["expanded", "transposed", "every other"])
def test_any_layout_of_the_incoming_gradient(spread: str) -> None:
    leaves = leaves_of(arguments(ODD, torch.float32))
    y = scan(*leaves)
    grad_y = {
        "expanded": torch.ones(()).expand(y.shape),  # what y.sum().backward() sends
        "transposed": noise_like(y).transpose(1, 2).contiguous().transpose(1, 2),
        "every other": noise_like(torch.stack([y, y], dim=-1))[..., 0],
    }[spread]
    assert not grad_y.is_contiguous()
    ours = torch.autograd.grad(y, leaves, grad_y, retain_graph=True)
    dense = torch.autograd.grad(y, leaves, grad_y.contiguous())
    assert all(torch.equal(one, other) for one, other in zip(ours, dense, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *LOW.values()], ids=str)
def test_an_empty_batch_has_empty_and_zero_gradients(dtype: torch.dtype) -> None:
    inputs = arguments(Sizes(batch=0), dtype)
    for name, leaf, gradient in zip(NAMES, inputs, gradients(scan, inputs), strict=True):
        assert (gradient.shape, gradient.dtype) == (leaf.shape, leaf.dtype), name
        assert not gradient.any(), name


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "inf"])
@pytest.mark.parametrize("place", ["x", "x_dbl", "grad_y"])
def test_a_bad_pixel_reaches_the_gradients_that_it_must(place: str, value: float) -> None:
    inputs = arguments(ODD)
    grad_y = noise_like(inputs[0])
    tensors = {"grad_y": grad_y, "x": inputs[0], "x_dbl": inputs[1]}
    tensors[place][0, 1, 2, 3] = value
    results = []
    for run in (scan, selective_scan_2d_reference):
        leaves = leaves_of(inputs)
        results.append(torch.autograd.grad(run(*leaves), leaves, grad_y))
    for name, ours, truth in zip(NAMES, *results, strict=True):
        assert torch.equal(ours.isfinite(), truth.isfinite()), name
    assert not all(bool(gradient.isfinite().all()) for gradient in results[0])
    assert all(bool(gradient[1].isfinite().all()) for gradient in results[0][:2])  # the other picture


@pytest.mark.parametrize("dtype", LOW.values(), ids=LOW)
def test_autocast_casts_the_features_and_nothing_else(dtype: torch.dtype) -> None:
    x, x_dbl, *weights = arguments(ODD, torch.float32)

    def under_autocast(*inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=dtype):
            return scan(*inputs)  # type: ignore[no-any-return]

    def by_hand(x: Tensor, x_dbl: Tensor, *weights: Tensor) -> Tensor:
        return scan(x.to(dtype), x_dbl.to(dtype), *weights)  # type: ignore[no-any-return]

    y = under_autocast(x, x_dbl, *weights)
    assert y.dtype == dtype
    assert torch.equal(y, by_hand(x, x_dbl, *weights))
    for mixed in ((x.to(dtype), x_dbl), (x, x_dbl.to(dtype)), (x.to(dtype), x_dbl.to(dtype))):
        assert torch.equal(under_autocast(*mixed, *weights), y)
    inputs = (x, x_dbl, *weights)
    for name, ours, theirs in zip(NAMES, gradients(under_autocast, inputs), gradients(by_hand, inputs), strict=True):
        assert ours.dtype == torch.float32, name
        assert torch.equal(ours, theirs), name


def test_autocast_nested_switched_off_and_in_f64() -> None:
    single, double = arguments(ODD, torch.float32), arguments(ODD)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.autocast("cpu", dtype=torch.float16):
            assert scan(*single).dtype == torch.float16
        with torch.autocast("cpu", enabled=False):
            assert scan(*single).dtype == torch.float32
        assert scan(*single).dtype == torch.bfloat16
        assert torch.equal(scan(*double), scan(*double))
        assert scan(*double).dtype == torch.float64
        with pytest.raises(ArgumentError, match="dt_weight has dtype torch.bfloat16; expected torch.float32"):
            scan(*single[:2], single[2].bfloat16(), *single[3:])
    assert scan(*single).dtype == torch.float32


def test_gradients_under_autocast_are_as_good_as_those_of_the_oracle_in_bf16() -> None:
    inputs = arguments(Sizes(1, 9, 11, 16, 6, 2), torch.float32)

    def cast(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def cast_and_run(x: Tensor, x_dbl: Tensor, *weights: Tensor) -> Tensor:
            return run(x.bfloat16(), x_dbl.bfloat16(), *weights)

        return cast_and_run

    def under_autocast(*leaves: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return scan(*leaves)  # type: ignore[no-any-return]

    exact = gradients(selective_scan_2d_reference, tuple(tensor.double() for tensor in inputs))  # type: ignore[arg-type]
    peer = gradients(cast(selective_scan_2d_reference), inputs)
    for name, ours, truth, other in zip(NAMES, gradients(under_autocast, inputs), exact, peer, strict=True):
        limit = 2 * relative(other - truth, truth)
        assert relative(ours - truth, truth) <= limit, name


def test_a_model_trains_under_autocast() -> None:
    model = create_model("L", seed=0, embed_dim=8, num_scales=1, depth=1)
    image = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        restored = model(image)
    restored.float().square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.slow
def test_inductor_hands_over_contiguous_tensors() -> None:
    # In the backward pass of this network inductor keeps features in the memory layout of the convolutions.
    model = create_model("B", seed=0, embed_dim=8, num_scales=1, depth=1, mlp_ratio=0)
    image = torch.rand(1, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    results = []
    for program in (model, torch.compile(model, fullgraph=True, dynamic=False)):
        model.zero_grad()
        program(image).square().mean().backward()
        results.append({name: parameter.grad for name, parameter in model.named_parameters()})
    eager, compiled = results
    for name, gradient in eager.items():
        assert relative(compiled[name] - gradient, gradient) <= 1e-5, name  # sums in another order


def test_autocast_inside_a_compiled_program() -> None:
    def program(*leaves: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return scan(*leaves)  # type: ignore[no-any-return]

    inputs = arguments(ODD, torch.float32)
    compiled = torch.compile(program, fullgraph=True, backend="aot_eager")
    assert compiled(*inputs).dtype == torch.bfloat16
    for ours, eager in zip(gradients(compiled, inputs), gradients(program, inputs), strict=True):
        assert torch.equal(ours, eager)


def test_a_strided_input_is_refused_when_compiled_too() -> None:
    x, *rest = arguments(ODD, torch.float32)
    program = torch.compile(lambda x, *rest: scan(x.transpose(1, 2), *rest), fullgraph=True, backend="aot_eager")
    with pytest.raises(ArgumentError, match=r"x of shape \(2, 3, 5, 7\) has strides .*; expected a contiguous tensor"):
        program(x.transpose(1, 2).contiguous(), *rest)


WRONG_GRADIENTS = [
    pytest.param(lambda g: g[0], r"grad_y has shape \(3, 5, 7\); expected \(2, 3, 5, 7\)", id="rank"),
    pytest.param(lambda g: g[:1], r"grad_y has shape \(1, 3, 5, 7\); expected \(2, 3, 5, 7\)", id="shape"),
    pytest.param(lambda g: g.half(), r"grad_y has dtype torch.float16; expected torch.float32", id="dtype"),
    pytest.param(lambda g: g.to("meta"), r"grad_y is on meta; expected cpu, where x is", id="device"),
    pytest.param(
        lambda g: g[..., :1].expand(g.shape), r"grad_y of shape .* has strides .*; expected a contiguous", id="strides"
    ),
]


@pytest.mark.parametrize(("spoil", "message"), WRONG_GRADIENTS)
def test_the_backward_operator_names_a_wrong_gradient(spoil: Callable[[Tensor], Tensor], message: str) -> None:
    inputs = arguments(ODD, torch.float32)
    with pytest.raises(ArgumentError, match=message):
        backward(spoil(torch.zeros_like(inputs[0])), *inputs)


def test_a_second_derivative_is_refused() -> None:
    leaves = leaves_of(arguments(ODD))
    (grad_x, *_) = torch.autograd.grad(scan(*leaves).sum(), leaves, create_graph=True)
    with pytest.raises(SerpentError, match="selective_scan_2d has no second derivative"):
        grad_x.sum().backward()


def test_forward_mode_is_refused() -> None:
    x, *rest = arguments(ODD)
    with pytest.raises(SerpentError, match="selective_scan_2d has no forward-mode derivative"):
        torch.func.jvp(functools.partial(lambda rest, x: scan(x, *rest), rest), (x,), (x,))


@pytest.mark.parametrize("operator", [scan, backward], ids=["forward", "backward"])
def test_vmap_is_refused(operator: Any) -> None:
    inputs = arguments(ODD)
    tensors = inputs if operator is scan else (inputs[0], *inputs)
    with pytest.raises(SerpentError, match="selective_scan_2d does not run under torch.vmap"):
        torch.vmap(operator)(*(tensor[None] for tensor in tensors))
