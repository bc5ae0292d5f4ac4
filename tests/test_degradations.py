"""The degradations: seeded, checked, and what each of them does to a picture."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from serpent import degradations
from serpent.degradations import degrade, describe, find_task, generator, register, registry, task_names, tasks
from serpent.degradations.filters import convolve, gaussian_kernel, line_kernel, separable
from serpent.errors import ArgumentError, UsageError

ndimage = pytest.importorskip("scipy.ndimage", reason="the independent filters are SciPy's")
SHIPPED = ("deblur", "denoise", "inpaint", "jpeg", "motion", "sr8")
RANDOM = ("deblur", "denoise", "inpaint", "jpeg", "motion")
PICTURE = np.random.default_rng(0).random((40, 57, 3), dtype=np.float32)
GRAY = np.full((256, 256, 3), 0.5, np.float32)


@pytest.fixture
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_TASKS", dict(registry._TASKS))


def test_the_tasks_that_ship_are_known() -> None:
    assert task_names() == SHIPPED
    assert describe("deblur") == "Gaussian blur (61 x 61, sigma 3 pixels), then Gaussian noise (sigma 0.05)."
    assert all(describe(task).endswith(".") for task in SHIPPED)


@pytest.mark.parametrize("task", SHIPPED)
def test_equal_seeds_give_equal_pictures(task: str) -> None:
    once, again = (degrade(PICTURE, task, generator(3, "a/b.png")) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, PICTURE)


@pytest.mark.parametrize("task", RANDOM)
@pytest.mark.parametrize("key", [(4, "a/b.png"), (3, "a/c.png")], ids=["seed", "name"])
def test_another_seed_or_name_gives_another_picture(task: str, key: tuple[int, str]) -> None:
    smooth = np.asarray(ndimage.gaussian_filter(PICTURE, (4, 4, 0)))  # JPEG of pure noise hardly depends on quality
    assert not np.array_equal(degrade(smooth, task, generator(3, "a/b.png")), degrade(smooth, task, generator(*key)))


def test_the_random_numbers_are_those_of_every_version() -> None:
    # Weights are trained and compared on these streams; a change makes old digests worthless.
    assert generator(0, "a/b.png").integers(0, 1 << 32, 3).tolist() == [793469448, 257666814, 3050867038]


@pytest.mark.parametrize("task", SHIPPED)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (8, 8), (33, 61), (130, 75)], ids=str)
def test_every_size_keeps_its_shape_dtype_and_range(task: str, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).random((*size, 3), dtype=np.float32)
    before = picture.copy()
    degraded = degrade(picture, task, generator(0, 1))
    assert degraded.shape == picture.shape
    assert degraded.dtype == np.float32
    assert degraded.min() >= 0
    assert degraded.max() <= 1
    np.testing.assert_array_equal(picture, before)
    assert not np.shares_memory(degraded, picture)


@pytest.mark.usefixtures("fresh_registry")
def test_a_task_that_works_in_place_leaves_the_picture_as_it_is() -> None:
    @register("darken")
    def darken(picture: NDArray[np.float32], _random: Generator) -> NDArray[np.float32]:
        picture *= 0.5
        return picture

    picture = PICTURE.copy()
    np.testing.assert_array_equal(degrade(picture, "darken", generator(0, 1)), PICTURE * np.float32(0.5))
    np.testing.assert_array_equal(picture, PICTURE)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (90, 70)], ids=str)
def test_the_gaussian_is_that_of_scipy(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(2).random((*size, 3), dtype=np.float32)
    kernel = gaussian_kernel(tasks.BLUR_SIZE, tasks.BLUR_SIGMA)
    offsets = np.arange(-30, 31)
    exact_kernel = np.exp(-(offsets**2) / (2 * 3.0**2))
    exact_kernel /= exact_kernel.sum()

    def correlated(values: NDArray[np.floating], weights: NDArray[np.floating]) -> NDArray[np.floating]:
        for axis in (0, 1):
            values = ndimage.correlate1d(values, weights, axis=axis, mode="mirror").astype(weights.dtype)
        return values

    exact = correlated(picture.astype(np.float64), exact_kernel)
    # The same road in float32, rounded after each axis as ours is.
    baseline = np.abs(correlated(picture, kernel) - exact).max()
    error = np.abs(separable(picture, kernel) - exact).max()
    assert error <= 2 * baseline + np.finfo(np.float32).eps * 61


@pytest.mark.parametrize(("length", "angle"), [(5, 0.0), (25, 0.4), (12.3, math.pi / 2), (7, 3.0)])
def test_a_motion_kernel_is_a_line_through_its_centre(length: float, angle: float) -> None:
    kernel = line_kernel(length, angle).astype(np.float64)
    assert kernel.sum() == pytest.approx(1, abs=float(kernel.size * np.finfo(np.float32).eps))
    assert kernel.min() >= 0
    y, x = np.indices(kernel.shape) - len(kernel) // 2
    assert (kernel * y).sum() == pytest.approx(0, abs=1e-6)
    assert (kernel * x).sum() == pytest.approx(0, abs=1e-6)
    # The second moment of a bar of 8 r + 1 points; sharing a point between pixels adds at most 1/4 in any direction.
    along, across = (y * math.sin(angle) + x * math.cos(angle)), (y * math.cos(angle) - x * math.sin(angle))
    bar = length**2 / 12 * (1 + 1 / (4 * math.ceil(length / 2)))
    assert bar - 1e-4 < (kernel * along**2).sum() < bar + 0.25 + 1e-4
    assert (kernel * across**2).sum() < 0.25 + 1e-4


def test_convolution_is_that_of_scipy() -> None:
    kernel = np.random.default_rng(4).random((7, 7)).astype(np.float32)  # no symmetry: a flipped kernel shows
    kernel[2:4] = 0
    exact = ndimage.convolve(PICTURE.astype(np.float64), kernel.astype(np.float64)[..., None], mode="mirror")
    baseline = np.abs(ndimage.convolve(PICTURE, kernel[..., None], mode="mirror") - exact).max()
    error = np.abs(convolve(PICTURE, kernel) - exact).max()
    assert error <= 2 * baseline + 49 * np.finfo(np.float32).eps * np.abs(exact).max()


@pytest.mark.parametrize(("task", "sigma"), [("deblur", 0.05), ("denoise", 25 / 255), ("motion", 0.01)])
def test_the_noise_has_the_stated_sigma(task: str, sigma: float) -> None:
    noise = degrade(GRAY, task, generator(0, 1)).astype(np.float64) - 0.5
    count = noise.size
    # Five standard errors of the estimates; at 0.5 next to nothing is clipped (5 sigma of the largest).
    assert noise.std() == pytest.approx(sigma, abs=5 * sigma / math.sqrt(2 * count))
    assert noise.mean() == pytest.approx(0, abs=5 * sigma / math.sqrt(count))
    neighbours = np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(256 * 255)


def test_super_resolution_keeps_what_an_eighth_can_hold() -> None:
    np.testing.assert_allclose(degrade(GRAY, "sr8", generator(0)), GRAY, atol=1e-6)
    y, x = np.indices((64, 96))
    smooth = np.repeat((0.5 + 0.3 * np.sin(x / 30) * np.cos(y / 30))[..., None], 3, -1).astype(np.float32)
    checks = np.repeat(((x + y) % 2)[..., None], 3, -1).astype(np.float32)
    inner = np.s_[16:-16, 16:-16]
    assert np.abs(degrade(smooth, "sr8", generator(0)) - smooth)[inner].max() < 0.02
    assert np.abs(degrade(checks, "sr8", generator(0)) - 0.5)[inner].max() < 0.02


def test_super_resolution_goes_through_an_eighth_rounded_up() -> None:
    picture = PICTURE[:9, :17]
    expected = []
    for channel in range(3):
        small = Image.fromarray(np.ascontiguousarray(picture[..., channel])).resize((3, 2), Image.Resampling.BICUBIC)
        expected.append(np.asarray(small.resize((17, 9), Image.Resampling.BICUBIC)))
    np.testing.assert_array_equal(degrade(picture, "sr8", generator(0)), np.clip(np.stack(expected, -1), 0, 1))


def test_jpeg_is_a_jpeg_file_of_the_drawn_quality() -> None:
    quality = int(generator(5, "x").integers(10, 41))
    levels = np.rint(PICTURE * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality, subsampling=2)
    with Image.open(file) as image:
        expected = np.asarray(image) / np.float32(255)
    np.testing.assert_array_equal(degrade(PICTURE, "jpeg", generator(5, "x")), expected)


def test_jpeg_qualities_span_10_to_40() -> None:
    drawn = {int(generator(0, key).integers(10, 41)) for key in range(500)}
    assert drawn == set(range(10, 41))


def test_inpainting_blacks_out_some_pixels_and_leaves_the_others_alone() -> None:
    shares = []
    for key in range(20):
        degraded = degrade(GRAY, "inpaint", generator(0, key))
        changed = (degraded != GRAY).any(-1)
        np.testing.assert_array_equal(degraded[changed], 0)
        shares.append(changed.mean())
    assert 0 < min(shares) < max(shares) < 0.6
    assert 0.02 < np.mean(shares) < 0.3


@pytest.mark.usefixtures("fresh_registry")
def test_a_task_of_ones_own_is_registered_in_a_few_lines() -> None:
    @register("darken")
    def darken(picture: NDArray[np.float32], random: Generator) -> NDArray[np.float32]:
        """Exposure too short by a random factor. And more."""
        return picture * random.uniform(0.2, 0.5)

    assert "darken" in task_names()
    assert describe("darken") == "Exposure too short by a random factor."
    factor = generator(1, 2).uniform(0.2, 0.5)
    degraded = degrade(PICTURE, "darken", generator(1, 2))
    assert degraded.dtype == np.float32
    np.testing.assert_allclose(degraded, PICTURE * factor, rtol=1e-6)
    assert register("darken")(darken) is darken  # the same function again: a module that was loaded twice
    with pytest.raises(UsageError, match="'darken' is registered already"):
        register("darken")(tasks.deblur)


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown task 'deblurr'; known tasks are deblur, denoise, inpaint"):
        find_task("deblurr")


def test_a_task_may_be_a_function_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_degradations.py").write_text(
        'LEVEL = 3\ndef negative(picture, random):\n    """The negative."""\n    return 1 - picture\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_degradations", raising=False)
    np.testing.assert_array_equal(degrade(PICTURE, "my_degradations:negative", generator(0)), 1 - PICTURE)
    assert describe("my_degradations:negative") == "The negative."
    for task, message in {
        "my_degradations:absent": "has no attribute 'absent'",
        "no_such_module:negative": "No module named 'no_such_module'",
        ":negative": "cannot be imported",
        "my_degradations:": "cannot be imported",
        "my_degradations:LEVEL": "is no function but int",
    }.items():
        with pytest.raises(UsageError, match=message):
            find_task(task)


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize(
    ("result", "message"),
    [
        (PICTURE[:-1], r"made \(39, 57, 3\) float32 of a picture \(40, 57, 3\)"),
        (None, r"made \(\) object"),
        ((PICTURE * 255).astype(np.uint8), "uint8"),
        (np.where(PICTURE > 0.5, np.float32(np.nan), PICTURE), "not finite"),
    ],
    ids=["shape", "nothing", "levels", "nan"],
)
def test_a_degradation_that_gives_no_picture_is_named(result: object, message: str) -> None:
    register("broken")(lambda *_: result)  # type: ignore[arg-type, return-value]
    with pytest.raises(ArgumentError, match=message) as caught:
        degrade(PICTURE, "broken", generator(0))
    assert "'broken'" in str(caught.value)


def test_a_degradation_that_fails_is_named_with_its_line() -> None:
    register("failing")(lambda picture: picture)  # type: ignore[arg-type, misc]
    with pytest.raises(ArgumentError, match=r"the task 'failing' failed: TypeError: .*takes 1 .*registry\.py:\d+"):
        degrade(PICTURE, "failing", generator(0))


@pytest.mark.parametrize(
    "picture",
    [PICTURE[..., 0], PICTURE[..., :2], PICTURE[:0], PICTURE.astype(np.float64), (PICTURE * 255).astype(np.uint8)],
    ids=["gray", "two channels", "empty", "double", "levels"],
)
def test_what_is_no_picture_is_refused(picture: NDArray[np.float32]) -> None:
    with pytest.raises(ArgumentError, match=r"expected \(H, W, 3\) float32"):
        degrade(picture, "deblur", generator(0))


def test_a_picture_that_is_not_finite_is_refused() -> None:
    broken = PICTURE.copy()
    broken[3, 3] = np.inf
    with pytest.raises(ArgumentError, match="not finite"):
        degrade(broken, "denoise", generator(0))


def test_keys_of_random_numbers() -> None:
    with pytest.raises(UsageError, match="-1 was given for random numbers"):
        generator(-1, "a")
    assert generator(0, "caf\udce9.png").random() != generator(0, "caf\udcea.png").random()  # names that are no text
    firsts = {generator(*key).random() for key in [(0, 1), (1, 0), (0, "1"), (0, "0"), (0, 1, 2), (0, 2, 1)]}
    assert len(firsts) == 6


def test_the_package_names_what_it_offers() -> None:
    assert all(hasattr(degradations, name) for name in degradations.__all__)
