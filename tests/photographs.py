"""Made pictures that are like photographs where a Wiener filter or a metric looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def photo(seed: int, height: int, width: int) -> NDArray[np.float32]:
    """Edges and ramps under fine noise, colours correlated as in photographs."""
    random = np.random.default_rng(seed)
    y, x = np.indices((height, width))
    gray = np.zeros((height, width))
    for _ in range(12):
        angle, offset = random.uniform(0, 2 * np.pi), random.uniform(-0.4, 0.4) * min(height, width)
        side = np.cos(angle) * (x - width / 2) + np.sin(angle) * (y - height / 2) > offset
        gray += random.uniform(0, 0.15) * side
    color = gray[..., None] * random.uniform(0.7, 1, 3) + random.normal(0, 0.01, (height, width, 3))
    return np.clip(color, 0, 1).astype(np.float32)


def saved(folder: Path, *names: str, height: int = 60, width: int = 70) -> Path:
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        levels = np.rint(photo(index, height, width) * 255).astype(np.uint8)
        Image.fromarray(levels).save(folder / name)
    return folder
