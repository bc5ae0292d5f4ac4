"""What the scan operator refuses, how it stores 16 bits, and what PyTorch's tracing sees of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from scan_cases import NAMES, Arguments, Sizes, arguments
from serpent.errors import ArgumentError
from serpent.scan import selective_scan_2d, selective_scan_2d_backward, selective_scan_2d_reference

BASE = Sizes()  # x (1, 5, 9, 16), x_dbl (1, 5, 9, 56), N = 6, R = 2
HALF = torch.float16

WRONG = [
    ("x", lambda t: t[0], r"x has shape \(5, 9, 16\); expected rank 4"),
    ("A", lambda t: t[0], r"A has shape \(16, 6\); expected rank 3"),
    ("dt_weight", lambda t: t[0], r"dt_weight has shape \(16, 2\); expected rank 3"),
    ("x", lambda t: t[..., :15], r"dt_weight has shape \(4, 16, 2\); expected \(4, 15, 2\) beside x \(1, 5, 9, 15\)"),
    ("x_dbl", lambda t: t[..., :55], r"x_dbl has shape \(1, 5, 9, 55\); expected \(1, 5, 9, 56\)"),
    ("x_dbl", lambda t: t[0], r"x_dbl has shape \(5, 9, 56\); expected \(1, 5, 9, 56\)"),
    ("dt_weight", lambda t: t[:3], r"dt_weight has shape \(3, 16, 2\); expected \(4, 16, 2\)"),
    ("dt_bias", lambda t: t[:, :15], r"dt_bias has shape \(4, 15\); expected \(4, 16\)"),
    ("dt_bias", lambda t: t[0], r"dt_bias has shape \(16,\); expected \(4, 16\)"),
    ("A", lambda t: t[:, :1], r"A has shape \(4, 1, 6\); expected \(4, 16, 6\)"),
    ("D_skip", lambda t: t[:1], r"D_skip has shape \(1, 16\); expected \(4, 16\)"),
    ("x", lambda t: t.int(), r"x has dtype torch.int32; expected one of torch.float32, .*torch.bfloat16"),
    ("x", lambda t: t.half(), r"x_dbl has dtype torch.float32; expected torch.float16 beside x in torch.float16"),
    ("x", lambda t: t.double(), r"x_dbl has dtype torch.float32; expected torch.float64"),
    ("x_dbl", lambda t: t.bfloat16(), r"x_dbl has dtype torch.bfloat16; expected torch.float32"),
    ("dt_weight", lambda t: t.half(), r"dt_weight has dtype torch.float16; expected torch.float32"),
    ("dt_bias", lambda t: t.double(), r"dt_bias has dtype torch.float64; expected torch.float32"),
    ("A", lambda t: t.double(), r"A has dtype torch.float64; expected torch.float32"),
    ("D_skip", lambda t: t.bfloat16(), r"D_skip has dtype torch.bfloat16; expected torch.float32"),
    ("A", lambda t: t.to("meta"), r"A is on meta; expected cpu, where x is"),
]


@pytest.mark.parametrize("scan", [selective_scan_2d, selective_scan_2d_reference], ids=["operator", "oracle"])
@pytest.mark.parametrize(("name", "spoil", "message"), WRONG, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(WRONG)])
def test_wrong_arguments_are_named(
    scan: Callable[..., Tensor], name: str, spoil: Callable[[Tensor], Tensor], message: str
) -> None:
    inputs = dict(zip(NAMES, arguments(BASE, torch.float32), strict=True))
    inputs[name] = spoil(inputs[name])
    with pytest.raises(ArgumentError, match=message) as refusal:
        scan(*inputs.values())
    assert isinstance(refusal.value, ValueError)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spread", ["every other", "transposed", "expanded"])
def test_strides_are_refused_by_the_operator_and_read_by_the_oracle(name: str, spread: str) -> None:
    inputs = dict(zip(NAMES, arguments(dataclasses.replace(BASE, batch=2), torch.float32), strict=True))
    tensor = inputs[name]
    strided = {
        "every other": torch.stack([tensor, torch.full_like(tensor, 9)], dim=-1)[..., 0],
        "transposed": tensor.transpose(0, 1).contiguous().transpose(0, 1),
        "expanded": tensor[:1].expand_as(tensor),
    }[spread]
    assert not strided.is_contiguous()
    inputs[name] = strided
    strides = re.escape(str(strided.stride()))
    message = rf"^{name} of shape .* has strides {strides}; expected a contiguous tensor\n  pass {name}.contiguous\(\)"
    with pytest.raises(ArgumentError, match=message):
        selective_scan_2d(*inputs.values())
    y = selective_scan_2d_reference(*inputs.values())
    inputs[name] = strided.contiguous()
    assert torch.equal(y, selective_scan_2d_reference(*inputs.values()))


def test_an_offset_into_a_storage_is_no_stride() -> None:
    x, *rest = arguments(dataclasses.replace(BASE, batch=3), torch.float32)
    x_dbl, *weights = rest
    y = selective_scan_2d(x[1:], x_dbl[1:], *weights)
    assert torch.equal(y, selective_scan_2d(x, x_dbl, *weights)[1:])


def test_other_layouts_are_refused() -> None:
    x, *rest = arguments(BASE, torch.float32)
    with pytest.raises(ArgumentError, match=r"x has layout torch.sparse_coo; expected torch.strided"):
        selective_scan_2d(x.to_sparse(), *rest)


def test_a_device_without_a_kernel_is_named() -> None:
    inputs = arguments(BASE, torch.float32)
    with FakeTensorMode(), pytest.raises(ArgumentError, match="x is on xpu:0; the native scan runs on cpu and cuda"):
        selective_scan_2d(*(torch.empty(tensor.shape, dtype=tensor.dtype, device="xpu") for tensor in inputs))


def test_meta_tensors_give_the_shape() -> None:
    y = selective_scan_2d(*(tensor.to("meta") for tensor in arguments(BASE, torch.bfloat16)))
    assert (y.shape, y.dtype, y.device.type) == ((1, 5, 9, 16), torch.bfloat16, "meta")


def test_tracing_refuses_what_running_refuses() -> None:
    inputs = arguments(BASE, torch.float32)
    with FakeTensorMode() as mode:
        x, x_dbl, dt_weight, dt_bias, A, D_skip = (mode.from_tensor(tensor) for tensor in inputs)
        with pytest.raises(ValueError, match=r"dt_bias has shape \(4, 15\); expected \(4, 16\)"):
            selective_scan_2d(x, x_dbl, dt_weight, dt_bias[:, :15], A, D_skip)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("height", 0, "height is 0; expected >= 1"),
        ("width", 0, "width is 0; expected >= 1"),
        ("channels", 0, "channels is 0; expected >= 1"),
        ("d_state", 0, "d_state is 0; expected >= 1 and <= 256"),
        ("d_state", 257, "d_state is 257; expected >= 1 and <= 256"),
        ("dt_rank", 0, "dt_rank is 0; expected >= 1 and <= 256"),
        ("dt_rank", 257, "dt_rank is 257; expected >= 1 and <= 256"),
    ],
)
def test_sizes_out_of_range_are_named(field: str, value: int, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        selective_scan_2d(*arguments_with_ones(dataclasses.replace(BASE, **{field: value})))


def arguments_with_ones(sizes: Sizes) -> Arguments:
    """Arguments of any size, 0 included."""
    d, n, r = sizes.channels, sizes.d_state, sizes.dt_rank
    picture = (sizes.batch, sizes.height, sizes.width)
    weights = (torch.ones(4, d, r), torch.ones(4, d), -torch.ones(4, d, n), torch.ones(4, d))
    return torch.ones(*picture, d), torch.ones(*picture, 4 * (r + 2 * n)), *weights


def stored(values: Tensor, skip: Tensor, dtype: torch.dtype) -> Tensor:
    """y of one pixel whose channels hold ``values``, state switched off, so that y = skip * value in f32, stored."""
    channels = values.numel()
    weights = torch.zeros(4, channels)
    x_dbl = torch.zeros(1, 1, 1, 12, dtype=dtype)
    skips = torch.zeros(4, channels)
    skips[0] = skip
    y: Tensor = selective_scan_2d(
        values.reshape(1, 1, 1, -1), x_dbl, weights[..., None], weights, weights[..., None] - 1, skips
    )
    return y.flatten()


ISAS = pytest.mark.parametrize("isa", ["default", "portable"])


@ISAS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["f16", "bf16"])
def test_every_16_bit_number_is_read_and_written_unchanged(
    dtype: torch.dtype, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(isa, monkeypatch)
    values = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    values = values[values.isfinite()]
    assert values.numel() > 63_000
    assert torch.equal(stored(values, torch.ones(values.numel()), dtype), values)


@ISAS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["f16", "bf16"])
def test_16_bit_results_are_rounded_to_nearest_even(
    dtype: torch.dtype, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(isa, monkeypatch)
    generator = torch.Generator().manual_seed(0)
    exponents = torch.empty(40_000).uniform_(-28, 17, generator=generator)
    spread = torch.randn(40_000, generator=generator).sign() * torch.exp2(exponents)
    ties = torch.arange(1, 4096) * 2.0**-14  # exact halves between neighbours among them, for both types
    subnormal = torch.arange(1, 4096) * 2.0**-26
    edges = torch.tensor([65503.99, 65504.0, 65519.99, 65520.0, 65536.0, 3.3895e38, 3.4e38, 2.0**-25, 2.0**-24])
    wanted = torch.cat([spread, ties, subnormal, edges])
    result = stored(torch.ones(wanted.numel(), dtype=dtype), wanted, dtype)
    assert torch.equal(result, wanted.to(dtype))


def choose(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if isa == "default":
        monkeypatch.delenv("SERPENT_ISA", raising=False)
    else:
        monkeypatch.setenv("SERPENT_ISA", isa)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, HALF, torch.bfloat16])
def test_pytorch_accepts_the_operators(dtype: torch.dtype) -> None:
    inputs = arguments(BASE, dtype)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    passed = dict.fromkeys(checks, "SUCCESS")
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    assert torch.library.opcheck(selective_scan_2d, leaves) == passed
    assert torch.library.opcheck(selective_scan_2d, inputs) == passed
    # There is no second derivative, so the inputs of the backward operator require none.
    assert torch.library.opcheck(selective_scan_2d_backward, (torch.ones_like(inputs[0]), *inputs)) == passed


class OneScan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        _, _, *weights = arguments(BASE, torch.float32)
        self.weights = nn.ParameterList(weights)

    def forward(self, x: Tensor, x_dbl: Tensor) -> Tensor:
        y: Tensor = torch.ops.serpent.selective_scan_2d(x, x_dbl, *self.weights)
        return 2 * y


def test_export_keeps_the_operator_whole_and_sizes_free() -> None:
    x, x_dbl, *_ = arguments(BASE, torch.float32)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("height"), 2: torch.export.Dim("width")}
    with torch.no_grad():
        program = torch.export.export(
            OneScan(), (x.repeat(2, 1, 1, 1), x_dbl.repeat(2, 1, 1, 1)), dynamic_shapes=(sizes, sizes)
        )
        other = arguments(dataclasses.replace(BASE, batch=3, height=4, width=7), torch.float32)[:2]
        assert torch.equal(program.module()(*other), OneScan()(*other))
    calls = [node for node in program.graph.nodes if "selective_scan_2d" in str(node.target)]
    assert [str(node.target) for node in calls] == ["serpent.selective_scan_2d.default"]
