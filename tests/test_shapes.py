"""What may be typed after --res and --batch, and what it means."""

from __future__ import annotations

import json

import pytest

from serpent.config import SerpentConfig
from serpent.errors import UsageError
from serpent.shapes import Range, ShapeProfile, parse_profile

H = SerpentConfig.from_variant("H")  # multiples of 8
B = SerpentConfig.from_variant("B")  # multiples of 32

STATIC_512 = Range(512, 512, 512)
STATIC_768 = Range(768, 768, 768)
WIDE = Range(256, 512, 2048)
ONE = Range(1, 1, 1)


@pytest.mark.parametrize(
    ("resolution", "height", "width"),
    [
        ("512", STATIC_512, STATIC_512),
        ("512x768", STATIC_512, STATIC_768),
        ("768x512", STATIC_768, STATIC_512),
        ("256:512:2048", WIDE, WIDE),
        ("512:512:512", STATIC_512, STATIC_512),
        ("32", Range(32, 32, 32), Range(32, 32, 32)),
    ],
)
def test_resolutions(resolution: str, height: Range, width: Range) -> None:
    for config in (H, B):
        profile = parse_profile(config, resolution)
        assert profile == ShapeProfile(ONE, height, width, config.size_multiple)


@pytest.mark.parametrize(
    ("batch", "expected", "static"),
    [("1", ONE, True), ("4", Range(4, 4, 4), True), ("1:1:8", Range(1, 1, 8), False), ("2:4:4", Range(2, 4, 4), False)],
)
def test_batches(batch: str, expected: Range, static: bool) -> None:
    profile = parse_profile(H, "512", batch)
    assert profile.batch == expected
    assert profile.batch.is_static is static


@pytest.mark.parametrize("resolution", ["512", "512x768", "256:512:2048", "256x512:512x768:1024x2048"])
def test_a_profile_says_its_resolution_as_typed(resolution: str) -> None:
    assert parse_profile(H, resolution).resolution == resolution


RES_HINT = (
    "use --res 512, --res 512x768 (height x width), --res 256:512:2048 (min:opt:max) or "
    "--profile 256x256:512x768:1024x2048"
)
BATCH_HINT = "use --batch 1 or --batch 1:1:8 (min:opt:max)"


@pytest.mark.parametrize(
    ("resolution", "message"),
    [
        *((text, f"the size {text!r} is not understood") for text in ("abc", "", "512x", "x512", "512x512x512", "5.5")),
        *((text, f"the size {text!r} is not understood") for text in ("1:2", "8:16:24:32", "8::16", ":", "512X512")),
        *((text, f"the size {text!r} is not understood") for text in ("256:512:1024x512", "512x256:512:1024")),
        ("0", "the size '0' has the size 0, which is not positive"),
        ("-8", "the size '-8' has the size -8, which is not positive"),
        ("512x0", "the size '512x0' has the size 0, which is not positive"),
        ("0:512:1024", "the size '0:512:1024' has the size 0, which is not positive"),
        ("512:256:1024", "the size '512:256:1024' is not ordered min <= opt <= max"),
        ("256:2048:1024", "the size '256:2048:1024' is not ordered min <= opt <= max"),
    ],
)
def test_a_resolution_that_is_none_is_repeated_with_the_forms(resolution: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_profile(H, resolution)
    assert (refusal.value.message, refusal.value.hint) == (message, RES_HINT)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        *((text, f"--batch {text!r} is not understood") for text in ("", "one", "1:2", "1x2", "1:2:3:4", "1.5")),
        ("0", "--batch '0' has the size 0, which is not positive"),
        ("-1:1:1", "--batch '-1:1:1' has the size -1, which is not positive"),
        ("8:1:1", "--batch '8:1:1' is not ordered min <= opt <= max"),
    ],
)
def test_a_batch_that_is_none_is_repeated_with_the_forms(batch: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_profile(H, "512", batch)
    assert (refusal.value.message, refusal.value.hint) == (message, BATCH_HINT)


@pytest.mark.parametrize(
    ("config", "resolution", "message", "hint"),
    [
        (H, "510", "height 510 is no multiple of 8", "nearest: 504 or 512"),
        (H, "510x512", "height 510 is no multiple of 8", "nearest: 504 or 512"),
        (H, "512x771", "width 771 is no multiple of 8", "nearest: 768 or 776"),
        (B, "520", "height 520 is no multiple of 32", "nearest: 512 or 544"),
        (H, "100:512:2048", "height 100 is no multiple of 8", "nearest: 96 or 104"),
        (H, "256:500:2048", "height 500 is no multiple of 8", "nearest: 496 or 504"),
        (H, "256:512:2047", "height 2047 is no multiple of 8", "nearest: 2040 or 2048"),
    ],
)
def test_a_side_that_is_no_multiple_is_named(config: SerpentConfig, resolution: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_profile(config, resolution)
    assert refusal.value.message.startswith(message)
    assert refusal.value.hint == hint


@pytest.mark.parametrize(
    ("resolution", "batch"),
    [("512", "1"), ("512x768", "2"), ("256:512:2048", "1:1:8"), ("256x512:512x768:1024x2048", "1")],
)
def test_a_profile_survives_json(resolution: str, batch: str) -> None:
    profile = parse_profile(H, resolution, batch)
    assert ShapeProfile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile


def test_a_range_contains_its_ends_and_may_be_open_above() -> None:
    assert [size in Range(8, 16, 32) for size in (7, 8, 16, 32, 33)] == [False, True, True, True, False]
    assert [size in Range(8, 16, None) for size in (7, 8, 10**9)] == [False, True, True]
    assert not Range(8, 8, None).is_static
    assert [str(r) for r in (Range(8, 8, 8), Range(8, 16, 32), Range(8, 16, None))] == ["8", "8:16:32", "8:16:"]
