"""A session that needs no model, for tests of what lies around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serpent.config import SerpentConfig
from serpent.runtime.session import Session, SessionInfo
from serpent.shapes import Range, ShapeProfile


def profile(side: Range, batch: Range | None = None, multiple: int = 8) -> ShapeProfile:
    """The same range for height and width; one picture per run by default."""
    return ShapeProfile(batch or Range(1, 1, 1), side, side, multiple)


class FakeSession(Session):
    """Gives back 1 - image, and remembers the shapes that it was run with."""

    def __init__(self, path: Path = Path("fake.onnx"), notes: tuple[str, ...] = ()) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.closed = False
        self.info = SessionInfo(
            path=path,
            backend="onnxruntime",
            config=SerpentConfig.from_variant("H"),
            task="deblur",
            precision="fp32",
            weights="untrained",
            profile=profile(Range(64, 64, 64)),
            device="cpu",
            scan="native",
            notes=notes,
        )

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.append(image.shape)
        return 1 - image

    def close(self) -> None:
        self.closed = True
