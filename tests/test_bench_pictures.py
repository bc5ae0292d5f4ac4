"""The pictures benchmark's figures."""

from __future__ import annotations

import pytest

from bench_pictures import judge


def test_what_is_not_the_session_is_a_share_of_the_whole() -> None:
    # A block of the session beside each format is the mean of the turns before and after it.
    bare = [[88.0, 92.0, 88.0], [90.0, 90.0, 90.0], [180.0, 180.0, 180.0]]
    promises = judge(bare, {"jpg": [95.0, 100.0, 190.0], "png": [120.0, 100.0, 240.0]})
    shares = {"share": 1 - 90 / 95, "blocks": [1 - 90 / 95, 0.1], "limit": 0.10, "kept": True}
    assert promises["jpg"] == {name: pytest.approx(value, abs=1e-4) for name, value in shares.items()}
    assert promises["png"] == {"share": 0.25, "blocks": [0.1, 0.25], "limit": 0.20, "kept": False}
