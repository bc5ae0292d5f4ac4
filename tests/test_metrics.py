"""PSNR and SSIM against hand-computed values and against scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest

from serpent.errors import ArgumentError
from serpent.metrics import psnr, ssim

skimage_data = pytest.importorskip("skimage.data")
skimage_metrics = pytest.importorskip("skimage.metrics")


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """A photograph (97, 130, 3) uint8 and a noisy copy of it."""
    clean = skimage_data.astronaut()[40:137, 150:280]
    noise = np.random.default_rng(3).normal(0.0, 12.0, clean.shape)
    return clean, np.clip(clean + noise, 0, 255).astype(np.uint8)


def independent_ssim(reference: np.ndarray, image: np.ndarray, data_range: float) -> float:
    return skimage_metrics.structural_similarity(
        reference, image, data_range=data_range, channel_axis=-1,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip


def test_psnr_of_a_known_error() -> None:
    reference = np.zeros((2, 5, 3))
    assert psnr(reference, reference + 0.1) == pytest.approx(20.0, abs=1e-12)
    assert psnr(reference, reference + 25.5, data_range=255) == pytest.approx(20.0, abs=1e-12)


def test_psnr_of_equal_pictures_is_infinite() -> None:
    assert psnr(np.ones((1, 1, 3)), np.ones((1, 1, 3))) == math.inf


def test_psnr_does_not_wrap_around_in_8_bits() -> None:
    dark, bright = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert psnr(dark, bright, data_range=255) == pytest.approx(0.0)
    assert psnr(bright, dark, data_range=255) == pytest.approx(0.0)


def test_psnr_agrees_with_scikit_image(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    expected = skimage_metrics.peak_signal_noise_ratio(*pictures, data_range=255)
    assert psnr(*pictures, data_range=255) == pytest.approx(expected, abs=1e-9)


def test_ssim_agrees_with_scikit_image_in_8_bits(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    expected = independent_ssim(*pictures, data_range=255)
    assert 0.2 < expected < 0.95  # the pair must be neither trivial nor hopeless
    assert ssim(*pictures, data_range=255) == pytest.approx(expected, abs=1e-9)


def test_ssim_agrees_with_scikit_image_in_floats(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    reference, image = (picture / 255.0 for picture in pictures)
    assert ssim(reference, image) == pytest.approx(independent_ssim(reference, image, 1.0), abs=1e-9)


def test_ssim_of_a_batch_is_the_mean_of_its_pictures(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    reference, image = pictures
    batch = ssim(np.stack([reference, reference]), np.stack([reference, image]), data_range=255)
    assert batch == pytest.approx((1.0 + ssim(reference, image, data_range=255)) / 2, abs=1e-12)


def test_ssim_of_the_smallest_picture_is_one_window() -> None:
    rng = np.random.default_rng(0)
    reference, image = rng.random((2, 11, 11, 1))
    assert ssim(reference, image) == pytest.approx(independent_ssim(reference, image, 1.0), abs=1e-9)


@pytest.mark.parametrize("measure", [psnr, ssim])
@pytest.mark.parametrize(
    ("reference", "image", "data_range", "message"),
    [
        pytest.param((12, 12, 3), (12, 13, 3), 1.0, r"\(12, 12, 3\).*\(12, 13, 3\)", id="shapes differ"),
        pytest.param((0, 12, 3), (0, 12, 3), 1.0, "no pixel", id="empty"),
        pytest.param((12, 12, 3), (12, 12, 3), 0.0, "data_range is 0.0", id="range zero"),
        pytest.param((12, 12, 3), (12, 12, 3), math.inf, "data_range is inf", id="range infinite"),
    ],
)
def test_bad_arguments_are_named(measure, reference, image, data_range, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        measure(np.zeros(reference), np.zeros(image), data_range=data_range)


def test_complex_pictures_are_refused() -> None:
    with pytest.raises(ArgumentError, match="image has dtype complex128"):
        psnr(np.zeros((1, 1, 3)), np.zeros((1, 1, 3), complex))


@pytest.mark.parametrize("shape", [(12, 12), (1, 1, 12, 12, 3)])
def test_ssim_refuses_other_ranks(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="expected \\(H, W, C\\)"):
        ssim(np.zeros(shape), np.zeros(shape))


def test_ssim_refuses_pictures_below_its_window() -> None:
    with pytest.raises(ArgumentError, match="10x20 are smaller"):
        ssim(np.zeros((10, 20, 3)), np.zeros((10, 20, 3)))
