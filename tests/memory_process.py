"""One picture through one session in a process of its own: predicted and measured peak, as JSON on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from serpent.pictures import Picture
from serpent.runtime import open_session, restore_picture
from serpent.runtime.memory_plan import MemoryPlan


def main(model: str, sizes: list[str], options: dict[str, str]) -> None:
    plans: list[MemoryPlan] = []
    with open_session(Path(model), "cpu", threads=1, **options) as session:  # type: ignore[arg-type]
        figures = []
        for size in sizes:
            height, width = map(int, size.split("x"))
            picture = Picture(np.random.default_rng(0).random((height, width, 3), dtype=np.float32))
            restore_picture(session, picture, on_plan=plans.append)
            figures.append([plans[-1].predicted, session.memory().peak])
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2].split(","), dict(option.split("=") for option in sys.argv[3:]))
