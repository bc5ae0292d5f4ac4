"""Time and peak memory of ONNX Runtime with the native scan, beside PyTorch with the same scan.

    python benchmarks/bench_runtime.py                       # B and H at 512
    python benchmarks/bench_runtime.py --variants B --res 256 --repeats 2

First the results are checked: both runs against PyTorch in f64, within the bound of the parity certificate. Only
then they are timed, each in fresh processes of its own, in turn, so that a slow minute of the machine meets both.
Needs Linux (peak memory is read from /proc) and the extras ``torch`` and ``onnx``.
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
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from serpent import native
from serpent.config import SerpentConfig
from serpent.files import written_aside
from serpent.shapes import parse_profile

Backend = Literal["onnxruntime", "torch"]
BACKENDS: tuple[Backend, ...] = ("onnxruntime", "torch")
TITLES = {"onnxruntime": "ONNX Runtime", "torch": "PyTorch"}
RESULTS = Path(__file__).resolve().parent / "results"
MAX_GLUE = 0.05
MAX_MEMORY_RATIO = 1.3
MAX_OTHERS = 0.05
RUNS_PER_PROCESS = 3

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class RunSeconds:
    """One run: all of it, the native scan kernel in it, and the operators outside the scan.

    PyTorch gives no time of its operators apart from what lies between them; there, glue counts as operators.
    """

    total: float
    scan: float
    operators: float

    @property
    def glue(self) -> float:
        return self.total - self.scan - self.operators


@dataclass(frozen=True)
class Measured:
    """What one process saw: its timed runs, its memory before the first run, and its peak, in bytes."""

    runs: list[RunSeconds]
    loaded_bytes: int
    peak_bytes: int


def main() -> int:
    """Check, time, print, write; the exit code is 1 when a result is wrong."""
    # Here, since it imports torch, whose memory must not count in the processes that are measured.
    from scan_bench.machine import cpu_model

    options = parse_arguments()
    load = os.getloadavg()[0]
    results: dict[str, Any] = {}
    failed = False
    with tempfile.TemporaryDirectory(prefix="serpent-bench-") as name:
        for variant in options.variants:
            folder = Path(name)
            say(f"{variant}: preparing the files")
            in_fresh_process(prepare, variant, options.res, folder)
            check = check_results(variant, options.res, options.threads, folder)
            failed |= not check["passed"]
            results[variant] = {"check": check}
            print(f"{variant}: {check['statement']}", flush=True)
            if check["passed"]:
                results[variant] |= measure(variant, options, folder)
    timed = {variant: result for variant, result in results.items() if "promises" in result}
    print_table(timed)
    report = {
        "benchmark": "bench_runtime",
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "load_before": round(load, 2)},
        "versions": versions(),
        "options": {"res": options.res, "repeats": options.repeats, "threads": options.threads},
        "runs_per_process": RUNS_PER_PROCESS,
        "results": results,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(options.output) as aside:
        aside.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"\n{options.output}")
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    """The options, valid."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--variants", default="B,H", type=lambda text: text.upper().split(","), help="default: B,H")
    parser.add_argument("--res", default="512", help="side in pixels, or HxW; default: 512")
    parser.add_argument("--repeats", default=3, type=int, help="processes of each backend; default: 3")
    parser.add_argument("--threads", default=native.default_threads(), type=int, help="default: all CPUs")
    today = dt.datetime.now(dt.UTC).date()
    parser.add_argument("--output", default=RESULTS / f"runtime-cpu-{today}.json", type=Path, help="JSON file")
    options = parser.parse_args()
    if min(options.repeats, options.threads) < 1:
        parser.error("--repeats and --threads must be at least 1")
    try:
        for variant in options.variants:
            parse_profile(SerpentConfig.from_variant(variant), options.res)
    except ValueError as error:
        parser.error(str(error))
    return options


def in_fresh_process(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call ``function`` in a new interpreter, whose peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def file_of(folder: Path, variant: str, backend: Backend) -> Path:
    """Where :func:`prepare` writes the file that a backend runs."""
    return folder / (f"{variant}.onnx" if backend == "onnxruntime" else f"{variant}.safetensors")


def prepare(variant: str, resolution: str, folder: Path) -> None:
    """Write the network with the weights of seed 0 as a checkpoint and as an ONNX file."""
    import serpent
    from serpent.runtime.onnx_file import serialize
    from serpent_export.canonical import add_metadata, finish
    from serpent_export.tracing import trace

    model = serpent.create_model(variant, seed=0)
    serpent.save_model(model, file_of(folder, variant, "torch"))
    profile = parse_profile(model.config, resolution)
    graph = finish(trace(model, profile, "fp32"), name=f"bench-{variant}")
    fields = {"config": json.dumps(model.config.to_dict()), "profile": json.dumps(profile.to_dict())}
    add_metadata(graph, {**fields, "task": "deblur", "precision": "fp32", "weights": "untrained"})
    file_of(folder, variant, "onnxruntime").write_bytes(serialize(graph))


def make_image(variant: str, resolution: str) -> NDArray[np.float32]:
    """The test picture of the parity certificate, (1, 3, H, W)."""
    from serpent.runtime.sample_picture import picture_recipe

    profile = parse_profile(SerpentConfig.from_variant(variant), resolution)
    return picture_recipe(profile.height.min, profile.width.min)[1]


def check_results(variant: str, resolution: str, threads: int, folder: Path) -> dict[str, Any]:
    """Compare both backends with PyTorch in f64: ONNX Runtime may err as the parity certificate allows."""
    image_path = folder / f"{variant}.npy"
    np.save(image_path, make_image(variant, resolution))
    say(f"{variant}: computing the result in f64")
    truth = in_fresh_process(run_f64, file_of(folder, variant, "torch"), image_path)
    results = {}
    for backend in BACKENDS:
        say(f"{variant}: checking {TITLES[backend]}")
        results[backend] = in_fresh_process(run_once, backend, file_of(folder, variant, backend), image_path, threads)
    errors = {backend: float(np.abs(result - truth).max()) for backend, result in results.items()}
    limit = 2 * errors["torch"] + 2.0**-24 * float(np.abs(truth).max())
    between = float(np.abs(results["onnxruntime"] - results["torch"]).max())
    changed = float(np.sqrt(np.mean((truth - np.load(image_path)) ** 2)))
    # A network that changes nothing would pass whatever its file holds; "<=" also fails on NaN.
    passed = errors["onnxruntime"] <= limit and changed >= 0.01
    return {
        "passed": passed,
        "statement": f"{'passed' if passed else 'FAILED'}: max |d| from f64 is {errors['onnxruntime']:.2e} for ONNX "
        f"Runtime (limit {limit:.2e}) and {errors['torch']:.2e} for PyTorch; {between:.2e} between the two",
        "max_error": errors,
        "limit": limit,
        "max_difference": between,
        "rms_change_of_the_picture": changed,
    }


def run_f64(checkpoint: Path, image_path: Path) -> NDArray[np.float64]:
    """The network's result in f64, by PyTorch."""
    import torch

    import serpent

    with torch.inference_mode():
        model = serpent.load_model(checkpoint).double()
        restored: NDArray[np.float64] = model(torch.from_numpy(np.load(image_path)).double()).numpy()
    return restored


def run_once(backend: Backend, path: Path, image_path: Path, threads: int) -> NDArray[np.float32]:
    """A backend's result."""
    with open_backend(backend, path, threads) as session:
        restored: NDArray[np.float32] = session.run(np.load(image_path))
    return restored


def measure(variant: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Time both backends in turn and hold the promises against the medians."""
    measured: dict[Backend, list[Measured]] = {backend: [] for backend in BACKENDS}
    start, all_before, own_before = time.perf_counter(), *cpu_seconds()
    for repeat in range(options.repeats):
        for backend in BACKENDS:
            say(f"{variant}: timing {TITLES[backend]}, {repeat + 1} of {options.repeats}")
            path = file_of(folder, variant, backend)
            seen = in_fresh_process(time_runs, backend, path, folder / f"{variant}.npy", options.threads)
            measured[backend].append(seen)
    all_after, own_after = cpu_seconds()
    available = (time.perf_counter() - start) * (os.cpu_count() or 1)
    others = max(0.0, (all_after - all_before) - (own_after - own_before)) / available
    if others > MAX_OTHERS:
        say(f"warning: other processes took {others:.0%} of the machine: the times of {variant} are too long")
    backends = {backend: summarise(processes) for backend, processes in measured.items()}
    onnx, torch = backends["onnxruntime"], backends["torch"]
    glue = statistics.median(run.glue / run.total for process in measured["onnxruntime"] for run in process.runs)
    memory = onnx["peak_bytes"]["median"] / torch["peak_bytes"]["median"]
    return {
        "backends": backends,
        "cpu_share_of_other_processes": round(others, 3),
        "time_ratio": onnx["total"]["median"] / torch["total"]["median"],
        "promises": {
            "glue": {"ratio": glue, "limit": MAX_GLUE, "kept": glue <= MAX_GLUE},
            "peak_memory": {"ratio": memory, "limit": MAX_MEMORY_RATIO, "kept": memory <= MAX_MEMORY_RATIO},
        },
    }


def time_runs(backend: Backend, path: Path, image_path: Path, threads: int) -> Measured:
    """One warm-up and then timed runs in this process."""
    image: NDArray[np.float32] = np.load(image_path)
    library = native.library()
    scan_cpu, in_scan = library.scan_cpu, 0.0

    def timed(*arguments: Any) -> None:
        nonlocal in_scan
        start = time.perf_counter()
        scan_cpu(*arguments)
        in_scan += time.perf_counter() - start

    runs = []
    # Both backends call this one method, so the kernel is timed alike in both.
    with mock.patch.object(library, "scan_cpu", timed), open_backend(backend, path, threads) as session:
        loaded = memory_bytes("VmRSS")
        for _ in range(1 + RUNS_PER_PROCESS):
            in_scan = 0.0
            start = time.perf_counter()
            session.run(image)
            total = time.perf_counter() - start
            operators = session.times.segments if backend == "onnxruntime" else total - in_scan
            runs.append(RunSeconds(total, in_scan, operators))
    return Measured(runs[1:], loaded, memory_bytes("VmHWM"))


def open_backend(backend: Backend, path: Path, threads: int) -> Any:
    """A session; its ``run`` is what gets timed, without padding, tiling and clipping."""
    from serpent.runtime import open_session

    return open_session(path, "cpu", scan="native" if backend == "onnxruntime" else None, threads=threads)


def cpu_seconds() -> tuple[float, float]:
    """CPU time since the start: of the whole machine, and of this process with those it has waited for."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    own = os.times()
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy, own.user + own.system + own.children_user + own.children_system


def memory_bytes(field: str) -> int:
    """A field of /proc/self/status. Unlike getrusage, it does not know of the memory before exec."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def summarise(processes: list[Measured]) -> dict[str, Any]:
    """Medians and ranges over all runs of all processes, and the runs themselves."""
    runs = [run for process in processes for run in process.runs]
    return {
        **{part: spread([getattr(run, part) for run in runs]) for part in ("total", "scan", "operators", "glue")},
        "loaded_bytes": spread([process.loaded_bytes for process in processes]),
        "peak_bytes": spread([process.peak_bytes for process in processes]),
        "runs": [asdict(run) for run in runs],
    }


def spread(values: list[float] | list[int]) -> dict[str, float]:
    """Median, smallest, largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def print_table(results: dict[str, Any]) -> None:
    """Medians in seconds, with the fastest and the slowest run."""
    print("\n| network | runtime | run, s (min to max) | scan, s | operators, s | glue, s | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for variant, result in results.items():
        for backend in BACKENDS:
            row = result["backends"][backend]
            total, peak = row["total"], row["peak_bytes"]["median"] / 1e6
            glue = f"{row['glue']['median']:.4f}" if backend == "onnxruntime" else "in operators"
            print(
                f"| {variant} | {TITLES[backend]} | {total['median']:.3f} ({total['min']:.3f} to {total['max']:.3f}) | "
                f"{row['scan']['median']:.3f} | {row['operators']['median']:.3f} | {glue} | {peak:.0f} |"
            )
    for variant, result in results.items():
        promises = result["promises"]
        glue, memory = promises["glue"], promises["peak_memory"]
        print(f"\n{variant}: time {result['time_ratio']:.2f} x PyTorch's")
        print(f"{variant}: other processes took {result['cpu_share_of_other_processes']:.0%} of the machine meanwhile")
        print(f"{variant}: glue {glue['ratio']:.2%} of the run, promised {glue['limit']:.0%}: {verdict(glue)}")
        print(
            f"{variant}: peak memory {memory['ratio']:.2f} x PyTorch's, promised {memory['limit']}: {verdict(memory)}"
        )


def verdict(promise: dict[str, Any]) -> str:
    """Whether a promise was kept, in a word."""
    return "kept" if promise["kept"] else "MISSED"


def versions() -> dict[str, str]:
    """What took part."""
    import serpent

    packages = {name: metadata.version(name) for name in ("torch", "onnxruntime", "numpy")}
    return {"serpent": serpent.__version__, "python": platform.python_version(), **packages}


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
