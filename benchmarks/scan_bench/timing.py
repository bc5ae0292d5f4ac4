"""Times things in turn: every round takes one sample of each, so that a slow minute of the machine meets all alike."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from scan_bench.records import Timing

Key = TypeVar("Key", bound=Hashable)
Call = Callable[[int], Tensor]
"""Runs a row once on buffer set i."""

LEAST_ROUNDS = 3


class Burst(Protocol):
    """Something that can be run several times in a row."""

    def __call__(self, calls: int) -> float:
        """Seconds per call over about ``calls`` calls."""


@dataclass(frozen=True)
class Plan:
    """How long to time.

    Attributes:
        rounds: samples of each entry.
        min_burst: seconds that a sample lasts at least.
        warm_up: seconds that an entry runs before its first sample.
        max_seconds: once an entry has spent them, it leaves the rounds, with at least LEAST_ROUNDS samples.
        deadline: on ``clock``; what has no sample by then gets none.
        clock: seconds.
    """

    rounds: int = 7
    min_burst: float = 0.05
    warm_up: float = 0.3
    max_seconds: float = 20.0
    deadline: float = math.inf
    clock: Callable[[], float] = time.perf_counter

    @property
    def expired(self) -> bool:
        return self.clock() >= self.deadline


def interleave(entries: Mapping[Key, Burst], plan: Plan) -> dict[Key, Timing]:
    """Warm up and time all entries in turn; those that the deadline left without a sample are missing."""
    calls: dict[Key, int] = {}
    for key, burst in entries.items():
        if plan.expired:
            break
        calls[key] = max(1, math.ceil(plan.min_burst / _warm_up(burst, plan)))
    samples: dict[Key, list[float | None]] = {key: [] for key in calls}
    spent = dict.fromkeys(calls, 0.0)
    for turn in range(plan.rounds):
        # Back and forth, so that a machine that grows slower or faster favours neither end.
        for key in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            done = turn >= LEAST_ROUNDS and spent[key] >= plan.max_seconds
            if done or plan.expired:
                samples[key].append(None)
                continue
            seconds = entries[key](calls[key])
            samples[key].append(seconds)
            spent[key] += seconds * calls[key]
    timings = {key: Timing(taken) for key, taken in samples.items()}
    return {key: timing for key, timing in timings.items() if timing.taken}


def _warm_up(burst: Burst, plan: Plan) -> float:
    """Run for the warm-up time; seconds per call at its end."""
    start, calls = plan.clock(), 1
    while True:
        seconds = max(burst(calls), 1e-9)
        if plan.clock() - start >= plan.warm_up:
            return seconds
        calls = min(2 * calls, max(1, math.ceil(plan.min_burst / seconds)))


def cpu_burst(call: Call, sets: int, active: Callable[[], AbstractContextManager[Any]]) -> Burst:
    """Calls that go round ``sets`` buffer sets; ``active`` makes the row's settings hold meanwhile."""
    run = _in_turn(call, sets)

    def burst(calls: int) -> float:
        with active():
            start = time.perf_counter()
            run(calls)
            return (time.perf_counter() - start) / calls

    return burst


def stream_burst(call: Call, sets: int, active: Callable[[], AbstractContextManager[Any]]) -> Burst:
    """Calls launched one by one on a CUDA stream: with the time of their launches where that is longer."""
    run = _in_turn(call, sets)

    def burst(calls: int) -> float:
        with active():
            return _event_seconds(lambda: run(calls)) / calls

    return burst


def graph_burst(call: Call, sets: int, active: Callable[[], AbstractContextManager[Any]]) -> Burst:
    """Replays of one CUDA graph that holds a call on each of ``sets`` buffer sets."""
    with active():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries make their handles and workspaces before the capture
            call(0)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            # All results at once, or the memory of one would serve the next; the graph keeps its pool.
            _ = [call(index) for index in range(sets)]

    def burst(calls: int) -> float:
        replays = math.ceil(calls / sets)

        def replay() -> None:
            for _ in range(replays):
                graph.replay()

        return _event_seconds(replay) / (replays * sets)

    return burst


def _event_seconds(work: Callable[[], None]) -> float:
    """Seconds between two events around ``work`` on the current stream."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e-3


def _in_turn(call: Call, sets: int) -> Callable[[int], None]:
    """Something that makes so many calls, each on the next of ``sets`` buffer sets."""
    following = itertools.cycle(range(sets))
    kept: list[Tensor | None] = [None] * sets  # as long as a result lives, its memory is not given out again

    def run(calls: int) -> None:
        for index in itertools.islice(following, calls):
            kept[index] = None
            kept[index] = call(index)

    return run
