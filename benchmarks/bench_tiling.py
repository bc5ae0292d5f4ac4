"""Seams of tiles: degraded pictures in tiles against the same pictures whole, in 8-bit steps.

    python benchmarks/bench_tiling.py                       # B, weights of seed 0
    python benchmarks/bench_tiling.py --model B             # B, the weights that ship
    python benchmarks/bench_tiling.py --model my.safetensors --tiles 256 --overlaps 0,32,64

A pixel belongs to the seams where two tiles were blended, or within ``NEAR`` pixels of that or of a tile's edge; the
rest lies elsewhere. Weights of a seed are untrained: their scans forget slowly, and their response is far larger than
a restoration's, so that these errors bound no trained network's. The rms change of the pictures is reported with them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import os
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scan_bench.machine import cpu_model
from serpent.degradations import degrade, generator
from serpent.files import written_aside
from serpent.runtime.tiling import Tiling, plan_axis

NEAR = 8
RESULTS = Path(__file__).resolve().parent / "results"


def main() -> int:
    """Run, print, write."""
    options = parse_arguments()
    import serpent
    from serpent.runtime import open_session

    # What the network is made for: a restoration of sharp pictures would be no test of anything.
    pictures = {name: degrade(picture, "deblur", generator(0, name)) for name, picture in photographs().items()}
    with tempfile.TemporaryDirectory(prefix="serpent-bench-") as folder:
        path, weights = options.model, str(options.model and options.model.name)
        if path is None:
            path, weights = Path(folder) / "b.safetensors", "untrained (seed 0)"
            serpent.save_model(serpent.create_model("B", seed=0), path)
        with open_session(path, "cpu", threads=options.threads) as session:
            whole = {name: session(picture) for name, picture in pictures.items()}
            change = float(np.sqrt(np.mean([np.mean((whole[name] - pictures[name]) ** 2) for name in pictures])) * 255)
            rows = []
            for tile in options.tiles:
                for overlap in options.overlaps:
                    cut = Tiling(tile, overlap)
                    tiled = {name: session(picture, tiling=cut) for name, picture in pictures.items()}
                    rows.append({"tile": tile, "overlap": overlap, **compare(whole, tiled, tile, overlap)})
                    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    report = {
        "benchmark": "bench_tiling",
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "threads": options.threads},
        "versions": {
            "python": platform.python_version(),
            **{n: metadata.version(n) for n in ("torch", "scikit-image")},
        },
        "weights": weights,
        "rms_change_of_the_pictures": round(change, 2),
        "pictures": {name: list(picture.shape[:2]) for name, picture in pictures.items()},
        "near": NEAR,
        "rows": rows,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for path, text in (
        (options.output, json.dumps(report, indent=1)),
        (options.output.with_suffix(".md"), table(report)),
    ):
        with written_aside(path) as aside:
            aside.write_text(text + "\n", encoding="utf-8")
    print(table(report))
    return 0


def parse_arguments() -> argparse.Namespace:
    """The options."""

    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, help="any model file; default: B with the weights of seed 0")
    parser.add_argument("--tiles", default="128,256", type=numbers, help="default: 128,256")
    parser.add_argument("--overlaps", default="0,16,32,64", type=numbers, help="default: 0,16,32,64")
    parser.add_argument("--threads", default=1, type=int, help="default: 1")
    today = dt.datetime.now(dt.UTC).date()
    parser.add_argument(
        "--output", default=RESULTS / f"tiling-cpu-{today}.json", type=Path, help="JSON, and .md beside"
    )
    return parser.parse_args()


def photographs() -> dict[str, NDArray[np.float32]]:
    """Colour photographs that come with scikit-image itself, (H, W, 3) in [0, 1]."""
    from skimage import data

    return {
        name: getattr(data, name)()[..., :3].astype(np.float32) / np.float32(255)
        for name in ("astronaut", "coffee", "chelsea")
    }


def seam_mask(height: int, width: int, tile: int, overlap: int) -> NDArray[np.bool_]:
    """(H, W): whether a pixel lies within ``NEAR`` pixels of where tiles meet or are blended."""
    return _near(height, tile, overlap)[:, None] | _near(width, tile, overlap)[None]


def _near(side: int, tile: int, overlap: int) -> NDArray[np.bool_]:
    near = np.zeros(side, bool)
    if side > tile:
        starts = plan_axis(side, tile, overlap).starts
        for left, right in itertools.pairwise(starts):
            near[max(0, right - NEAR) : left + tile + NEAR] = True
    return near


def compare(
    whole: dict[str, NDArray[np.float32]], tiled: dict[str, NDArray[np.float32]], tile: int, overlap: int
) -> dict[str, Any]:
    """Mean and largest difference in 8-bit steps over all pictures, at the seams and elsewhere."""
    parts: dict[str, list[NDArray[np.float32]]] = {"seams": [], "elsewhere": []}
    for name, expected in whole.items():
        steps = np.abs(tiled[name] - expected) * np.float32(255)
        mask = seam_mask(*steps.shape[:2], tile, overlap)
        parts["seams"].append(steps[mask].ravel())
        parts["elsewhere"].append(steps[~mask].ravel())
    figures: dict[str, Any] = {}
    for part, values in parts.items():
        steps = np.concatenate(values)
        figures[part] = (
            {"mean": round(float(steps.mean()), 3), "max": round(float(steps.max()), 2)} if steps.size else None
        )
    return figures


def table(report: dict[str, Any]) -> str:
    """The rows as markdown."""
    change = report["rms_change_of_the_pictures"]
    lines = [
        f"# Tiles against whole pictures, {report['date'][:10]}",
        "",
        f"{report['machine']['cpu']}, PyTorch {report['versions']['torch']}.",
        f"Weights: {report['weights']}; they change the pictures by {change} steps rms.",
        f"Differences in 8-bit steps; seams: up to {report['near']} pixels from where tiles meet or are blended.",
        "",
        "| tile | overlap | seams, mean | seams, max | elsewhere, mean | elsewhere, max |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        cells = [
            f"{row[part][key]}" if row[part] else "-" for part in ("seams", "elsewhere") for key in ("mean", "max")
        ]
        lines.append(f"| {row['tile']} | {row['overlap']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
