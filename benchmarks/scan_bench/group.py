"""One group: every row at one boundary and shape, checked first and then timed in turn."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scan_bench.machine import extra_bytes
from scan_bench.problem import DTYPES, Boundary, Decay, Shape
from scan_bench.records import Mode, Record
from scan_bench.rows import Row
from scan_bench.timing import Burst, Plan, cpu_burst, graph_burst, interleave, stream_burst
from scan_bench.workload import Truth, Workload, exact, make_workload, why_no_block
from serpent import native
from serpent.errors import ArgumentError, SerpentError

TIME_LIMIT = "time limit"
LONG_CALL_S = 1.0  # after a call of a second nothing of its inputs is left in a cache
REFUSALS = (SerpentError, RuntimeError, ImportError, MemoryError, NotImplementedError)


@dataclass(frozen=True)
class Run:
    """What all groups of a run share.

    Attributes:
        device: where it runs.
        dtype: storage type, a key of DTYPES.
        threads: CPU thread counts; [0] on a GPU.
        rows: what is timed.
        plan: how long to time.
        decay: kind of inputs.
    """

    device: torch.device
    dtype: str
    threads: list[int]
    rows: list[Row]
    plan: Plan
    decay: Decay = "usual"


Entry = tuple[int, Mode]  # index of a record, and what is timed


def measure(run: Run, boundary: Boundary, shape: Shape) -> list[Record]:
    """Check and time all rows at one boundary and shape."""
    rows = _rows_at(run, boundary)
    records = [
        Record(
            boundary=boundary,
            shape=shape.in_one_row().name if row.in_one_row else shape.name,
            dtype=run.dtype,
            row=row.key,
            variant=row.variant,
            threads=threads,
        )
        for threads in run.threads
        for row in rows
    ]
    if not records:
        return []
    reason = why_no_block(shape) if boundary == "VSS block" else ""
    if reason or run.plan.expired:
        return [replace(record, reason=reason or TIME_LIMIT) for record in records]
    with torch.inference_mode():
        return _measure(run, shape, [(row, threads) for threads in run.threads for row in rows], records)


def _rows_at(run: Run, boundary: Boundary) -> list[Row]:
    """Variants are compared at the scan core; the other boundaries run the library's own choice."""
    if boundary == "scan core":
        return run.rows
    rows = [row for row in run.rows if not row.in_one_row and row.key != "scalar"]
    first_of_ours = next((row for row in rows if row.key == "serpent"), None)
    chosen = [] if first_of_ours is None else [replace(first_of_ours, variant="", environment={}, absent="")]
    return [*chosen, *(row for row in rows if row.key != "serpent")]


def _measure(run: Run, shape: Shape, rows: list[tuple[Row, int]], records: list[Record]) -> list[Record]:
    boundary = records[0].boundary
    work = make_workload(boundary, shape, run.dtype, DTYPES[run.dtype], run.device, run.decay)
    works = {False: work}
    truths = {False: exact(work)}
    if any(row.in_one_row for row, _ in rows):
        works[True] = work.in_one_row()
        truths[True] = exact(works[True])
    entries: dict[Entry, Burst] = {}
    dropped: set[int] = set()
    torch._dynamo.reset()  # or a shape too many would make torch.compile fall back to eager
    for index, ((row, threads), record) in enumerate(zip(rows, records, strict=True)):
        try:
            entries |= _prepared(run, row, works[row.in_one_row], truths[row.in_one_row], index, record)
        except ArgumentError:
            if "SERPENT_CUDA_VARIANT" not in row.environment:
                raise
            dropped.add(index)  # a variant that does not take the shape is no row of it
            continue
        outcome = "checked" if (index, "cold") in entries else f"{record.status}, {record.reason}"
        say(f"{boundary}, {record.shape}, {record.label}, {_where(threads)}: {outcome}")
    say(f"{boundary}, {shape.name}: timing")
    timings = interleave(entries, run.plan)
    for (index, mode), timing in timings.items():
        records[index].timings[mode] = timing
    for index, record in enumerate(records):
        prepared = any(key[0] == index for key in entries)
        if record.timings:
            record.status = "measured"
        elif prepared:
            record.reason = TIME_LIMIT
    return [record for index, record in enumerate(records) if index not in dropped]


def _prepared(run: Run, row: Row, work: Workload, truth: Truth, index: int, record: Record) -> dict[Entry, Burst]:
    """Check a row; what is to be timed of it, which is nothing where it cannot run or is wrong."""
    record.reason = row.why_not(work) or (TIME_LIMIT if run.plan.expired else "")
    if record.reason:
        return {}
    try:
        call = row.core(work) if row.core is not None and work.boundary == "scan core" else work.call(row.scan)
        with row.settings(record.threads):
            record.error = truth.error(call(0))
            record.bound = truth.bound(peer=row.peer)
            if not record.error.within(record.bound):
                record.status, record.reason = "wrong", f"{record.error}; at most {record.bound}"
                return {}
            start = time.perf_counter()
            record.workspace_bytes = _workspace(row, work, extra_bytes(lambda: call(0), run.device))
            seconds = time.perf_counter() - start
        return _bursts(row, work, call, index, record, seconds)
    except ArgumentError:
        raise
    except Exception as error:
        if not row.peer and not isinstance(error, REFUSALS):
            raise
        # Of somebody else's code anything may come: Triton lets the failure of its C compiler through as it is.
        text = " ".join(str(error).split())[:300]
        record.status, record.reason = ("not measured" if row.peer else "wrong"), f"{type(error).__name__}: {text}"
        return {}


def _workspace(row: Row, work: Workload, extra: int | None) -> int | None:
    """Memory beyond inputs and result, of what a call took."""
    if row.core is None or work.boundary != "scan core":
        return None if extra is None else max(0, extra - work.result_bytes)
    if work.device.type == "cuda":  # given to the C function, as the result is
        return native.library().workspace_size(work.shape.native(work.dtype_name))
    return extra


def _bursts(
    row: Row, work: Workload, call: Callable[[int], Tensor], index: int, record: Record, seconds: float
) -> dict[Entry, Burst]:
    threads = record.threads

    def first_set(_: int) -> Tensor:
        return call(0)

    if work.device.type == "cpu":
        bursts: dict[Entry, Burst] = {(index, "cold"): cpu_burst(call, work.sets, lambda: row.settings(threads))}
        if seconds < LONG_CALL_S:
            bursts[index, "warm"] = cpu_burst(first_set, 1, lambda: row.settings(threads))
        return bursts
    bursts = {(index, "eager"): stream_burst(call, work.sets, lambda: row.settings(0))}
    try:
        bursts[index, "cold"] = graph_burst(call, work.sets, lambda: row.settings(0))
        bursts[index, "warm"] = graph_burst(first_set, work.sets, lambda: row.settings(0))
    except Exception as error:
        if not row.peer:
            raise
        record.reason = f"no CUDA graph: {' '.join(str(error).split())[:200]}"
    return bursts


def _where(threads: int) -> str:
    return "GPU" if threads == 0 else "1 thread" if threads == 1 else f"{threads} threads"


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def forced_settings() -> list[str]:
    """Environment variables that would make every row run one variant."""
    return [name for name in ("SERPENT_ISA", "SERPENT_CUDA_VARIANT") if os.environ.get(name)]
