"""Pictures of any size through bounded runs: sizes within the profile, no seams, no pixel missed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serpent.errors import UsageError
from serpent.runtime.tiling import Tiling, plan_axis, restore_any_size
from serpent.shapes import Range, ShapeProfile
from tests.fakes import FakeSession, profile

STATIC = Range(32, 32, 32)
DYNAMIC = Range(16, 32, 48)
UNBOUNDED = Range(8, 8, None)


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


class Recorder:
    """An identity network that checks what it is given against its profile."""

    def __init__(self, accepted: ShapeProfile) -> None:
        self.accepted = accepted
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        batch, channels, height, width = image.shape
        assert (channels, image.dtype, image.flags.c_contiguous) == (3, np.float32, True)
        assert batch in self.accepted.batch
        assert height in self.accepted.height
        assert width in self.accepted.width
        assert height % self.accepted.multiple == 0
        assert width % self.accepted.multiple == 0
        self.shapes.append(image.shape)
        return image


@pytest.mark.parametrize(
    ("side", "tile", "overlap", "starts"),
    [
        (32, 32, 4, (0,)),
        (33, 32, 4, (0, 1)),  # one pixel too long: two tiles that share nearly everything
        (60, 32, 4, (0, 28)),  # exactly two tiles with the least overlap
        (61, 32, 4, (0, 14, 29)),  # one more pixel: three tiles, the first and the last share some, too
        (88, 32, 4, (0, 28, 56)),
    ],
)
def test_tiles_are_evenly_spaced(side: int, tile: int, overlap: int, starts: tuple[int, ...]) -> None:
    plan = plan_axis(side, tile, overlap)
    assert plan.starts == pytest.approx(starts, abs=1)
    assert plan.starts[-1] + plan.length == side


@given(st.integers(32, 400), st.integers(0, 16))
def test_weights_sum_to_one_and_neighbours_overlap(side: int, overlap: int) -> None:
    plan = plan_axis(side, 32, overlap)
    total = np.zeros(side)
    for start, weight in zip(plan.starts, plan.weights, strict=True):
        assert (weight > 0).all()
        total[start : start + 32] += weight
    np.testing.assert_allclose(total, 1, atol=3e-7)
    assert all(left + 32 - right >= overlap for left, right in zip(plan.starts, plan.starts[1:], strict=False))


@pytest.mark.parametrize("sizes", [STATIC, DYNAMIC, UNBOUNDED], ids=["static", "dynamic", "unbounded"])
@given(height=st.integers(1, 120), width=st.integers(1, 120), batch=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_an_identity_network_gives_back_the_input(sizes: Range, height: int, width: int, batch: int) -> None:
    images = noise(batch, height, width, 3)
    run = Recorder(profile(sizes, batch=Range(2, 2, 3)))
    restored = restore_any_size(run, images, run.accepted)
    assert restored.shape == images.shape
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, images, atol=1e-6)


def test_a_constant_network_leaves_no_seam() -> None:
    restored = restore_any_size(lambda image: np.full_like(image, 0.7), noise(1, 200, 131, 3), profile(STATIC))
    np.testing.assert_allclose(restored, 0.7, atol=1e-6)


def test_tiles_that_disagree_meet_without_a_step() -> None:
    """Each run gives a constant, its number; without blending the picture would jump by 1 at the seam."""
    numbers = iter((0.0, 1.0))
    sizes = profile(Range(512, 512, 512))
    restored = restore_any_size(lambda image: np.full_like(image, next(numbers)), noise(1, 512, 960, 3), sizes)
    row = restored[0, 0, :, 0]
    assert (row[0], row[-1]) == (0, 1)
    assert (np.diff(row) >= -1e-6).all()
    assert np.abs(np.diff(row)).max() < 0.03  # pi / 2 / 64 pixels of overlap


@pytest.mark.parametrize(
    ("sizes", "height", "width", "shapes"),
    [
        (STATIC, 5, 9, {(1, 3, 32, 32)}),  # smaller than the export
        (STATIC, 32, 40, {(1, 3, 32, 32)}),  # tiled on one axis
        (DYNAMIC, 5, 17, {(1, 3, 16, 24)}),  # minimum, and the next multiple
        (DYNAMIC, 48, 48, {(1, 3, 48, 48)}),  # the maximum in one run
        (DYNAMIC, 49, 41, {(1, 3, 32, 48)}),  # too high: tiles of the optimum; the width fits
        (UNBOUNDED, 1, 1000, {(1, 3, 8, 1000)}),  # never tiled
    ],
)
def test_runs_have_the_expected_sizes(sizes: Range, height: int, width: int, shapes: set[tuple[int, ...]]) -> None:
    run = Recorder(profile(sizes))
    restore_any_size(run, noise(1, height, width, 3), run.accepted)
    assert set(run.shapes) == shapes


@pytest.mark.parametrize(
    ("batch", "accepted", "runs"),
    [
        (5, Range(1, 2, 2), [2, 2, 1]),
        (5, Range(4, 4, 4), [4, 4]),  # the last run is filled up
        (1, Range(3, 3, 3), [3]),
        (5, Range(1, 1, None), [5]),
    ],
)
def test_batches_are_split_and_filled(batch: int, accepted: Range, runs: list[int]) -> None:
    run = Recorder(profile(STATIC, accepted))
    images = noise(batch, 32, 32, 3)
    np.testing.assert_array_equal(restore_any_size(run, images, run.accepted), images)
    assert [shape[0] for shape in run.shapes] == runs


def test_progress_counts_every_run_up_to_the_total() -> None:
    seen: list[tuple[int, int]] = []
    restore_any_size(lambda image: image, noise(3, 60, 61, 3), profile(STATIC), lambda *step: seen.append(step))
    assert seen == [(done, 18) for done in range(1, 19)]


def test_the_input_is_left_alone() -> None:
    images = noise(1, 40, 40, 3)
    before = images.copy()
    restore_any_size(lambda image: np.multiply(image, 0, out=image), images, profile(STATIC))
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("shape", [(70, 50, 3), (2, 64, 64, 3)])
def test_a_session_gives_back_the_shape_it_was_given(shape: tuple[int, ...]) -> None:
    session = FakeSession()
    images = noise(*shape)
    restored = session(images)
    assert restored.shape == shape
    np.testing.assert_allclose(restored, 1 - images, atol=1e-6)
    assert set(session.shapes) == {(1, 3, 64, 64)}


def test_a_session_refuses_a_result_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    from serpent.errors import SerpentError

    session = FakeSession()
    monkeypatch.setattr(session, "run", lambda image: image * np.float32(np.nan))
    with pytest.raises(SerpentError, match="not finite") as caught:
        session(noise(8, 8, 3))
    assert caught.value.hint is not None
    assert "--precision fp32" in caught.value.hint


def test_tiles_can_be_asked_for_where_none_are_needed() -> None:
    run = Recorder(profile(UNBOUNDED))
    images = noise(1, 100, 61, 3)
    restored = restore_any_size(run, images, run.accepted, tiling=Tiling(32))
    np.testing.assert_allclose(restored, images, atol=1e-6)
    assert set(run.shapes) == {(1, 3, 32, 32)}
    assert len(run.shapes) == 4 * 3
    run.shapes.clear()
    restore_any_size(run, images, run.accepted, tiling=Tiling(32, overlap=0))
    assert len(run.shapes) == 4 * 2


def test_a_picture_smaller_than_a_tile_is_not_cut() -> None:
    run = Recorder(profile(UNBOUNDED))
    restore_any_size(run, noise(1, 30, 17, 3), run.accepted, tiling=Tiling(32))
    assert run.shapes == [(1, 3, 32, 24)]


@pytest.mark.parametrize(
    ("sizes", "tiling", "message"),
    [
        (STATIC, Tiling(64), "a tile of 64 pixels is not what the model takes, 32"),
        (STATIC, Tiling(16), "a tile of 16 pixels is not what the model takes, 32"),
        (STATIC, Tiling(33), "a tile of 33 pixels (at least 40, a multiple of 8) is not what the model takes, 32"),
        (DYNAMIC, Tiling("off"), "a side of 100 pixels exceeds what the model takes in one run, 16:32:48"),
        (DYNAMIC, Tiling(32, 32), "tiles of 32 pixels cannot overlap by 32"),
    ],
)
def test_tiles_that_the_model_does_not_take_are_refused(sizes: Range, tiling: Tiling, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        restore_any_size(lambda image: image, noise(1, 100, 100, 3), profile(sizes), tiling=tiling)
    assert caught.value.message == message
    assert caught.value.hint is not None
