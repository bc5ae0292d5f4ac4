"""Padding reflects, then repeats the edge; cropping undoes it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serpent.errors import ArgumentError
from serpent.padding import crop, pad, round_up

SIDES = st.integers(1, 12)


@pytest.mark.parametrize(
    ("side", "multiple", "expected"), [(1, 8, 8), (7, 8, 8), (8, 8, 8), (9, 8, 16), (512, 32, 512)]
)
def test_rounds_up(side: int, multiple: int, expected: int) -> None:
    assert round_up(side, multiple) == expected


def test_reflects_without_repeating_the_last_row_then_repeats_the_outermost() -> None:
    row = np.array([10, 11, 12, 13])[None, :, None]
    assert pad(row, 1, 10).ravel().tolist() == [10, 11, 12, 13, 12, 11, 10, 10, 10, 10]
    assert pad(row, 3, 4)[:, 0, 0].tolist() == [10, 10, 10]
    assert pad(row.transpose(1, 0, 2), 6, 1).ravel().tolist() == [10, 11, 12, 13, 12, 11]


@given(SIDES, SIDES, SIDES, SIDES)
def test_agrees_with_numpy_and_is_undone_by_crop(height: int, width: int, more_rows: int, more_columns: int) -> None:
    images = np.random.default_rng(0).random((2, height, width, 3), dtype=np.float32)
    padded = pad(images, height + more_rows, width + more_columns)
    down, right = min(more_rows, height - 1), min(more_columns, width - 1)
    expected = np.pad(images, ((0, 0), (0, down), (0, right), (0, 0)), mode="reflect")
    rest = ((0, 0), (0, more_rows - down), (0, more_columns - right), (0, 0))
    np.testing.assert_array_equal(padded, np.pad(expected, rest, mode="edge"))
    np.testing.assert_array_equal(crop(padded, height, width), images)
    assert padded.dtype == np.float32


def test_a_picture_without_a_batch_axis_is_padded_alike() -> None:
    image = np.arange(2 * 3 * 3).reshape(2, 3, 3)
    np.testing.assert_array_equal(pad(image, 5, 8), pad(image[None], 5, 8)[0])


def test_refuses_to_shrink_and_empty_or_flat_input() -> None:
    image = np.zeros((4, 5, 3))
    with pytest.raises(ArgumentError, match="cannot pad 4x5 to 3x5"):
        pad(image, 3, 5)
    with pytest.raises(ArgumentError, match="cannot crop 4x5 to 4x6"):
        crop(image, 4, 6)
    with pytest.raises(ArgumentError, match="cannot crop 4x5 to 0x5"):
        crop(image, 0, 5)
    with pytest.raises(ArgumentError, match=r"shape \(4, 0, 3\)"):
        pad(np.zeros((4, 0, 3)), 8, 8)
    with pytest.raises(ArgumentError, match=r"shape \(4, 5\)"):
        pad(image[..., 0], 8, 8)
