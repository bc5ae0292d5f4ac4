"""Which pixels the tiling benchmark counts as seams, and its figures."""

from __future__ import annotations

import numpy as np

from bench_tiling import NEAR, compare, seam_mask


def test_seams_are_where_tiles_meet() -> None:
    mask = seam_mask(32, 120, 64, 8)  # columns 0..63 and 56..119; one row of tiles
    assert mask.shape == (32, 120)
    assert np.flatnonzero(mask[0]).tolist() == list(range(56 - NEAR, 64 + NEAR))
    assert not seam_mask(64, 64, 64, 8).any()


def test_tiles_that_touch_have_a_seam() -> None:
    assert np.flatnonzero(seam_mask(8, 128, 64, 0)[0]).tolist() == list(range(64 - NEAR, 64 + NEAR))


def test_differences_are_in_8_bit_steps_and_told_apart() -> None:
    whole = np.zeros((32, 120, 3), np.float32)
    tiled = whole.copy()
    tiled[:, 60] = 3 / 255
    tiled[0, 0] = 1 / 255
    figures = compare({"a": whole}, {"a": tiled}, 64, 8)
    assert figures["seams"] == {"mean": round(3 / (8 + 2 * NEAR), 3), "max": 3.0}
    assert figures["elsewhere"]["max"] == 1.0
