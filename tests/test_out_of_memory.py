"""Where memory runs out, smaller tiles are tried, and a line says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serpent import native
from serpent.errors import OutOfMemoryError
from serpent.pictures import Picture
from serpent.runtime import open_session, restore_picture
from serpent.runtime.tiling import Tiling, smaller_tile
from serpent.shapes import Range
from tests.fakes import FakeSession, profile

PIXELS = np.random.default_rng(0).random((700, 500, 3), dtype=np.float32)


class SmallMemory(FakeSession):
    """Takes any size, and has memory for ``most`` pixels."""

    def __init__(self, most: int) -> None:
        super().__init__()
        object.__setattr__(self.info, "profile", profile(Range(8, 8, None)))
        self.most = most

    def run(self, image: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        if image.shape[-2] * image.shape[-1] > self.most:
            raise OutOfMemoryError(f"{image.shape[-1]}x{image.shape[-2]} pixels exceed the memory")
        return super().run(image)


def test_smaller_tiles_are_tried_until_they_fit() -> None:
    session = SmallMemory(200 * 200)
    restored = restore_picture(session, Picture(PIXELS, notes=("before",)))
    np.testing.assert_allclose(restored.pixels, 1 - PIXELS, atol=1e-6)
    assert {shape[-2:] for shape in session.shapes} == {(168, 168)}
    assert restored.notes == (
        "before",
        "504x704 pixels exceed the memory; going on in tiles of 344x344",
        "344x344 pixels exceed the memory; going on in tiles of 168x168",
    )


@pytest.mark.parametrize(
    ("raised", "shown"),
    [
        (MemoryError("Unable to allocate 28.8 MiB for an array"), "memory ran out; going on in tiles of 344x344"),
        (OutOfMemoryError("out of memory"), "out of memory; going on in tiles of 344x344"),
    ],
)
def test_memory_of_what_lies_around_the_network_counts_as_well(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, shown: str
) -> None:
    session = SmallMemory(400 * 400)

    def run(image: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        if image.shape[-1] > 400:
            raise raised
        return 1 - image

    monkeypatch.setattr(session, "run", run)
    assert restore_picture(session, Picture(PIXELS)).notes == (shown,)


def test_the_kernels_own_memory_running_out_is_told_apart(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status of the C interface, through PyTorch's operator."""
    library = native.library()
    scan = library._c.serpent_scan_cpu

    def exhausted(shape: Any, *others: Any) -> int:
        return 3 if shape._obj.width > 64 else int(scan(shape, *others))

    monkeypatch.setattr(library._c, "serpent_scan_cpu", exhausted)
    with open_session(checkpoint, "cpu", threads=1) as session:
        restored = restore_picture(session, Picture(PIXELS[:200, :200]))
    assert restored.notes == ("out of memory; going on in tiles of 100x100",)


def test_transparency_does_not_try_again_what_was_too_large() -> None:
    session = SmallMemory(400 * 400)
    restored = restore_picture(session, Picture(PIXELS, PIXELS[..., 0]))
    assert len(restored.notes) == 1
    assert restored.alpha is not None


def test_nothing_is_tried_where_tiles_are_off_or_too_small() -> None:
    with pytest.raises(OutOfMemoryError):
        restore_picture(SmallMemory(200 * 200), Picture(PIXELS), tiling=Tiling("off"))
    with pytest.raises(OutOfMemoryError):
        restore_picture(SmallMemory(10), Picture(PIXELS))


@pytest.mark.parametrize(
    ("tiling", "sizes", "expected"),
    [
        (Tiling(), Range(8, 8, None), Tiling(344)),
        (Tiling(256, 32), Range(8, 8, None), Tiling(128, 32)),
        (Tiling(256, 200), Range(8, 8, None), Tiling(128)),
        (Tiling(), Range(128, 512, 640), Tiling(256)),
        (Tiling(), Range(512, 512, 512), None),
        (Tiling(120), Range(8, 8, None), None),
    ],
)
def test_the_next_tile(tiling: Tiling, sizes: Range, expected: Tiling | None) -> None:
    assert smaller_tile(tiling, 700, 500, profile(sizes)) == expected
