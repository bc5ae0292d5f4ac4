"""The operator as torch programs use it on the GPU: refusals, torch.compile, export, autocast, opcheck."""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gpu_cases import STORAGE, made, scan
from scan_cases import NAMES, Sizes
from serpent.errors import ArgumentError

DTYPES = pytest.mark.parametrize("dtype", STORAGE.values(), ids=STORAGE)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_contiguous_is_refused(device: torch.device, name: str) -> None:
    inputs = dict(zip(NAMES, made(Sizes(batch=2), torch.float32, device), strict=True))
    inputs[name] = inputs[name].transpose(0, 1).contiguous().transpose(0, 1)
    assert not inputs[name].is_contiguous()
    with pytest.raises(ArgumentError, match=rf"^{name} of shape .* expected a contiguous tensor"):
        scan(*inputs.values())


@pytest.mark.parametrize("name", NAMES[1:])
def test_an_argument_on_another_device_is_refused(device: torch.device, name: str) -> None:
    inputs = dict(zip(NAMES, made(Sizes(), torch.float32, device), strict=True))
    elsewhere = "cpu" if device.type == "cuda" else "meta"
    inputs[name] = inputs[name].to(elsewhere)
    with pytest.raises(ArgumentError, match=rf"^{name} is on {elsewhere}; expected {device.type}"):
        scan(*inputs.values())


@pytest.mark.require("cuda")
@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        pytest.param(Sizes(d_state=65), "d_state is 65", id="states"),
        pytest.param(Sizes(dt_rank=65), "dt_rank is 65", id="rank"),
    ],
)
def test_what_only_the_cpu_can_do_is_refused_by_name(gpu: torch.device, sizes: Sizes, named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        scan(*made(sizes, torch.float32, gpu))


@pytest.mark.require("cuda")
def test_f64_is_refused_by_name(gpu: torch.device) -> None:
    with pytest.raises(ArgumentError, match="dtype is f64"):
        scan(*made(Sizes(), torch.float64, gpu))


@DTYPES
def test_opcheck(device: torch.device, dtype: torch.dtype) -> None:
    inputs = [tensor.requires_grad_() for tensor in made(Sizes(), dtype, device)]
    torch.library.opcheck(scan, inputs)


class Block(torch.nn.Module):
    """A scan between two operations that a compiler may fuse with their neighbours."""

    def forward(self, *inputs: Tensor) -> Tensor:
        x, *rest = inputs
        return scan(x * 2, *rest) + x


def missing_for_inductor() -> str:
    """Inductor writes GPU kernels in Triton, a package of its own, and both compile C for this Python."""
    if importlib.util.find_spec("triton") is None:
        return "torch.compile's inductor needs Triton, which is not installed"
    headers = Path(sysconfig.get_path("include"))
    return "" if (headers / "Python.h").is_file() else f"torch.compile's inductor needs Python.h, which {headers} lacks"


needs_inductor = pytest.mark.skipif(bool(missing_for_inductor()), reason=missing_for_inductor())


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=needs_inductor)])
def test_compiled_programs_give_what_eager_ones_give(device: torch.device, backend: str) -> None:
    inputs = made(Sizes(), torch.float32, device)
    grad_y = torch.randn_like(inputs[0])
    results = []
    for program in (Block(), torch.compile(Block(), backend=backend, fullgraph=True)):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        y = program(*leaves)
        results.append((y, *torch.autograd.grad(y, leaves, grad_y)))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


def test_exported_programs_keep_the_operator(device: torch.device) -> None:
    inputs = made(Sizes(), torch.float32, device)
    program = torch.export.export(Block(), inputs)
    assert scan.default in {node.target for node in program.graph.nodes}
    torch.testing.assert_close(program.module()(*inputs), Block()(*inputs))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["f16", "bf16"])
def test_autocast_casts_the_features_and_keeps_the_weights(device: torch.device, dtype: torch.dtype) -> None:
    x, x_dbl, *weights = made(Sizes(), torch.float32, device)
    leaves = [tensor.requires_grad_() for tensor in (x, x_dbl, *weights)]
    with torch.autocast(device.type, dtype=dtype):
        y = scan(*leaves)
    assert y.dtype == dtype
    assert torch.equal(y, scan(x.to(dtype), x_dbl.to(dtype), *weights))
    gradients = torch.autograd.grad(y.float().sum(), leaves)
    assert [gradient.dtype for gradient in gradients] == [torch.float32] * 6
    assert all(bool(gradient.isfinite().all()) and bool(gradient.any()) for gradient in gradients)
