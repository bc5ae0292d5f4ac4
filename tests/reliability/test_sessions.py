"""One session for thousands of pictures, and for many threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from serpent.runtime import open_session

if TYPE_CHECKING:
    from conftest import Record, Scaled

PICTURES = 10_000
MOST_GROWTH = 1000.0
"""Bytes of resident memory a picture may add."""
WARM_UP = 100


def resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def test_memory_stays_flat_over_thousands_of_pictures(
    checkpoint: Path, scaled: Scaled, record_property: Record
) -> None:
    count = scaled(PICTURES)
    rng = np.random.default_rng(0)
    picture = rng.random((64, 64, 3), dtype=np.float32)
    with open_session(checkpoint, "cpu", threads=1) as session:
        for _ in range(WARM_UP):
            session(picture)
        sizes = []
        for _ in range(count):
            session(picture)
            sizes.append(resident_bytes())
    # Noise of the allocator is in steps of megabytes: over few pictures the slope says nothing below that.
    slope = float(np.polyfit(np.arange(count), sizes, 1)[0])
    record_property("pictures", count)
    record_property("bytes_a_picture", round(slope, 1))
    assert slope < max(MOST_GROWTH, 2e6 / count), f"{slope:.0f} bytes a picture over {count} pictures"


@pytest.mark.parametrize("kind", ["checkpoint", "onnx"])
def test_threads_on_one_session_give_the_same_bits(
    kind: str, scaled: Scaled, record_property: Record, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue("checkpoint") if kind == "checkpoint" else request.getfixturevalue("exported").onnx
    rng = np.random.default_rng(1)
    pictures = [rng.random((40 + i % 17, 30 + i % 23, 3), dtype=np.float32) for i in range(scaled(400))]
    record_property("threads", 8)
    record_property("pictures", len(pictures))
    with open_session(model, "cpu", threads=1) as session:
        serial = [session(picture) for picture in pictures]
        with ThreadPoolExecutor(8) as pool:
            for expected, found in zip(serial, pool.map(session, pictures), strict=True):
                np.testing.assert_array_equal(found, expected)
