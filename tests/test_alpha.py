"""Transparency: restored apart, and nothing hidden shows."""

from __future__ import annotations

import numpy as np
import pytest

from serpent.pictures import Picture, fill_hidden
from serpent.runtime import restore_picture
from tests.fakes import FakeSession

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (13, 9), (64, 64)])
def test_hidden_colours_have_no_influence(size: tuple[int, int]) -> None:
    alpha = (RANDOM.random(size) * (RANDOM.random(size) < 0.4)).astype(np.float32)
    pixels = RANDOM.random((*size, 3), dtype=np.float32)
    other = np.where((alpha == 0)[..., None], RANDOM.random((*size, 3), dtype=np.float32), pixels)
    filled = fill_hidden(pixels, alpha)
    np.testing.assert_array_equal(filled, fill_hidden(other, alpha))
    np.testing.assert_array_equal(filled[alpha > 0], pixels[alpha > 0])
    assert filled.dtype == np.float32


def test_gaps_take_the_colours_around_them() -> None:
    pixels = np.zeros((32, 32, 3), dtype=np.float32)
    pixels[:, :16] = (1, 0, 0)
    pixels[:, 16:] = (0, 0, 1)
    alpha = np.ones((32, 32), dtype=np.float32)
    alpha[8:24, 4:12] = 0
    pixels[alpha == 0] = (0, 1, 0)
    filled = fill_hidden(pixels, alpha)
    np.testing.assert_allclose(filled[8:24, 4:12], np.broadcast_to([1, 0, 0], (16, 8, 3)), atol=1e-6)


def test_the_sum_stays_within_what_is_visible() -> None:
    pixels = RANDOM.random((33, 47, 3), dtype=np.float32)
    alpha = (RANDOM.random((33, 47)) < 0.05).astype(np.float32)
    filled = fill_hidden(pixels, alpha)
    seen = pixels[alpha > 0]
    assert (filled >= seen.min(axis=0) - 1e-6).all()
    assert (filled <= seen.max(axis=0) + 1e-6).all()


def test_colours_and_transparency_are_restored_each_in_a_run() -> None:
    session = FakeSession()
    pixels = RANDOM.random((64, 64, 3), dtype=np.float32)
    alpha = RANDOM.random((64, 64), dtype=np.float32)
    restored = restore_picture(session, Picture(pixels, alpha, bits=16))
    np.testing.assert_allclose(restored.pixels, 1 - pixels, atol=1e-6)
    assert restored.alpha is not None
    np.testing.assert_allclose(restored.alpha, 1 - alpha, atol=1e-6)
    assert (len(session.shapes), restored.bits) == (2, 16)


def test_a_uniform_transparency_costs_no_run_and_stays() -> None:
    session = FakeSession()
    alpha = np.full((64, 64), 0.5, dtype=np.float32)
    restored = restore_picture(session, Picture(RANDOM.random((64, 64, 3), dtype=np.float32), alpha))
    assert len(session.shapes) == 1
    np.testing.assert_array_equal(restored.alpha, alpha)


def test_gray_stays_gray() -> None:
    class Tinted(FakeSession):
        def run(self, image: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            return image * np.array([0.9, 0.6, 0.3], dtype=np.float32)[:, None, None]

    gray = np.repeat(RANDOM.random((64, 64, 1), dtype=np.float32), 3, axis=-1)
    restored = restore_picture(Tinted(), Picture(gray, gray=True))
    np.testing.assert_allclose(restored.pixels, gray * 0.6, atol=1e-6)
    assert np.ptp(restored.pixels, axis=-1).max() == 0


def test_the_self_ensemble_is_the_mean_over_eight_views() -> None:
    class Ramp(FakeSession):
        """Adds what depends on the place: turning the picture shows."""

        def run(self, image: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            self.shapes.append(image.shape)
            return image * 0.5 + np.linspace(0, 0.4, image.shape[-1], dtype=np.float32)

    session, steps = Ramp(), []
    pixels = RANDOM.random((64, 64, 3), dtype=np.float32)
    restored = restore_picture(
        session, Picture(pixels), self_ensemble=True, on_tile=lambda *step: steps.append(step)
    ).pixels
    # A ramp and its seven turned and mirrored ones have a constant mean.
    np.testing.assert_allclose(restored, pixels * 0.5 + 0.2, atol=1e-6)
    assert len(session.shapes) == 8
    assert steps == [(done, 8) for done in range(1, 9)]


def test_the_self_ensemble_keeps_the_place_of_everything() -> None:
    pixels = RANDOM.random((40, 56, 3), dtype=np.float32)
    restored = restore_picture(FakeSession(), Picture(pixels), self_ensemble=True)
    np.testing.assert_allclose(restored.pixels, 1 - pixels, atol=1e-6)
