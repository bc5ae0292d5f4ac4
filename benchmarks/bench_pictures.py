"""Picture files end to end, beside the bare session on the same pictures already decoded, in the same run.

    python benchmarks/bench_pictures.py                     # B, 200 crops of 512x512, JPEG and PNG

Crops of scikit-image's photographs are written as JPEG and as PNG and restored by the pipeline behind
``serpent-infer FOLDER``. Blocks of the bare session and of each format take turns, each format between two turns of the
session, so that a slow minute of the machine meets all. What is not the network's own time is what the pipeline takes
beyond the bare session. The promise is judged by the median over the blocks; what they span says how sure it is.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scan_bench.machine import cpu_model
from serpent import native
from serpent.files import written_aside

if TYPE_CHECKING:
    from serpent.runtime.session import Session

RESULTS = Path(__file__).resolve().parent / "results"
LIMITS = {"jpg": 0.10, "png": 0.20}
SIDE = 512


def main() -> int:
    """Time, print, write; the exit code is 1 when a promise is missed."""
    options = parse_arguments()
    import serpent
    from serpent.pictures import read_picture
    from serpent.pictures.jobs import Job
    from serpent.runtime import open_session
    from serpent.runtime.batch import BatchOptions, restore_many

    seconds: dict[str, list[float]] = {kind: [] for kind in LIMITS}
    bare: list[list[float]] = []  # of each block: before, between and after the formats
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="serpent-bench-") as name:
        folder = Path(name)
        serpent.save_model(serpent.create_model("B", seed=0), folder / "b.safetensors")
        sources = {kind: write_crops(folder, kind, options.count) for kind in LIMITS}
        with open_session(folder / "b.safetensors", "cpu", threads=options.threads) as session:
            session(np.zeros((SIDE, SIDE, 3), np.float32))
            for first in range(0, options.count, options.block):
                block = slice(first, first + options.block)
                decoded = [read_picture(path).pixels for path in sources["png"][block]]
                bare.append([bare_seconds(session, decoded)])
                for kind, paths in sources.items():
                    jobs = [Job(path, path.with_name(f"{path.stem}_restored.{kind}")) for path in paths[block]]
                    start = time.perf_counter()
                    failed = [outcome for outcome in restore_many([session], jobs, BatchOptions()) if outcome.error]
                    seconds[kind].append(time.perf_counter() - start)
                    bare[-1].append(bare_seconds(session, decoded))
                    if failed:
                        raise SystemExit(f"{failed[0].job.source}: {failed[0].error}")
                print(f"{first + len(decoded)} of {options.count}", file=sys.stderr, flush=True)
    promises = judge(bare, seconds)
    report = {
        "benchmark": "bench_pictures",
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "load_before": round(load, 2)},
        "versions": {
            "python": platform.python_version(),
            **{each: metadata.version(each) for each in ("torch", "numpy", "pyvips", "scikit-image")},
        },
        "options": {"count": options.count, "side": SIDE, "threads": options.threads, "block": options.block},
        "seconds": {
            "session": [[round(value, 2) for value in turns] for turns in bare],
            **{kind: [round(value, 2) for value in values] for kind, values in seconds.items()},
        },
        "promises": promises,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(options.output) as aside:
        aside.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))
    return 0 if all(promise["kept"] for promise in promises.values()) else 1


def bare_seconds(session: Session, decoded: list[NDArray[np.float32]]) -> float:
    """Seconds of the session alone."""
    start = time.perf_counter()
    for pixels in decoded:
        session(pixels)
    return time.perf_counter() - start


def judge(bare: list[list[float]], seconds: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """For each format the share of the end-to-end time that is not the bare session's, and whether it is in bounds.

    Args:
        bare: for each block the session's seconds before the first format and after each.
        seconds: for each format, of each block.
    """
    promises = {}
    for number, kind in enumerate(seconds):
        around = [(turns[number] + turns[number + 1]) / 2 for turns in bare]
        shares = [1 - session / both for session, both in zip(around, seconds[kind], strict=True)]
        share = statistics.median(shares)
        promises[kind] = {
            "share": round(share, 4),
            "blocks": [round(min(shares), 4), round(max(shares), 4)],
            "limit": LIMITS[kind],
            "kept": share < LIMITS[kind],
        }
    return promises


def write_crops(folder: Path, kind: str, count: int) -> list[Path]:
    """``count`` crops of photographs as files of ``kind``; the same pixels for each kind."""
    from serpent.pictures import Picture, write_picture

    random = np.random.default_rng(0)
    photographs = large_photographs()
    paths = []
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        top, left = (int(random.integers(0, side - SIDE + 1)) for side in photograph.shape[:2])
        crop = photograph[top : top + SIDE, left : left + SIDE].astype(np.float32) / np.float32(255)
        paths.append(folder / f"{index:03d}.{kind}")
        write_picture(paths[-1], Picture(np.ascontiguousarray(crop)))
    return paths


def large_photographs() -> list[NDArray[np.uint8]]:
    """Photographs that come with scikit-image itself, enlarged by whole pixels where they are below 512."""
    from skimage import data

    pictures: list[NDArray[np.uint8]] = []
    for name in ("astronaut", "coffee", "chelsea"):
        picture = getattr(data, name)()[..., :3]
        factor = -(-SIDE // min(picture.shape[:2]))
        pictures.append(picture.repeat(factor, axis=0).repeat(factor, axis=1))
    return pictures


def parse_arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", default=200, type=int, help="crops; default: 200")
    parser.add_argument("--block", default=25, type=int, help="pictures between turns; default: 25")
    parser.add_argument("--threads", default=native.default_threads(), type=int, help="default: all CPUs")
    today = dt.datetime.now(dt.UTC).date()
    parser.add_argument("--output", default=RESULTS / f"pictures-cpu-{today}.json", type=Path, help="JSON file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
