"""The network: size layer by layer, shapes, what each field of the configuration changes, order of pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scan_cases import brute_force
from serpent.config import SerpentConfig
from serpent.errors import UsageError
from serpent.model import Serpent, create_model, set_precision, set_scan_backend, weights_digest
from serpent.model import blocks as blocks_module
from serpent.model.blocks import SS2D, Merge, unfold_pixels

SMALL: dict[str, Any] = {"embed_dim": 8, "num_scales": 2, "depth": 1}  # quick, and of the same structure
SCAN_PARAMETERS = ("dt_weight", "dt_bias", "A_log", "D_skip")


def size(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def run(model: Serpent, image: Tensor) -> Tensor:
    with torch.inference_mode():
        restored: Tensor = model(image)
    return restored


def picture(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("variant", "overrides", "expected"),
    [
        pytest.param("B", {}, 4_603_152, id="B"),
        pytest.param("L", {}, 4_600_812, id="L"),
        pytest.param("H", {}, 4_600_227, id="H"),
        pytest.param("H", {"up_order": "post", "mlp_ratio": 0}, 4_294_819, id="K2"),
    ],
)
def test_parameter_count(variant: str, overrides: dict[str, Any], expected: int) -> None:
    assert size(create_model(variant, **overrides)) == expected


@pytest.mark.parametrize("residual", [False, True])
def test_the_result_is_contiguous(residual: bool) -> None:
    image = picture(2, 3, 16, 32)
    assert run(create_model("B", **{**SMALL, "num_scales": 1}, global_residual=residual), image).is_contiguous()


def test_parameters_layer_by_layer() -> None:
    # The table of architecture.md, section 6.1.
    m = create_model("H")
    rows = {
        "embed + LN": (size(m.embed, m.embed_norm), 192),
        "D1": (size(m.down[0]), 43_072),
        "merge1": (size(m.merge[0]), 8_448),
        "D2": (size(m.down[1]), 162_944),
        "merge2": (size(m.merge[1]), 33_280),
        "D3": (size(m.down[2]), 639_232),
        "merge3, LN": (size(m.merge[2], m.bottleneck_norm), 132_608),
        "bottleneck": (size(m.bottleneck), 2_519_552),
        "U1 expand + mix": (size(m.expand[2], m.mix[2]), 164_096),
        "U1": (size(m.up[2]), 639_232),
        "U2 expand + mix": (size(m.expand[1], m.mix[1]), 41_088),
        "U2": (size(m.up[1]), 162_944),
        "U3 expand + mix": (size(m.expand[0], m.mix[0]), 10_304),
        "U3": (size(m.up[0]), 43_072),
        "LN, head": (size(m.head_norm, m.head), 163),
    }
    assert {name: counted for name, (counted, _) in rows.items()} == {name: known for name, (_, known) in rows.items()}
    assert sum(known for _, known in rows.values()) == size(m)


@pytest.mark.parametrize(
    ("channels", "scan", "no_mlp", "total"),
    [
        (32, 6144, 13_120, 21_536),
        (64, 22_016, 48_256, 81_472),
        (128, 86_016, 187_648, 319_616),
        (256, 333_824, 733_696, 1_259_776),
    ],
)
def test_parameters_of_one_block(channels: int, scan: int, no_mlp: int, total: int) -> None:
    # Last table of section 6.1; `scan` is its columns x_proj, dt_proj w+b, A_log and D.
    block = blocks_module.VSSBlock(channels, SerpentConfig.from_variant("H"))
    assert sum(getattr(block.ssm, name).numel() for name in SCAN_PARAMETERS) + size(block.ssm.x_proj) == scan
    assert (size(block.norm, block.ssm), size(block)) == (no_mlp, total)


@pytest.mark.parametrize("shape", [(1, 3, 32, 64), (2, 3, 64, 32)])
@pytest.mark.parametrize("variant", ["B", "L", "H"])
def test_a_picture_keeps_its_shape(variant: str, shape: tuple[int, ...]) -> None:
    image = picture(*shape)
    restored = run(create_model(variant, seed=0, **SMALL), image)
    assert restored.shape == shape
    assert restored.isfinite().all()
    assert (restored - image).abs().max() > 1e-3


@pytest.mark.parametrize(("variant", "side"), [("B", 32), ("L", 16), ("H", 8)])
def test_the_published_variants_run_at_their_smallest_size(variant: str, side: int) -> None:
    restored = run(create_model(variant, seed=0), picture(1, 3, side, 2 * side))
    assert restored.shape == (1, 3, side, 2 * side)
    assert restored.isfinite().all()


def test_pictures_of_a_batch_do_not_meet() -> None:
    model = set_precision(create_model("L", seed=0, **SMALL), "fp64")
    images = picture(2, 3, 16, 24).double()
    alone = torch.cat([run(model, images[:1]), run(model, images[1:])])
    torch.testing.assert_close(run(model, images), alone, rtol=0, atol=1e-12)


def ssm(model: Serpent) -> SS2D:
    return next(module for module in model.modules() if isinstance(module, SS2D))


@pytest.mark.parametrize(
    ("overrides", "what", "usual", "changed"),
    [
        ({"embed_dim": 16}, lambda m: m.head.in_features, 8, 16),
        (
            {"num_scales": 1},
            lambda m: (len(m.down), len(m.up), *m.bottleneck_norm.weight.shape),
            (2, 2, 32),
            (1, 1, 16),
        ),
        ({"depth": 3}, lambda m: {len(stack) for stack in [*m.down, m.bottleneck, *m.up]}, {1}, {3}),
        ({"ssm_expand": 1}, lambda m: ssm(m).out_proj.in_features, 16, 8),
        ({"conv_size": 5}, lambda m: ssm(m).conv.weight.shape[-1], 3, 5),
        ({"d_state": "floor"}, lambda m: ssm(m).A_log.shape, (4, 16, 2), (4, 16, 1)),
        ({"d_state": 16}, lambda m: m.bottleneck[0].ssm.A_log.shape, (4, 64, 6), (4, 64, 16)),
        ({"mlp_ratio": 2.5}, lambda m: m.down[0][0].mlp[1].out_features, 32, 20),
        ({"mlp_ratio": 0}, lambda m: m.down[0][0].mlp is None, False, True),
        ({"up_order": "post"}, lambda m: [s[0].norm.normalized_shape for s in m.up], [(8,), (16,)], [(16,), (32,)]),
        ({"skip": "add"}, lambda m: m.mix[0].proj is None, False, True),
        ({"in_channels": 1}, lambda m: (m.embed.in_channels, m.head.out_features), (3, 12), (1, 4)),
        ({"patch_size": 4}, lambda m: (m.embed.kernel_size, m.embed.stride), ((2, 2), (2, 2)), ((4, 4), (4, 4))),
    ],
    ids=lambda value: "-".join(f"{k}-{v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_each_field_changes_its_layer_and_the_network_still_runs(
    overrides: dict[str, Any], what: Any, usual: Any, changed: Any
) -> None:
    model = create_model("L", seed=0, **{**SMALL, **overrides})
    assert what(create_model("L", **SMALL)) == usual
    assert what(model) == changed
    shape = (1, model.config.in_channels, model.config.size_multiple, 2 * model.config.size_multiple)
    assert run(model, picture(*shape)).shape == shape


def test_global_residual_adds_the_input() -> None:
    image = picture(1, 3, 16, 24)
    with_input = run(create_model("L", seed=0, **SMALL), image)
    without = run(create_model("L", seed=0, global_residual=False, **SMALL), image)
    torch.testing.assert_close(with_input - without, image, rtol=0, atol=1e-6)
    assert without.abs().max() > 1e-3


def test_the_compiler_takes_the_network_in_one_graph() -> None:
    model = create_model("L", seed=0, **SMALL)
    image = picture(1, 3, 16, 24)
    assert torch.equal(torch.compile(model, fullgraph=True, backend="aot_eager")(image), model(image))


@pytest.mark.parametrize("up_order", ["pre", "post"])
def test_the_layers_are_joined_as_a_u(up_order: str) -> None:
    m = create_model("L", seed=0, up_order=up_order, **SMALL)
    image = picture(1, 3, 16, 24)
    with torch.inference_mode():
        skip0 = m.down[0](m.embed_norm(m.embed(image).permute(0, 2, 3, 1)))
        skip1 = m.down[1](m.merge[0](skip0))
        x = m.bottleneck(m.bottleneck_norm(m.merge[1](skip1)))
        if up_order == "pre":
            x = m.up[1](m.mix[1](m.expand[1](x), skip1))
            x = m.up[0](m.mix[0](m.expand[0](x), skip0))
        else:
            x = m.mix[1](m.expand[1](m.up[1](x)), skip1)
            x = m.mix[0](m.expand[0](m.up[0](x)), skip0)
        correction = unfold_pixels(m.head(m.head_norm(x)), 2).permute(0, 3, 1, 2)
    assert torch.equal(run(m, image), image + correction)


@pytest.mark.parametrize("skip", ["catlin", "add"])
def test_the_decoder_stands_before_the_skip(skip: str) -> None:
    mix = blocks_module.SkipMix(8, SerpentConfig.from_variant("B", skip=skip))
    x, other = picture(2, 4, 6, 8).chunk(2)
    with torch.inference_mode():
        joined = x + other if mix.proj is None else torch.cat([x, other], dim=-1) @ mix.proj.weight.T
        torch.testing.assert_close(mix(x, other), nn.functional.layer_norm(joined, (8,)), rtol=0, atol=1e-5)


def test_merge_takes_the_pixels_of_a_cell_column_by_column() -> None:
    merge = Merge(3)
    merge.norm = merge.proj = nn.Identity()  # type: ignore[assignment]
    x = picture(2, 4, 6, 3)
    corners = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
    assert torch.equal(merge(x), torch.cat(corners, dim=-1))


def test_unfold_pixels_by_hand() -> None:
    # One row of two cells; in a cell (row, column, c) with two channels c: 0 1 | 2 3 above 4 5 | 6 7.
    cells = torch.arange(16.0).reshape(1, 1, 2, 8)
    expected = [[[0, 1], [2, 3], [8, 9], [10, 11]], [[4, 5], [6, 7], [12, 13], [14, 15]]]
    assert unfold_pixels(cells, 2)[0].tolist() == expected
    assert torch.equal(unfold_pixels(cells, 1), cells)


def test_ss2d_scans_with_the_weights_of_each_direction() -> None:
    # The same block as nested loops, in f64: x_proj's rows lie per direction as dt_r, B, C.
    torch.manual_seed(0)
    block = SS2D(4, SerpentConfig.from_variant("B", d_state=3)).double()
    seen: list[tuple[Tensor, ...]] = []
    block.x_proj.register_forward_hook(lambda _, inputs, output: seen.append((*inputs, output)))
    x = picture(1, 3, 5, 4).double()
    with torch.no_grad():
        y = block(x)
        ((u, x_dbl),) = seen
        scanned = brute_force((u, x_dbl, block.dt_weight, block.dt_bias, -block.A_log.exp(), block.D_skip))
        gate = nn.functional.silu(block.in_proj(x)[..., 8:])
        expected = block.out_proj(block.out_norm(torch.from_numpy(scanned)) * gate)
        features = block.conv(block.in_proj(x)[..., :8].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(u, nn.functional.silu(features), rtol=0, atol=1e-12)


def test_native_scan_and_oracle_give_the_same_network() -> None:
    model = set_precision(create_model("L", seed=0, **SMALL), "fp64")
    image = picture(1, 3, 16, 24).double()
    native = run(model, image)
    reference = run(set_scan_backend(model, "reference"), image)
    torch.testing.assert_close(reference, native, rtol=0, atol=1e-12)
    assert not torch.equal(reference, native)  # else the same code ran twice


def test_a_seed_fixes_the_weights_and_touches_no_other_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    def seed_of_a_gpu(seed: int) -> None:
        raise AssertionError(f"the GPU's generator was set to {seed}")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seed_of_a_gpu)
    before = torch.random.get_rng_state()
    digests = [weights_digest(create_model("B", seed=seed, **SMALL)) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert digests[0] == digests[1] != digests[2]
    assert weights_digest(create_model("B", **SMALL)) != weights_digest(create_model("B", **SMALL))


def test_fresh_step_sizes_and_decay_rates_are_mambas() -> None:
    scan = ssm(create_model("B", seed=0))
    dt = nn.functional.softplus(scan.dt_bias.double())
    assert 1e-3 * (1 - 1e-3) <= dt.min() < 2e-3
    assert 5e-2 < dt.max() <= 1e-1 * (1 + 1e-3)
    torch.testing.assert_close(scan.decay_rates(), -torch.arange(1.0, 7.0).expand(4, 64, 6))
    assert not create_model("B", seed=0).training


@pytest.mark.parametrize(
    ("precision", "network", "scan"),
    [
        ("fp32", torch.float32, torch.float32),
        ("fp64", torch.float64, torch.float64),
        ("fp16", torch.float16, torch.float32),
        ("bf16", torch.bfloat16, torch.float32),
    ],
)
def test_precision(precision: str, network: torch.dtype, scan: torch.dtype) -> None:
    image = picture(1, 3, 16, 24)
    exact = run(set_precision(create_model("L", seed=0, **SMALL), "fp64"), image.double())
    model = create_model("L", seed=0, **SMALL)
    assert set_precision(model, precision) is model
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    expected = {name: scan if name.endswith(SCAN_PARAMETERS) else network for name in dtypes}
    assert dtypes == expected
    assert sum(name.endswith(SCAN_PARAMETERS) for name in dtypes) == 4 * model.config.num_scans
    for border in (torch.float32, torch.float64):
        restored = run(model, image.to(border))
        assert restored.dtype == border
        # About one rounding per layer, of random signs; a lost layer or a cast too many shows as far more or less.
        error = float((restored - exact).norm() / (exact - image).norm())
        assert error <= len(dtypes) ** 0.5 * torch.finfo(network).eps + torch.finfo(border).eps
        assert precision == "fp64" or error > 0.01 * torch.finfo(network).eps
    assert {parameter.dtype for parameter in set_precision(model, "fp32").parameters()} == {torch.float32}


def test_an_unknown_variant_or_field_is_named() -> None:
    with pytest.raises(UsageError, match="unknown variant 'Z'"):
        create_model("Z")
    with pytest.raises(UsageError, match="unknown configuration field width"):
        create_model("B", width=3)
