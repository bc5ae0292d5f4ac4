"""The networks that Serpent is compared with: size, cost, shapes, and the attention of two of them by hand."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from peers.restormer import ChannelAttention, Restormer
from peers.swinir import SHIFT, WINDOW, SwinBlock, SwinIR, from_windows, to_windows, wrapped_pairs
from peers.unet import UNet
from serpent.errors import UsageError

README = Path(__file__).resolve().parents[1] / "benchmarks" / "peers" / "README.md"

# Parameters, the same as published (millions), and 10**9 multiply-adds at 256 x 256: architecture.md, section 1.
TABLE = {
    "peers.unet:unet32": (7_756_739, "7.757", "12.08"),
    "peers.unet:unet32_normalised": (7_756_739, "7.757", "12.08"),
    "peers.unet:unet128": (124_096_259, "124.10", "192.45"),
    "peers.swinir:swinir_b": (3_327_771, "3.328", "241.3"),
    "peers.swinir:swinir_b_shallow": (3_137_427, "3.137", "220.8"),
    "peers.swinir:swinir_l": (11_504_163, "11.504", "800.3"),
    "peers.swinir:swinir_l_shallow": (10_889_283, "10.889", "744.0"),
    "peers.restormer:restormer": (26_126_644, "26.13", "154.9"),
}

# Quick, and of the same structure.
SMALL: dict[str, Callable[[], nn.Module]] = {
    "unet": lambda: UNet(4),
    "unet_normalised": lambda: UNet(4, normalised=True),
    "swinir": lambda: SwinIR(12, depths=(2, 2), mlp_ratio=2),
    "restormer": lambda: Restormer(8, blocks=(1, 1, 1, 1), heads=(1, 2, 2, 4), refinement=1),
}
every_network = pytest.mark.parametrize("name", TABLE)
every_structure = pytest.mark.parametrize("create", [pytest.param(create, id=name) for name, create in SMALL.items()])


def create_by_name(name: str) -> nn.Module:
    module, _, factory = name.partition(":")
    network: nn.Module = getattr(importlib.import_module(module), factory)()
    return network


@functools.cache
def without_arithmetic(name: str) -> nn.Module:
    with torch.device("meta"):
        return create_by_name(name)


def picture(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def seeded(create: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return create()


def as_published(figure: float, published: str) -> str:
    return f"{figure:.{len(published.partition('.')[2])}f}"


# Size and cost


@every_network
def test_parameters(name: str) -> None:
    expected, millions, _ = TABLE[name]
    found = sum(parameter.numel() for parameter in without_arithmetic(name).parameters())
    assert found == expected
    assert as_published(found / 1e6, millions) == millions


@every_network
def test_multiply_adds(name: str) -> None:
    published = TABLE[name][2]
    with FlopCounterMode(display=False) as counter:
        without_arithmetic(name)(torch.empty(1, 3, 256, 256, device="meta"))
    assert as_published(counter.get_total_flops() / 2e9, published) == published


@every_network
def test_readme_row(name: str) -> None:
    parameters, millions, giga = TABLE[name]
    row = next(line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}` |"))
    multiple = without_arithmetic(name).size_multiple
    assert f"| {parameters:,} | {millions} M | {giga} | {multiple} |" in row


# What the trainer relies on


@every_structure
@pytest.mark.parametrize(("high", "wide"), [(1, 1), (1, 2), (3, 2)])
def test_shape_and_dtype(create: Callable[[], nn.Module], high: int, wide: int) -> None:
    network = seeded(create).double()
    image = picture(2, 3, high * network.size_multiple, wide * network.size_multiple, dtype=torch.float64)
    restored = network(image)
    assert (restored.shape, restored.dtype) == (image.shape, image.dtype)
    # Pictures of a batch do not meet.
    torch.testing.assert_close(network(image[1:]), restored[1:])


# U-Net(128) is U-Net(32), with gradients of half a gigabyte.
@pytest.mark.parametrize("name", [name for name in TABLE if name != "peers.unet:unet128"])
def test_gradients_reach_every_parameter(name: str) -> None:
    network = seeded(lambda: create_by_name(name))
    assert type(network.size_multiple) is int
    image = picture(1, 3, network.size_multiple, 2 * network.size_multiple)
    restored = network(image)
    assert restored.shape == image.shape
    (restored - image.flip(-1)).square().mean().backward()
    missed = [key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert missed == []


@every_structure
def test_a_seed_decides_everything(create: Callable[[], nn.Module]) -> None:
    image = picture(1, 3, 32, 64)
    first, again, other = (seeded(create, seed)(image) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_structure
def test_training_is_evaluation(create: Callable[[], nn.Module]) -> None:
    network, image = seeded(create), picture(1, 3, 32, 64)
    assert torch.equal(network.train()(image), network.eval()(image))


@every_structure
@pytest.mark.parametrize(
    ("dtype", "brightness"),
    [(torch.float16, 1.0), (torch.float16, 0.0), (torch.bfloat16, 1.0)],
    ids=["fp16", "fp16-black", "bf16"],
)
def test_autocast(create: Callable[[], nn.Module], dtype: torch.dtype, brightness: float) -> None:
    network, image = seeded(create), brightness * picture(1, 3, 32, 64)
    with torch.autocast("cpu", dtype):
        restored = network(image)
    assert restored.dtype == image.dtype
    assert restored.isfinite().all()
    restored.square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    # A rounding to 16 bits moves a result by about eps; the layers add up to some of them.
    exact = network.double()(image.double())
    bound = 32 * torch.finfo(dtype).eps * exact.abs().max()
    assert (restored - exact).abs().max() <= bound


@every_structure
def test_export(create: Callable[[], nn.Module]) -> None:
    network, image = seeded(create).eval(), picture(1, 3, 32, 64)
    program = torch.export.export(network, (image,))
    torch.testing.assert_close(program.module()(image), network(image))


@pytest.mark.parametrize(("structure", "residual"), [("unet", False), ("swinir", True), ("restormer", True)])
def test_global_residual(structure: str, residual: bool) -> None:
    network, image = SMALL[structure](), picture(1, 3, 32, 32)
    for parameter in network.head.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(network(image), image if residual else torch.zeros_like(image))


@every_structure
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 36, 32), r"height 36 is no positive multiple of \d+\n.*for example to (40|64) pixels"),
        ((1, 3, 32, 0), "width 0 is no positive multiple"),
        ((1, 4, 32, 32), r"shape \(1, 4, 32, 32\); expected \(B, 3, H, W\)"),
        ((3, 32, 32), "expected"),
    ],
    ids=["height", "empty", "channels", "rank"],
)
def test_a_picture_that_does_not_fit(create: Callable[[], nn.Module], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create()(torch.zeros(shape))


def test_unet_layers() -> None:
    # What neither the number of parameters nor that of multiply-adds shows.
    layers = list(SMALL["unet"]().modules())
    assert [layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)] == [0.2] * 22
    assert [layer.track_running_stats for layer in layers if isinstance(layer, nn.InstanceNorm2d)] == [False] * 22


def test_unet_is_told_brightness_and_contrast() -> None:
    network, image = seeded(SMALL["unet_normalised"]).double(), picture(1, 3, 32, 64, dtype=torch.float64)
    gain, offset = torch.tensor([2.0, 0.5, 1.0]).reshape(3, 1, 1), torch.tensor([0.0, 0.3, -0.2]).reshape(3, 1, 1)
    # But for the millionth that keeps the deviation of a constant channel above zero.
    torch.testing.assert_close(network(gain * image + offset), gain * network(image) + offset, rtol=1e-4, atol=1e-4)
    constant = torch.full((1, 3, 32, 32), 0.5, dtype=torch.float64)
    torch.testing.assert_close(network(constant), constant, rtol=0, atol=1e-4)


def test_unet_pools_by_means() -> None:
    network, seen = SMALL["unet"](), {}
    network.down[0].register_forward_hook(lambda *call: seen.update(fine=call[2]))
    network.down[1].register_forward_pre_hook(lambda *call: seen.update(coarse=call[1][0]))
    network(picture(1, 3, 32, 64))
    means = seen["fine"].reshape(1, 4, 16, 2, 32, 2).mean(dim=(3, 5))
    torch.testing.assert_close(seen["coarse"], means)


# SwinIR's windows


def window_numbers(height: int, width: int, *, shifted: bool) -> Tensor:
    """(H * W): pixels of equal number see each other. A shifted grid of windows is cut off at the picture's border."""
    shift = SHIFT if shifted else 0
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (1000 * ((rows + shift) // WINDOW) + (columns + shift) // WINDOW).flatten()


def swin_block(*, shifted: bool) -> SwinBlock:
    torch.manual_seed(0)
    block = SwinBlock(6, heads=2, mlp_ratio=2, shifted=shifted).double()
    nn.init.normal_(block.attention.bias)
    return block


def attention_by_hand(block: SwinBlock, x: Tensor) -> Tensor:
    """x + attention(LN(x)) of one picture (H, W, C): each pixel by itself, without windows, rolls or masks."""
    height, width, channels = x.shape
    attention, heads = block.attention, block.attention.heads
    q, k, v = attention.qkv(block.norm(x)).reshape(height * width, 3, heads, -1).unbind(1)
    numbers = window_numbers(height, width, shifted=block.shifted)
    mixed = torch.empty_like(q)
    for pixel in range(height * width):
        seen = (numbers == numbers[pixel]).nonzero()[:, 0]
        down, right = pixel // width - seen // width, pixel % width - seen % width
        bias = attention.bias.reshape(2 * WINDOW - 1, 2 * WINDOW - 1, heads)[down + WINDOW - 1, right + WINDOW - 1]
        for head in range(heads):
            scores = k[seen, head] @ q[pixel, head] / (channels // heads) ** 0.5 + bias[:, head]
            mixed[pixel, head] = scores.softmax(0) @ v[seen, head]
    return x + attention.proj(mixed.reshape(x.shape))


@pytest.mark.parametrize("shifted", [False, True], ids=["plain", "shifted"])
def test_window_attention_by_hand(shifted: bool) -> None:
    block, x = swin_block(shifted=shifted), picture(2, 16, 24, 6, dtype=torch.float64)
    for parameter in block.mlp[-1].parameters():
        nn.init.zeros_(parameter)
    with torch.inference_mode():
        expected = torch.stack([attention_by_hand(block, one) for one in x])
        torch.testing.assert_close(block(x, wrapped_pairs(16, 24, x.device)), expected)


@pytest.mark.parametrize("shifted", [False, True], ids=["plain", "shifted"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 8), (16, 16)])
def test_a_pixel_reaches_its_window_and_nothing_else(shifted: bool, height: int, width: int) -> None:
    block, forbidden = swin_block(shifted=shifted), wrapped_pairs(height, width, torch.device("cpu"))

    def pixels(x: Tensor) -> Tensor:
        mixed: Tensor = block(x.reshape(1, height, width, 6), forbidden).sum(dim=-1).flatten()
        return mixed

    slopes = torch.autograd.functional.jacobian(pixels, picture(height * width, 6, dtype=torch.float64))
    numbers = window_numbers(height, width, shifted=shifted)
    assert torch.equal(slopes.any(dim=-1), numbers[:, None] == numbers[None, :])


def test_every_second_block_is_shifted() -> None:
    groups = [[block.shifted for block in group.blocks] for group in without_arithmetic("peers.swinir:swinir_b").groups]
    assert groups == [[False, True] * 3] * 6


def test_windows_are_cut_and_joined() -> None:
    x = picture(2, 16, 24, 3)
    windows = to_windows(x)
    assert torch.equal(windows[1, 4].reshape(WINDOW, WINDOW, 3), x[1, 8:16, 8:16])
    assert torch.equal(from_windows(windows, 16, 24), x)


# Restormer's attention


def test_channel_attention_by_hand() -> None:
    torch.manual_seed(0)
    attention, x = ChannelAttention(8, heads=2).double(), picture(1, 8, 6, 5, dtype=torch.float64)
    nn.init.uniform_(attention.temperature, 1, 9)
    with torch.inference_mode():
        maps = attention.qkv(x)[0]
        mixed = torch.empty(8, 6, 5, dtype=x.dtype)
        for channel in range(8):
            head = channel // 4
            others = range(4 * head, 4 * head + 4)
            cosines = [
                nn.functional.cosine_similarity(maps[channel].flatten(), maps[8 + other].flatten(), dim=0)
                for other in others
            ]
            weights = (attention.temperature[head, 0, 0] * torch.stack(cosines)).softmax(0)
            mixed[channel] = sum(weight * maps[16 + other] for weight, other in zip(weights, others, strict=True))
        torch.testing.assert_close(attention(x), attention.proj(mixed[None]))
