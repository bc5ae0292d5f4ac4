"""Time and error of the selective scan, beside its peers and beside what the machine can do at most.

    python benchmarks/bench_scan.py                                # CPU: the four scales of H at 512, 1 and 2 threads
    python benchmarks/bench_scan.py --shapes 64x6x2x40x30 --rows serpent,scalar --threads 2
    python benchmarks/bench_scan.py --device cuda --json figures.json

Each result is checked first; one that misses its bound is reported as wrong and not timed. Then everything of one
shape is timed in turn, so that a slow minute of the machine meets all rows alike, and ratios are taken round by round.
Needs torch and a C++ compiler, for the ceilings of a GPU nvcc. Exit status: 1 when a result of this project is
wrong or a device fails, 2 when the options are wrong or a compiler is missing, 130 after Ctrl-C, else 0. What was
measured before a failure or Ctrl-C is reported all the same. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scan_bench import ceilings as limits
from scan_bench.group import TIME_LIMIT, Run, forced_settings, measure, say
from scan_bench.machine import describe, versions
from scan_bench.problem import BOUNDARIES, DTYPES, parse_shapes
from scan_bench.records import Ceiling, Record, with_rates
from scan_bench.report import markdown
from scan_bench.rows import ROWS, Row, available_instruction_sets, best_isa, rows_for
from scan_bench.timing import Plan
from scan_bench.verdicts import Verdict, cpu_verdicts, cuda_verdicts
from serpent.errors import SerpentError
from serpent.files import written_aside

SCHEMA = 1
DEFAULT_SHAPES = {"cpu": "s0,s1,s2,s3", "cuda": "s0,s1,s2,s3,b0,b1,b2,b3"}
DEFAULT_DTYPE = {"cpu": "f32", "cuda": "bf16"}
DEFAULT_ROWS = {"cpu": list(ROWS), "cuda": ["serpent", "chunked", "compiled", "mamba"]}

LATE = ("reference", "compiled")
LATE_S = 60.0
"""Before the time limit nothing of LATE is begun any more: a compiler cannot be told to hurry."""

INTERRUPTED = "interrupted"


def main(arguments: list[str] | None = None) -> int:
    """Check, time, print, write."""
    options = parse_arguments(arguments)
    start = time.perf_counter()
    try:
        head, found, records, verdicts = benchmark(options, start)
    except SerpentError as error:
        print(f"bench_scan: {error}", file=sys.stderr)
        return 2
    page = markdown(head, options.shapes, found, records, verdicts)
    if options.markdown is None:
        print(page)
    else:
        write(options.markdown, page)
    if options.json is not None:
        report = {
            **head,
            "seconds": round(time.perf_counter() - start, 1),
            "shapes": [vars(shape) for shape in options.shapes],
            "ceilings": [vars(ceiling) for ceiling in found],
            "results": [record.to_dict() for record in records],
            "verdicts": [verdict.to_dict() for verdict in verdicts],
        }
        write(options.json, json.dumps(report, indent=1) + "\n")
    if "ended_early" in head:
        return 130 if head["ended_early"] == INTERRUPTED else 1
    return 1 if any(record.status == "wrong" and record.row == "serpent" for record in records) else 0


def write(path: Path, text: str) -> None:
    """Write a file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")
    say(f"written: {path}")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The options, valid and complete."""
    form = argparse.RawDescriptionHelpFormatter
    rows = "\n".join(f"  {name:10} {what}" for name, what in ROWS.items())
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog=f"rows:\n{rows}", formatter_class=form
    )
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--shapes", help="s0 to s3 (H at 512), b0 to b3 (B at 512), or DxNxRxHxW; default: all of the device")
    add("--dtype", choices=tuple(DTYPES), help="storage type; default: f32 on the CPU, bf16 on CUDA")
    add("--decay", choices=("usual", "slow"), default="usual", help="slow: dt in 1e-4 .. 1e-3, A near -1")
    add("--boundaries", default=",".join(BOUNDARIES), help="default: core,ss2d,block")
    add("--rows", help="default: all, on CUDA without scalar and reference")
    add("--threads", default="1,2", help="CPU thread counts; default: 1,2")
    add("--repeats", type=int, default=7, help="rounds, each one sample of everything; default: 7")
    add("--min-time", type=float, default=0.05, help="seconds that a sample lasts at least; default: 0.05")
    add("--warm-up", type=float, default=0.2, help="seconds before the first sample; default: 0.2")
    add("--time-limit", type=float, default=math.inf, help="seconds after which nothing more is begun")
    add("--json", type=Path, metavar="FILE", help="write every figure")
    add("--markdown", type=Path, metavar="FILE", help="write the page there instead of to the terminal")
    options = parser.parse_args(arguments)
    try:
        options.shapes = parse_shapes(options.shapes or DEFAULT_SHAPES[options.device])
        options.threads = [int(word) for word in options.threads.split(",")] if options.device == "cpu" else [0]
    except ValueError as error:  # also what a UsageError is
        parser.error(str(error))
    options.dtype = options.dtype or DEFAULT_DTYPE[options.device]
    options.rows = options.rows.split(",") if options.rows else DEFAULT_ROWS[options.device]
    options.boundaries = options.boundaries.split(",")
    for name, known in (("rows", ROWS), ("boundaries", BOUNDARIES)):
        if unknown := [word for word in getattr(options, name) if word not in known]:
            parser.error(f"--{name}: {', '.join(unknown)} is unknown; expected {', '.join(known)}")
    if options.device == "cpu" and min(options.threads) < 1:
        parser.error(f"--threads is {options.threads}; expected at least 1")
    if options.repeats < 1 or min(options.min_time, options.warm_up, options.time_limit) < 0:
        parser.error("--repeats must be at least 1, and times at least 0")
    if forced := forced_settings():
        parser.error(f"{', '.join(forced)} is set and would make every variant the same; unset it")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error(f"torch {torch.__version__} sees no CUDA device")
    return options


def benchmark(
    options: argparse.Namespace, start: float
) -> tuple[dict[str, Any], list[Ceiling], list[Record], list[Verdict]]:
    """Everything that is in the report.

    Raises:
        SerpentError: no C++ compiler, or no native library.
    """
    device = torch.device(options.device)
    head: dict[str, Any] = {
        "benchmark": "bench_scan",
        "schema": SCHEMA,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "device": options.device,
        "machine": describe(device),
        "versions": versions(),
        "options": {
            name: getattr(options, name)
            for name in ("dtype", "decay", "rows", "boundaries", "threads", "repeats", "min_time", "warm_up")
        },
    }
    plan = Plan(options.repeats, options.min_time, options.warm_up, deadline=start + options.time_limit)
    before = measured_ceilings(device, options.threads)
    rows = rows_for(device, options.rows)
    records: list[Record] = []
    ended_early = measure_groups(device, options, plan, rows, records)
    if ended_early:
        head["ended_early"] = ended_early
    keys, names = list(BOUNDARIES.values()), [shape.name for shape in options.shapes]
    records.sort(
        key=lambda record: (keys.index(record.boundary), names.index(record.shape.split(" ")[0]), record.threads)
    )
    found = before
    if before and not plan.expired and not ended_early:
        found = limits.best_of(before, measured_ceilings(device, options.threads))
    sizes = {shape.name: shape for shape in options.shapes}
    for record in records:
        if record.timings:
            shape = sizes[record.shape.split(" ")[0]]
            itemsize = DTYPES[options.dtype].itemsize
            with_rates(record, shape.exps, shape.minimal_bytes(record.boundary, itemsize), found)
    skipped = sum(record.reason == TIME_LIMIT for record in records)
    if skipped:
        say(f"{skipped} rows not measured (time limit of {options.time_limit:g} s)")
    verdicts: list[Verdict] = []
    if options.device == "cuda" and options.dtype == "bf16":
        verdicts = cuda_verdicts(records)
    elif options.device == "cpu" and options.dtype == "f32":
        verdicts = cpu_verdicts(records, options.threads, best_isa(rows))
    return head, found, records, verdicts


def measure_groups(
    device: torch.device, options: argparse.Namespace, plan: Plan, rows: list[Row], records: list[Record]
) -> str:
    """Add the records of one boundary and shape after the other; why that ended before the last of them, or ""."""
    try:
        # Boundary by boundary, and what takes long to begin last, so that a time limit leaves what the promises need.
        for late in (False, True):
            run = Run(
                device,
                options.dtype,
                options.threads,
                [row for row in rows if (row.key in LATE) == late],
                replace(plan, deadline=plan.deadline - LATE_S) if late else plan,
                options.decay,
            )
            for boundary in options.boundaries:
                for shape in options.shapes:
                    records += measure(run, BOUNDARIES[boundary], shape)
    except KeyboardInterrupt:  # also how gpu_check.py ends what takes too long: a compiler is not told of a time limit
        why = INTERRUPTED
    except RuntimeError as error:  # a GPU that has failed once fails in whatever is done next, which is no row's fault
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    else:
        return ""
    say(f"ended early ({why}); the report has what was measured until then")
    return why


def measured_ceilings(device: torch.device, threads: list[int]) -> list[Ceiling]:
    """The machine's ceilings; none, with a line that says why, where a GPU machine has no nvcc."""
    if device.type == "cpu":
        return limits.cpu_ceilings([name for name, why in available_instruction_sets().items() if not why], threads)
    try:
        return limits.cuda_ceilings(device)
    except SerpentError as error:
        say(f"ceilings not measured: {error}")
        return []


if __name__ == "__main__":
    sys.exit(main())
