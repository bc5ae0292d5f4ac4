"""The scan through mamba-ssm, which a stand-in replaces here: one grouped call, and the same network as ever."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import serpent
from scan_cases import NAMES, Sizes, arguments, problem, relative
from serpent.errors import MissingExtraError, UsageError
from serpent.model import set_scan_backend
from serpent.scan import selective_scan_2d, selective_scan_2d_mamba
from serpent_export.tracing import fold_for_export

SMALL: dict[str, Any] = {"embed_dim": 8, "num_scales": 2, "depth": 1}


class StandIn:
    """``selective_scan_fn`` with grouped, input-dependent B and C, one token after the other; remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None = None,
        z: Tensor | None = None,
        delta_bias: Tensor | None = None,
        delta_softplus: bool = False,
        return_last_state: bool = False,
    ) -> Tensor:
        tensors = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "delta_bias": delta_bias}
        self.calls.append({**tensors, "z": z, "softplus": delta_softplus, "last": return_last_state})
        assert D is not None
        assert delta_bias is not None
        group = u.shape[1] // B.shape[1]  # channels that share one B and C
        B_d, C_d = (part.to(A.dtype).repeat_interleave(group, dim=1) for part in (B, C))  # (batch, channels, N, L)
        dt = torch.nn.functional.softplus(delta.to(A.dtype) + delta_bias[:, None])
        state = A.new_zeros(*u.shape[:2], A.shape[1])
        steps = []
        for t in range(u.shape[2]):
            drive = (dt[..., t] * u[..., t])[..., None] * B_d[..., t]
            state = torch.exp(dt[..., t, None] * A) * state + drive
            steps.append((state * C_d[..., t]).sum(-1))
        return (torch.stack(steps, dim=-1) + D[:, None] * u).to(u.dtype)


@pytest.fixture
def mamba(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    interface = ModuleType("mamba_ssm.ops.selective_scan_interface")
    vars(interface)["selective_scan_fn"] = stand_in
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    return stand_in


@pytest.fixture
def no_mamba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)  # as if it were not installed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
def test_one_call_with_four_groups(mamba: StandIn, dtype: torch.dtype) -> None:
    inputs = arguments(Sizes(2, 3, 5, 7, 4, 2), dtype)  # B 2, L 15, D 7, N 4
    y = selective_scan_2d_mamba(*inputs)
    (call,) = mamba.calls
    shapes = {name: tuple(call[name].shape) for name in ("u", "delta", "A", "B", "C", "D", "delta_bias")}
    assert shapes == {
        "u": (2, 28, 15),
        "delta": (2, 28, 15),
        "A": (28, 4),
        "B": (2, 4, 4, 15),
        "C": (2, 4, 4, 15),
        "D": (28,),
        "delta_bias": (28,),
    }
    # What its kernel insists on: activations in one type, weights in f32, tokens innermost.
    assert {call[name].dtype for name in ("u", "delta", "B", "C")} == {dtype}
    assert {call[name].dtype for name in ("A", "D", "delta_bias")} == {torch.float32}
    assert all(call[name].stride(-1) == 1 for name in shapes)
    assert (call["z"], call["softplus"], call["last"]) == (None, True, False)
    assert (y.shape, y.dtype, y.is_contiguous()) == (inputs[0].shape, dtype, True)


@pytest.mark.usefixtures("mamba")
@pytest.mark.parametrize("sizes", [Sizes(), Sizes(2, 7, 4, 5, 3, 1), Sizes(1, 1, 9, 3, 2, 2)])
def test_parity_with_the_oracle_and_the_native_scan(sizes: Sizes) -> None:
    inputs, truth, single = problem(sizes, torch.float32)
    limit = 2 * relative(single - truth, truth) + torch.finfo(torch.float32).eps
    y = selective_scan_2d_mamba(*inputs)
    assert relative(y - truth, truth) <= limit
    assert relative(y - selective_scan_2d(*inputs), truth) <= 2 * limit


@pytest.mark.usefixtures("mamba")
def test_gradients_are_those_of_the_native_scan() -> None:
    results = []
    for scan in (selective_scan_2d_mamba, selective_scan_2d):
        leaves = [tensor.clone().requires_grad_() for tensor in arguments(Sizes(2, 3, 5, 7, 4, 2))]
        results.append(torch.autograd.grad(scan(*leaves).square().sum(), leaves))
    for name, ours, native in zip(NAMES, *results, strict=True):
        assert relative(ours - native, native) <= 1e-12, name


def test_the_same_network_runs_on_it(mamba: StandIn, tmp_path: Path) -> None:
    image = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    native = serpent.create_model("L", seed=0, **SMALL)
    path = tmp_path / "small.safetensors"
    serpent.save_model(native, path)
    created = serpent.create_model("L", seed=0, scan_backend="mamba", **SMALL)
    with torch.inference_mode():
        expected = native(image)
        assert not mamba.calls
        for model in (created, serpent.load_model(path, scan_backend="mamba")):
            mamba.calls.clear()
            torch.testing.assert_close(model(image), expected)
            assert len(mamba.calls) == model.config.num_scans
        mamba.calls.clear()
        assert torch.equal(set_scan_backend(created, "native")(image), expected)
    assert not mamba.calls


@pytest.mark.usefixtures("mamba")
def test_checkpoints_and_exports_do_not_know_of_it(tmp_path: Path) -> None:
    paths = [tmp_path / "native.safetensors", tmp_path / "mamba.safetensors"]
    for path, backend in zip(paths, ("native", "mamba"), strict=True):
        serpent.save_model(serpent.create_model("L", seed=0, scan_backend=backend, **SMALL), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    model = serpent.load_model(paths[1], scan_backend="mamba")
    program = torch.export.export(fold_for_export(model, "fp32"), (torch.zeros(1, 3, 16, 24),))
    scans = [node for node in program.graph.nodes if node.target is torch.ops.serpent.selective_scan_2d.default]
    assert len(scans) == model.config.num_scans


@pytest.mark.usefixtures("no_mamba")
def test_without_the_package_the_command_that_installs_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    serpent.save_model(serpent.create_model("L", **SMALL), path)
    for attempt in (
        lambda: serpent.create_model("L", scan_backend="mamba", **SMALL),
        lambda: serpent.load_model(path, scan_backend="mamba"),
        lambda: selective_scan_2d_mamba(*arguments(Sizes(), torch.float32)),
    ):
        with pytest.raises(MissingExtraError, match="the scan backend 'mamba' needs mamba_ssm") as refusal:
            attempt()
        assert refusal.value.hint == "pip install 'serpent-restoration[mamba]'"


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(UsageError, match="unknown scan backend 'triton'; expected native, reference, mamba"):
        serpent.create_model("L", scan_backend="triton", **SMALL)
