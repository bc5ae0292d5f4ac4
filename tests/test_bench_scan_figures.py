"""The scan benchmark's figures: how things are timed in turn, what is concluded, how it is laid out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from scan_bench import timing, verdicts
from scan_bench.problem import NAMED, Error
from scan_bench.records import Ceiling, Record, Timing, paired_ratio, with_rates
from scan_bench.report import markdown, verdict_table
from scan_bench.timing import Plan, interleave

# Timing


class Clock:
    """Time that passes only when a burst runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[tuple[str, int]] = []

    def __call__(self) -> float:
        return self.now

    def burst(self, name: str, *seconds: float) -> timing.Burst:
        following = iter(seconds)
        last = seconds[-1]

        def run(calls: int) -> float:
            each = next(following, last)
            self.now += each * calls
            self.log.append((name, calls))
            return each

        return run


def test_entries_are_timed_in_turn_back_and_forth() -> None:
    clock = Clock()
    entries = {"a": clock.burst("a", 1.0), "b": clock.burst("b", 2.0)}
    found = interleave(entries, Plan(rounds=3, min_burst=1.0, warm_up=0.5, clock=clock))
    assert [name for name, _ in clock.log] == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert found == {"a": Timing([1.0, 1.0, 1.0]), "b": Timing([2.0, 2.0, 2.0])}


def test_warm_up_lasts_and_finds_the_number_of_calls() -> None:
    clock = Clock()
    interleave({"a": clock.burst("a", 0.5, 0.01)}, Plan(rounds=1, min_burst=0.1, warm_up=1.0, clock=clock))
    assert sum(calls for _, calls in clock.log[:-1]) * 0.01 >= 0.5
    assert clock.log[-1] == ("a", 10)


def test_slow_entries_leave_after_three_rounds() -> None:
    clock = Clock()
    entries = {"slow": clock.burst("slow", 10.0), "fast": clock.burst("fast", 0.1)}
    found = interleave(entries, Plan(rounds=5, min_burst=0.0, warm_up=0.0, max_seconds=20.0, clock=clock))
    assert found["slow"] == Timing([10.0, 10.0, 10.0, None, None])
    assert found["fast"] == Timing([0.1] * 5)
    assert paired_ratio(found["slow"], found["fast"]) == pytest.approx(100.0)


def test_nothing_begins_after_the_deadline() -> None:
    clock = Clock()
    entries = {name: clock.burst(name, 1.0) for name in "abc"}
    found = interleave(entries, Plan(rounds=3, min_burst=0.0, warm_up=0.0, deadline=4.0, clock=clock))
    assert found == {"a": Timing([1.0, None, None])}


def test_a_ratio_is_taken_round_by_round() -> None:
    # The machine is ten times slower in the last two rounds; the medians alone would give 1 / 20 * 10 = 0.5.
    over, under = Timing([2.0, 2.0, 20.0, None]), Timing([1.0, 1.0, 10.0, 10.0])
    assert paired_ratio(over, under) == 2.0
    assert paired_ratio(Timing([None, 1.0]), Timing([1.0, None])) is None


def test_cold_calls_go_round_the_sets() -> None:
    seen: list[int] = []

    def call(index: int) -> Tensor:
        seen.append(index)
        return torch.zeros(1)

    burst = timing.cpu_burst(call, 3, nullcontext)
    burst(2)
    burst(3)
    assert seen == [0, 1, 2, 0, 1]


def test_a_graph_holds_a_call_on_each_set(monkeypatch: pytest.MonkeyPatch) -> None:
    captured: list[int] = []
    replays = 0
    capturing = False

    class Graph:
        def replay(self) -> None:
            nonlocal replays
            replays += 1

    @contextmanager
    def capture(_: Graph) -> Iterator[None]:
        nonlocal capturing
        capturing = True
        yield
        capturing = False

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None: ...
        def synchronize(self) -> None: ...
        def elapsed_time(self, _: Event) -> float:
            return 2.0 * 3 * replays  # milliseconds: 2 for each of the 3 calls

    stream = SimpleNamespace(wait_stream=lambda _: None)
    names = {"Stream": lambda: stream, "current_stream": lambda: stream, "stream": nullcontext, "graph": capture}
    for name, value in {**names, "synchronize": lambda: None, "CUDAGraph": Graph, "Event": Event}.items():
        monkeypatch.setattr(torch.cuda, name, value)  # raises where torch has no such name

    def call(index: int) -> Tensor:
        if capturing:
            captured.append(index)
        return torch.zeros(1)

    burst = timing.graph_burst(call, 3, nullcontext)
    assert captured == [0, 1, 2]
    assert burst(4) == pytest.approx(2e-3)
    assert replays == 2


# Verdicts


def record_of(shape: str, row: str, variant: str, threads: int, *seconds: float | None, **more: Any) -> Record:
    fields = {"boundary": "scan core", "dtype": "f32", "status": "measured", **more}
    return Record(
        shape=shape, row=row, variant=variant, threads=threads, timings={"cold": Timing(list(seconds))}, **fields
    )


def outcomes(found: list[verdicts.Verdict], promise: str) -> dict[tuple[str, int], tuple[str, float | None]]:
    chosen = [verdict for verdict in found if verdict.promise.startswith(promise)]
    return {(v.shape, v.threads): (v.outcome, None if v.value is None else round(v.value, 6)) for v in chosen}


def test_scalar_ratios() -> None:
    found = verdicts.cpu_verdicts(
        [
            record_of("s0", "scalar", "", 1, 80.0, 160.0),
            record_of("s0", "serpent", "avx2", 1, 10.0, 20.0),
            record_of("s0", "scalar", "", 2, 79.0),
            record_of("s0", "serpent", "avx2", 2, 10.0),
            Record(
                boundary="scan core", shape="s0", dtype="f32", row="serpent", variant="avx512", threads=1,
                reason="this processor lacks it",
            ),
        ],
        [1, 2],
        "avx2",
    )  # fmt: skip
    avx2 = outcomes(found, "scalar loop / avx2")
    assert avx2["s0", 1] == ("pass", 8.0)
    assert avx2["s0", 2] == ("fail", 7.9)
    assert avx2["s1", 1] == ("not measured", None)
    (missing,) = [v for v in found if v.promise == "scalar loop / avx512" and (v.shape, v.threads) == ("s0", 1)]
    assert (missing.outcome, missing.reason) == ("not measured", "serpent avx512: this processor lacks it")


def test_two_threads_and_columns() -> None:
    found = verdicts.cpu_verdicts(
        [
            record_of("s1", "serpent", "avx2", 1, 19.0),
            record_of("s1", "serpent", "avx2", 2, 10.0),
            record_of("s1 as 1x65536", "serpent", "avx2", 1, 17.0),
            record_of("s1 as 1x65536", "serpent", "avx2", 2, 8.0),
            record_of("s2", "serpent", "avx2", 1, 17.0),
            record_of("s2", "serpent", "avx2", 2, 10.0),
        ],
        [1, 2],
        "avx2",
    )
    threads = outcomes(found, "one thread / two")
    assert threads == {("s1", 2): ("pass", 1.9), ("s2", 2): ("fail", 1.7), ("s3", 2): ("not measured", None)}
    columns = outcomes(found, "column / row")
    assert columns["s1", 1] == ("pass", round(2 * 19 / 17 - 1, 6))
    assert columns["s1", 2] == ("fail", 1.5)
    assert columns["s2", 1] == ("not measured", None)


def test_a_wrong_result_fails_its_promises() -> None:
    wrong = Record(
        boundary="scan core", shape="s0", dtype="f32", row="serpent", variant="avx2", threads=1, status="wrong"
    )
    found = verdicts.cpu_verdicts([record_of("s0", "scalar", "", 1, 80.0), wrong], [1], "avx2")
    assert outcomes(found, "scalar loop / avx2")["s0", 1] == ("fail", None)


def test_aims_on_a_gpu() -> None:
    found = verdicts.cuda_verdicts(
        [
            record_of("s0", "mamba", "", 0, 2.0, boundary="SS2D", dtype="bf16"),
            record_of("s0", "serpent", "", 0, 1.0, boundary="SS2D", dtype="bf16"),
            record_of("s0", "serpent", "", 0, 1.0, dtype="bf16", exp_share=0.7),
            record_of("s1", "serpent", "", 0, 1.0, dtype="bf16", exp_share=0.6),
            record_of("s1", "serpent", "n11", 0, 1.0, dtype="bf16", exp_share=0.9),
        ]
    )
    assert outcomes(found, "mamba-ssm")["s0", 0] == ("pass", 2.0)
    assert outcomes(found, "mamba-ssm")["s3", 0] == ("not measured", None)
    assert outcomes(found, "share of the exp") == {("s0", 0): ("pass", 0.7), ("s1", 0): ("fail", 0.6)}


def test_rates_and_shares_by_hand() -> None:
    record = record_of("s0", "serpent", "avx2", 2, 0.5)
    found = [Ceiling("exp", "avx2", 2, 4e9), Ceiling("exp", "avx2", 1, 9e9), Ceiling("exp", "portable", 2, 1e9)]
    with_rates(record, 10**9, 10**8, [*found, Ceiling("copy", "", 2, 1e9)])
    assert (record.exps_per_s, record.exp_share) == (2e9, 0.5)
    assert (record.bytes_per_s, record.copy_share) == (2e8, 0.2)
    scalar_row = with_rates(record_of("s0", "scalar", "", 2, 1.0), 10**9, 1, found)
    assert (scalar_row.exp_share, scalar_row.copy_share) == (0.25, None)


def test_the_page_of_a_gpu_has_its_columns() -> None:
    record = record_of("s0", "serpent", "n6", 0, 2e-4, 4e-4, boundary="scan core", dtype="bf16")
    record.timings["eager"] = Timing([5e-4])
    record.error = Error(1e-3, 2e-3)
    with_rates(record, NAMED["s0"].exps, NAMED["s0"].minimal_bytes("scan core", 2), [Ceiling("exp", "", 0, 4e12)])
    head = {
        "device": "cuda", "date": "d", "versions": {"torch": "2"}, "options": {"dtype": "bf16", "decay": "usual"},
        "machine": {"gpu": "G", "driver_version": "1", "usable_cores": 1, "load_before": 0},
    }  # fmt: skip
    page = markdown(head, [NAMED["s0"]], [Ceiling("exp", "", 0, 4e12)], [record], verdicts.cuda_verdicts([record]))
    assert "| s0 | serpent n6 | 0.3 (0.2 to 0.4) | - | 0.5 | 1.34e+03 | 33.6% |" in page
    assert "GPU | 4000 Gexp |" in page


def test_verdicts_that_are_not_measured_share_a_line() -> None:
    lines = verdict_table(verdicts.cpu_verdicts([], [1], "avx2"))
    assert "- scalar loop / avx2: not measured (not in this run): s0 with 1 thread, s1 with 1 thread, " in "\n".join(
        lines
    )
