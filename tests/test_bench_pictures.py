"""The pictures benchmark's figures."""

from __future__ import annotations

import pytest

from bench_pictures import judge


def test_what_is_not_the_session_is_a_share_of_the_whole() -> None:
    promises = judge({"session": 90.0, "jpg": 95.0, "png": 120.0})
    assert promises["jpg"] == {"share": pytest.approx(0.0526, abs=1e-4), "limit": 0.10, "kept": True}
    assert promises["png"] == {"share": 0.25, "limit": 0.20, "kept": False}
