"""The configuration: published variants, validation, and the image-size rule."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from serpent.config import PATCH_SIZES, SerpentConfig
from serpent.errors import UsageError

H = SerpentConfig.from_variant("H")


@pytest.mark.parametrize(
    ("variant", "patch_size", "multiple", "residual"), [("B", 4, 32, False), ("L", 2, 16, True), ("H", 1, 8, True)]
)
def test_published_variants(variant: str, patch_size: int, multiple: int, residual: bool) -> None:
    config = SerpentConfig.from_variant(variant)
    assert config.to_dict() == {
        "patch_size": patch_size,
        "variant": variant,
        "embed_dim": 32,
        "num_scales": 3,
        "depth": 2,
        "ssm_expand": 2,
        "conv_size": 3,
        "d_state": "ceil",
        "mlp_ratio": 4.0,
        "up_order": "pre",
        "skip": "catlin",
        "global_residual": residual,
        "in_channels": 3,
    }
    assert (config.size_multiple, config.num_scans) == (multiple, 14)
    assert SerpentConfig.from_variant(variant.lower()) == config


# architecture.md, section 6: c, N (ceil, floor), R.
@pytest.mark.parametrize(
    ("channels", "ceil", "floor", "rank"), [(32, 6, 5, 2), (64, 11, 10, 4), (128, 22, 21, 8), (256, 43, 42, 16)]
)
def test_sizes_of_the_scan_follow_from_the_channels(channels: int, ceil: int, floor: int, rank: int) -> None:
    assert H.state_size(channels) == ceil
    assert dataclasses.replace(H, d_state="floor").state_size(channels) == floor
    assert dataclasses.replace(H, d_state=16).state_size(channels) == 16
    assert H.dt_rank(channels) == rank


def test_a_few_channels_still_have_one_state() -> None:
    assert dataclasses.replace(H, d_state="floor").state_size(4) == 1
    assert H.state_size(4) == 1
    assert H.dt_rank(4) == 1


def test_channels_double_at_each_scale() -> None:
    assert [H.channels(scale) for scale in range(4)] == [32, 64, 128, 256]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [({"num_scales": 2}, (4, 10)), ({"depth": 1}, (8, 7)), ({"patch_size": 3}, (24, 14)), ({"num_scales": 1}, (2, 6))],
)
def test_scans_and_size_multiple_follow_from_the_structure(
    overrides: dict[str, Any], expected: tuple[int, int]
) -> None:
    config = dataclasses.replace(H, **overrides)
    assert (config.size_multiple, config.num_scans) == expected


COUNTS = ("patch_size", "embed_dim", "num_scales", "depth", "ssm_expand", "conv_size", "in_channels")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        *((field, value, "an integer >= 1") for field in COUNTS for value in (0, -2, 2.0, "2", True, None)),
        ("embed_dim", 33, "an even integer"),
        ("conv_size", 4, "an odd integer"),
        *(("d_state", value, "'ceil', 'floor' or an integer >= 1") for value in (0, -1, 2.5, "round", True, None, [6])),
        *(
            ("mlp_ratio", value, "a finite number >= 0")
            for value in (-0.5, float("nan"), float("inf"), "4", True, None)
        ),
        *(("up_order", value, "'pre' or 'post'") for value in ("both", "", None, 1)),
        *(("skip", value, "'catlin' or 'add'") for value in ("cat", "", None, 1)),
        *(("global_residual", value, "a boolean") for value in (1, "yes", None)),
        *(("variant", value, "a non-empty string") for value in ("", None, 1)),
    ],
)
def test_a_bad_field_is_named_with_its_value(field: str, value: Any, expected: str) -> None:
    with pytest.raises(UsageError) as refusal:
        SerpentConfig(**{"patch_size": 1, field: value})
    assert refusal.value.message == f"SerpentConfig.{field} is {value!r}; expected {expected}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, 1) for field in COUNTS if field != "embed_dim"),
        ("embed_dim", 2),
        ("d_state", 1),
        ("mlp_ratio", 0),
        ("mlp_ratio", 2.5),
    ],
)
def test_the_least_values_are_accepted(field: str, value: Any) -> None:
    assert getattr(SerpentConfig(**{"patch_size": 1, field: value}), field) == value


def test_the_configuration_cannot_be_changed_and_serves_as_a_key() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        H.depth = 3  # type: ignore[misc]
    assert len({H, SerpentConfig.from_variant("h"), SerpentConfig.from_variant("B")}) == 2


@pytest.mark.parametrize("variant", ["X", "", "BL", None, 4])
def test_an_unknown_variant_is_named_beside_the_known(variant: Any) -> None:
    with pytest.raises(UsageError) as refusal:
        SerpentConfig.from_variant(variant)
    assert refusal.value.message == f"unknown variant {variant!r}; known variants are B, L, H"


CHANGES: dict[str, Any] = {
    "patch_size": 2,
    "variant": "mine",
    "embed_dim": 16,
    "num_scales": 2,
    "depth": 1,
    "ssm_expand": 1,
    "conv_size": 5,
    "d_state": 16,
    "mlp_ratio": 0,
    "up_order": "post",
    "skip": "add",
    "global_residual": False,
    "in_channels": 1,
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(SerpentConfig)])
def test_every_field_survives_json(field: str) -> None:
    config = dataclasses.replace(H, **{field: CHANGES[field]})
    assert config != H
    assert SerpentConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_and_missing_fields_are_named() -> None:
    with pytest.raises(
        UsageError, match="unknown configuration field colour, taste; known fields are conv_size, .*variant"
    ):
        SerpentConfig.from_dict({"patch_size": 1, "taste": 1, "colour": 2})
    with pytest.raises(UsageError, match="unknown configuration field dim"):
        SerpentConfig.from_variant("B", dim=32)
    with pytest.raises(UsageError, match="the configuration lacks the field patch_size"):
        SerpentConfig.from_dict({"depth": 1})


@pytest.mark.parametrize("variant", PATCH_SIZES)
def test_multiples_are_accepted(variant: str) -> None:
    config = SerpentConfig.from_variant(variant)
    unit = config.size_multiple
    for height, width in ((unit, unit), (unit, 5 * unit), (512, 768)):
        config.check_size(height, width)


@pytest.mark.parametrize(
    ("variant", "height", "width", "message", "hint"),
    [
        ("H", 510, 512, "height 510 is no multiple of 8: variant H takes multiples of 8 pixels", "504 or 512"),
        ("H", 512, 771, "width 771 is no multiple of 8", "768 or 776"),
        ("B", 500, 512, "height 500 is no multiple of 32: variant B takes multiples of 32 pixels", "480 or 512"),
        ("L", 1, 16, "height 1 is no multiple of 16", "16 or 32"),
        ("L", 15, 16, "height 15 is no multiple of 16", "16 or 32"),
        ("L", 0, 16, "height 0 is not positive", "16 or 32"),
        ("L", 16, -16, "width -16 is not positive", "16 or 32"),
    ],
)
def test_the_nearest_two_sizes_are_named(variant: str, height: int, width: int, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        SerpentConfig.from_variant(variant).check_size(height, width)
    assert refusal.value.message.startswith(message)
    assert refusal.value.hint == f"nearest: {hint}"
