"""Pairs of a folder, their evaluation, and the Wiener filters that stand beside a model."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serpent.degradations import degrade, generator
from serpent.errors import ArgumentError, PictureError, UsageError
from serpent.evaluation import DegradedDigest, Pair, Pairs, Wiener, evaluate, fit_wiener, wiener
from serpent.evaluation.scores import Row
from serpent.metrics import psnr, ssim
from tests.photographs import photo, saved

NAMES = ("a.png", "b.png", "b/c.png", "b/deeper/d.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("photos"), *NAMES)


def test_pairs_are_the_pictures_by_name_and_their_degraded_selves(folder: Path) -> None:
    pairs = Pairs(folder, "deblur", seed=5)
    assert pairs.names == NAMES
    assert len(pairs) == 4
    for pair in pairs:
        with Image.open(folder / pair.name) as image:
            target = np.asarray(image, np.float32) / np.float32(255)
        np.testing.assert_array_equal(pair.target, target)
        np.testing.assert_array_equal(pair.degraded, degrade(target, "deblur", generator(5, pair.name)))
    assert [pair.name for pair in pairs] == list(NAMES)  # a second pass
    assert Pairs(folder, "deblur", limit=2).names == NAMES[:2]


def test_crops_are_centred_and_cut_before_they_are_degraded(folder: Path) -> None:
    whole, cut = next(iter(Pairs(folder, "denoise"))), next(iter(Pairs(folder, "denoise", crop=33)))
    np.testing.assert_array_equal(cut.target, whole.target[13:46, 18:51])
    np.testing.assert_array_equal(cut.degraded, degrade(cut.target, "denoise", generator(0, cut.name)))


def test_a_pair_does_not_depend_on_the_other_pictures(folder: Path, tmp_path: Path) -> None:
    name = NAMES[-1]
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes((folder / name).read_bytes())
    alone, among = next(iter(Pairs(tmp_path, "deblur"))), list(Pairs(folder, "deblur"))[-1]
    assert alone.name == among.name
    np.testing.assert_array_equal(alone.degraded, among.degraded)


def test_the_digest_covers_names_shapes_and_values_of_the_degraded_pictures() -> None:
    picture = photo(0, 12, 14)

    def digest(*pairs: Pair) -> str:
        found = DegradedDigest()
        for pair in pairs:
            found.add(pair)
        return found.hexdigest()

    expected = hashlib.sha256(b"a/b.png\x0012x14x3\0" + picture.astype("<f4").tobytes()).hexdigest()
    pair = Pair("a/b.png", picture, picture)
    assert digest(pair) == expected
    assert digest(Pair("a/b.png", picture, 1 - picture)) == expected  # the target has no part in it
    changed = picture.copy()
    changed[0, 0, 0] += 2**-20
    turned = np.ascontiguousarray(picture.reshape(14, 12, 3))
    others = [
        digest(Pair("a/c.png", picture, picture)),
        digest(Pair("a/b.png", changed, picture)),
        digest(Pair("a/b.png", turned, turned)),
        digest(pair, pair),
    ]
    assert len({expected, *others}) == 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b/broken.png", b"broken", "broken.png is no picture in a known format"),
        ("empty.jpg", b"", "empty.jpg is empty"),
    ],
)
def test_unreadable_pictures_are_all_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    saved(tmp_path, "a.png", "b/c.png")
    (tmp_path / name).write_bytes(content)
    (tmp_path / "z.png").write_bytes((tmp_path / "a.png").read_bytes()[:-500])
    with pytest.raises(PictureError, match="2 of 4 pictures cannot be used") as caught:
        Pairs(tmp_path, "deblur").check()
    assert message in caught.value.message
    assert "z.png is damaged or truncated" in caught.value.message


def test_pictures_smaller_than_the_crop_are_named(tmp_path: Path) -> None:
    saved(tmp_path, "a.png", "b.png")
    saved(tmp_path, "small.png", height=40)
    Pairs(tmp_path, "deblur", crop=40).check()
    with pytest.raises(PictureError, match=r"small.png has 70x40 pixels, smaller than the crop of 41") as caught:
        Pairs(tmp_path, "deblur", crop=41).check()
    assert "a.png" not in caught.value.message
    with pytest.raises(PictureError, match="small.png has 70x40 pixels, fewer than 41 on a side"):
        Pairs(tmp_path, "deblur").check(41)
    with pytest.raises(UsageError, match="a crop of 10 pixels is too small; expected at least 11"):
        Pairs(tmp_path, "deblur", crop=10).check(11)


def test_of_many_bad_pictures_the_first_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    for index in range(13):
        (tmp_path / f"{index:02}.png").write_bytes(b"broken")
    with pytest.raises(PictureError, match="13 of 13 pictures") as caught:
        Pairs(tmp_path, "deblur").check()
    assert caught.value.message.count("is no picture") == 10
    assert "and 3 more" in caught.value.message


def test_folders_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent does not exist; expected a folder"):
        Pairs(tmp_path / "absent", "deblur").check()
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UsageError, match="holds no picture"):
        Pairs(tmp_path, "deblur").check()
    with pytest.raises(UsageError, match="notes.txt is no folder"):
        Pairs(tmp_path / "notes.txt", "deblur").check()


def test_an_unknown_task_is_found_before_any_picture_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown task 'blur'"):
        Pairs(tmp_path / "absent", "blur").check()


def test_an_evaluation_is_the_metrics_of_each_picture(folder: Path) -> None:
    pairs = Pairs(folder, "denoise", crop=40)
    seen: list[tuple[Row, set[str]]] = []
    found = evaluate(
        lambda degraded: degraded * 2 - np.float32(0.5),  # beyond [0, 1], to be clipped
        pairs,
        floors={"half": lambda degraded: degraded / 2},
        border=7,
        distance=lambda target, result: float(np.abs(target - result).mean()),
        watch=lambda row, pictures: seen.append((row, set(pictures))),
    )
    inner = np.s_[7:-7, 7:-7]
    digest = DegradedDigest()
    for row, pair in zip(found.rows, pairs, strict=True):
        digest.add(pair)
        results = {
            "degraded": pair.degraded,
            "half": pair.degraded / 2,
            "model": np.clip(pair.degraded * 2 - np.float32(0.5), 0, 1),
        }
        assert (row.name, row.height, row.width) == (pair.name, 40, 40)
        assert list(row.scores) == list(results)
        for method, result in results.items():
            assert row.scores[method].psnr == psnr(pair.target[inner], result[inner])
            assert row.scores[method].ssim == ssim(pair.target[inner], result[inner])
            assert row.scores[method].lpips == float(np.abs(pair.target - result).mean())
    assert found.degraded_sha256 == digest.hexdigest()
    assert found.border == 7
    assert found.methods == ("degraded", "half", "model")
    assert found.mean("half").psnr == pytest.approx(np.mean([row.scores["half"].psnr for row in found.rows]))
    assert found.mean("half").ssim == pytest.approx(np.mean([row.scores["half"].ssim for row in found.rows]))
    assert found.seconds == sum(row.seconds for row in found.rows) > 0
    assert seen == [(row, {"degraded", "half", "model", "target"}) for row in found.rows]


def test_a_perfect_result_has_infinite_psnr_and_no_lpips_unasked(folder: Path) -> None:
    pairs = list(Pairs(folder, "denoise"))
    targets = iter([pair.target for pair in pairs])
    found = evaluate(lambda _: next(targets), pairs)
    assert (found.mean("model").psnr, found.mean("model").ssim) == (math.inf, 1.0)
    assert found.mean("model").lpips is None


def test_what_is_no_result_is_named(folder: Path) -> None:
    pairs = Pairs(folder, "denoise")
    with pytest.raises(ArgumentError, match=r"model made \(30, 70, 3\) of a.png, which is \(60, 70, 3\)"):
        evaluate(lambda degraded: degraded[::2], pairs)
    with pytest.raises(ArgumentError, match="model gave values that are not finite"):
        evaluate(lambda degraded: degraded * np.float32(np.nan), pairs)
    with pytest.raises(ArgumentError, match="there is no picture"):
        evaluate(lambda degraded: degraded, [])


def blurred(seed: int, height: int, width: int, kernel: NDArray[np.float64], sigma: float) -> Pair:
    """A periodic picture, blurred periodically: what the equations describe exactly, but for the blocks' window."""
    picture = photo(seed, height, width)
    spectrum = np.fft.rfft2(np.roll(np.pad(kernel, ((0, height - 5), (0, width - 5))), (-2, -2), (0, 1)))
    blur = [np.fft.irfft2(np.fft.rfft2(picture[..., channel]) * spectrum, s=(height, width)) for channel in range(3)]
    noise = np.random.default_rng(seed + 100).normal(0, sigma, picture.shape)
    return Pair(f"{seed}.png", (np.stack(blur, -1) + noise).astype(np.float32), picture)


KERNEL = np.array(
    [[0, 0, 0, 0, 0], [0, 1, 2, 0, 0], [0, 3, 9, 1, 0], [0, 0, 2, 4, 3], [0, 0, 0, 2, 1]], np.float64
) / 28  # fmt: skip


def test_the_filter_has_the_least_error_of_all_of_its_size() -> None:
    pairs = [blurred(seed, 200, 170, KERNEL, 0.03) for seed in range(6)]

    def error(filtered: Wiener, inner: object = np.s_[20:-20, 20:-20]) -> float:
        return float(np.mean([np.square(filtered(pair.degraded) - pair.target)[inner].mean() for pair in pairs]))

    found = fit_wiener(pairs, reach=5)
    least = error(found["wiener-rgb"])
    assert least < error(found["wiener"]) < np.mean([np.square(pair.degraded - pair.target).mean() for pair in pairs])
    # The error's slope vanishes along every tap, within what the window and the ridge leave: a step of 0.01 either
    # way makes it worse.
    for i, j, y, x in [(0, 0, 5, 5), (1, 1, 4, 6), (2, 2, 8, 2), (0, 1, 5, 5), (2, 0, 5, 6), (1, 2, 3, 5)]:
        for step in (-0.01, 0.01):
            kernel = found["wiener-rgb"].kernel.copy()
            kernel[i, j, y, x] += step
            assert error(Wiener(kernel)) > least


def test_without_degradation_the_filter_leaves_pictures_alone() -> None:
    pictures = [photo(seed, 150, 140) for seed in range(3)]
    found = fit_wiener([Pair("a.png", picture, picture) for picture in pictures], reach=6)
    identity = np.zeros((3, 3, 13, 13))
    identity[range(3), range(3), 6, 6] = 1
    for each in found.values():
        np.testing.assert_allclose(each.kernel, identity, atol=0.01)
        np.testing.assert_allclose(each(pictures[0]), pictures[0], atol=0.01)


def test_a_shift_is_undone_and_not_doubled() -> None:
    pairs = []
    for seed in range(3):
        picture = photo(seed, 160, 160)
        pairs.append(Pair("a.png", np.roll(picture, (3, -2), (0, 1)), picture))
    kernel = fit_wiener(pairs, reach=6)["wiener"].kernel
    assert np.unravel_index(kernel[0, 0].argmax(), (13, 13)) == (6 - 3, 6 + 2)


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (9, 31), (130, 129)], ids=str)
def test_filters_take_any_size(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    picture, kernel = random.random((*size, 3), np.float32), random.normal(size=(3, 3, 7, 7))
    padded = np.pad(picture, ((3, 3), (0, 0), (0, 0)), mode="reflect" if size[0] > 1 else "edge")
    padded = np.pad(padded, ((0, 0), (3, 3), (0, 0)), mode="reflect" if size[1] > 1 else "edge")
    expected = np.zeros((*size, 3))
    for dy in range(-3, 4):
        for dx in range(-3, 4):
            shifted = padded[3 - dy :, 3 - dx :][: size[0], : size[1]]
            expected += shifted @ kernel[:, :, dy + 3, dx + 3].T
    np.testing.assert_allclose(Wiener(kernel)(picture), expected, atol=2e-5)


def test_pictures_of_any_size_are_fitted_on() -> None:
    sizes = [(20, 30), (128, 128), (129, 200)]
    pairs = [Pair(str(size), degrade(photo(0, *size), "deblur", generator(0)), photo(0, *size)) for size in sizes]
    assert fit_wiener(pairs, reach=3)["wiener"].kernel.shape == (3, 3, 7, 7)
    assert wiener._starts(128) == [0]
    assert wiener._starts(129) == [0, 1]
    assert wiener._starts(321) == [0, 48, 96, 144, 193]
    with pytest.raises(ArgumentError, match="no picture to fit"):
        fit_wiener([])


def test_black_pictures_give_a_black_filter() -> None:
    black = np.zeros((40, 40, 3), np.float32)
    np.testing.assert_array_equal(fit_wiener([Pair("a", black, black)], reach=2)["wiener-rgb"].kernel, 0)
