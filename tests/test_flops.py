"""The cost of a forward pass: the published table, and what the layers of a real network see."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from serpent.config import SerpentConfig
from serpent.errors import UsageError
from serpent.model import Cost, Serpent, count_flops, create_model
from serpent.model.blocks import SS2D

H = SerpentConfig.from_variant("H")


def macs_by_layer(config: SerpentConfig, height: int, width: int) -> dict[str, int]:
    """Multiply-adds of every linear layer, convolution and dt projection, as a run without arithmetic meets them."""
    counted: dict[str, int] = {}

    def watch(name: str, layer: nn.Module) -> None:
        def count(_: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
            if isinstance(layer, SS2D):  # dt_weight is (K, D, R), applied at every pixel
                counted[name + ".dt"] = math.prod(inputs[0].shape[:3]) * layer.dt_weight.numel()
            elif isinstance(layer, nn.Conv2d):
                counted[name] = output.numel() * layer.weight[0].numel()
            else:
                counted[name] = output.numel() * int(layer.in_features)  # type: ignore[arg-type]

        layer.register_forward_hook(count)

    with FakeTensorMode(), torch.inference_mode():
        model = Serpent(config)
        for name, layer in model.named_modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d, SS2D)):
                watch(name, layer)
        model(torch.empty(1, config.in_channels, height, width))
    return counted


def test_macs_layer_by_layer() -> None:
    # GMAC of H at 512 x 512: the table of architecture.md, section 6.1.
    counted = macs_by_layer(H, 512, 512)

    def giga(*prefixes: str) -> float:
        return sum(macs for name, macs in counted.items() if name.startswith(prefixes)) / 1e9

    rows = {
        "embed": giga("embed"),
        "D1": giga("down.0"),
        "merge1": giga("merge.0"),
        "D2": giga("down.1"),
        "merge2": giga("merge.1"),
        "D3": giga("down.2"),
        "merge3": giga("merge.2"),
        "bottleneck": giga("bottleneck"),
        "U1 expand + mix": giga("expand.2", "mix.2"),
        "U1": giga("up.2"),
        "U2 expand + mix": giga("expand.1", "mix.1"),
        "U2": giga("up.1"),
        "U3 expand + mix": giga("expand.0", "mix.0"),
        "U3": giga("up.0"),
        "head": giga("head"),
    }
    published = [0.025, 9.97, 0.54, 9.68, 0.54, 9.60, 0.54, 9.53, 1.07, 9.60, 1.07, 9.68, 1.07, 9.97, 0.025]
    for (name, found), expected in zip(rows.items(), published, strict=True):
        assert found == pytest.approx(expected, abs=0.005 if expected > 0.1 else 0.0005), name
    assert sum(rows.values()) == pytest.approx(sum(counted.values()) / 1e9)  # no layer was missed


def test_total_of_the_published_table() -> None:
    cost = count_flops(H, 512, 512)
    assert round(cost.macs / 1e9, 2) == 72.92
    assert round(cost.scan_flops / 1e9, 2) == 48.05
    # Section 7, launches times rows * length * N.
    fine = 4 * (256 * 262_144 * 6 + 512 * 65_536 * 11 + 1024 * 16_384 * 22)
    assert cost.exps == fine + 2 * 2048 * 4096 * 43
    assert round(cost.flops / 1e9, 1) == 193.9


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"up_order": "post", "mlp_ratio": 0},
        {"up_order": "post"},
        {"skip": "add"},
        {"mlp_ratio": 2.5},
        {"d_state": "floor"},
        {"d_state": 16},
        {"conv_size": 5},
        {"ssm_expand": 1},
        {"depth": 1},
        {"num_scales": 1},
        {"patch_size": 2},
        {"in_channels": 1},
        {"embed_dim": 10},
    ],
    ids=lambda overrides: "-".join(f"{k}-{v}" for k, v in overrides.items()) or "base",
)
def test_counted_macs_are_those_of_the_layers(overrides: dict[str, Any]) -> None:
    config = SerpentConfig.from_variant("H", **overrides)
    assert count_flops(config, 64, 48).macs == sum(macs_by_layer(config, 64, 48).values())


def test_scan_by_hand() -> None:
    # Two scales' worth of one block: c = 32 on 8 x 8 pixels, twice (down, up), and c = 64 on 4 x 4.
    cost = count_flops(SerpentConfig.from_variant("H", num_scales=1, depth=1), 8, 8)
    fine, coarse = 4 * 64 * 64, 4 * 128 * 16  # directions * channels * pixels
    assert cost.exps == 2 * fine * 6 + coarse * 11
    assert cost.scan_flops == 2 * fine * (9 * 6 + 1) + coarse * (9 * 11 + 1)


def test_cost_is_linear_in_pixels_and_pictures() -> None:
    once = count_flops(H, 64, 64)
    assert count_flops(H, 64, 64, batch=3) == once * 3 == once + once + once
    assert count_flops(H, 128, 64) == once * 2
    assert Cost(1, 2, 3).flops == 4


@pytest.mark.parametrize(("coarse", "fine"), [("B", "L"), ("L", "H")])
def test_a_patch_twice_as_wide_costs_a_quarter(coarse: str, fine: str) -> None:
    def scans(variant: str) -> int:
        return count_flops(create_model(variant).config, 64, 64).scan_flops

    assert 4 * scans(coarse) == scans(fine)


def test_a_size_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="width 12 is no multiple of 8"):
        count_flops(H, 8, 12)
