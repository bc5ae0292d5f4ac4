"""The promises about speed, held against the figures of one run."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Literal

from scan_bench.problem import Boundary
from scan_bench.records import Record, paired_ratio

Outcome = Literal["pass", "fail", "not measured"]
SCALES = ("s0", "s1", "s2", "s3")
SCALAR_RATIOS = {"avx512": 14.0, "avx2": 8.0}
TWO_THREADS = 1.8
COLUMNS_OVER_ROWS = 1.3
OVER_MAMBA = 2.0
EXP_SHARE = 0.65


@dataclass(frozen=True)
class Verdict:
    """One promise at one shape and thread count (0 on a GPU)."""

    promise: str
    shape: str
    threads: int
    value: float | None
    limit: float
    at_least: bool
    reason: str = ""

    @property
    def outcome(self) -> Outcome:
        """A result that is wrong fails; what has no value for another reason is not measured."""
        if self.value is None:
            return "fail" if self.reason.startswith("wrong") else "not measured"
        kept = (operator.ge if self.at_least else operator.le)(self.value, self.limit)
        return "pass" if kept else "fail"

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return {**vars(self), "outcome": self.outcome}


class _Records:
    """Finds records, or says why there is none."""

    def __init__(self, records: list[Record], dtype: str, missing: str) -> None:
        self._records = {(r.boundary, r.shape, r.row, r.variant, r.threads): r for r in records if r.dtype == dtype}
        self._missing = missing

    def find(self, boundary: Boundary, shape: str, row: str, variant: str, threads: int) -> Record | str:
        record = self._records.get((boundary, shape, row, variant, threads))
        if record is None:
            return self._missing
        if record.status == "measured" and "cold" in record.timings:
            return record
        return f"{record.label}: {record.reason}" if record.status != "wrong" else f"wrong: {record.label}"

    def ratio(self, over: Record | str, under: Record | str) -> tuple[float | None, str]:
        """Time of ``over`` by time of ``under``, paired by round."""
        for side in (over, under):
            if isinstance(side, str):
                return None, side
        assert not isinstance(over, str)
        assert not isinstance(under, str)
        value = paired_ratio(over.timings["cold"], under.timings["cold"])
        return value, "" if value is not None else "no round timed both"


def cpu_verdicts(records: list[Record], threads: list[int], best_isa: str) -> list[Verdict]:
    """What is promised of the f32 scan core on a CPU: beside the scalar loop, of two threads, of the columns."""
    found = _Records(records, "f32", "not in this run")
    core: Boundary = "scan core"
    verdicts = []
    for isa, least in SCALAR_RATIOS.items():
        for shape in SCALES:
            for count in threads:
                value, reason = found.ratio(
                    found.find(core, shape, "scalar", "", count), found.find(core, shape, "serpent", isa, count)
                )
                verdicts.append(Verdict(f"scalar loop / {isa}", shape, count, value, least, True, reason))
    for shape in SCALES[1:]:
        value, reason = found.ratio(
            found.find(core, shape, "serpent", best_isa, 1), found.find(core, shape, "serpent", best_isa, 2)
        )
        verdicts.append(Verdict(f"one thread / two, {best_isa}", shape, 2, value, TWO_THREADS, True, reason))
    in_one_row = {r.shape.split(" ")[0]: r.shape for r in records if " as 1x" in r.shape}
    for shape in SCALES:
        for count in threads:
            value, reason = found.ratio(
                found.find(core, shape, "serpent", best_isa, count),
                found.find(core, in_one_row.get(shape, ""), "serpent", best_isa, count),
            )
            # (2 rows + 2 columns) / 4 rows: two of the four directions walk columns, in one row none does.
            columns = None if value is None else 2 * value - 1
            promise = f"column / row directions, {best_isa}"
            verdicts.append(Verdict(promise, shape, count, columns, COLUMNS_OVER_ROWS, False, reason))
    return verdicts


def cuda_verdicts(records: list[Record]) -> list[Verdict]:
    """What is aimed at on a GPU in bf16: SS2D beside mamba-ssm, and the scan core beside the exp ceiling."""
    found = _Records(records, "bf16", "not in this run (the aim is for bf16 at s0 to s3)")
    verdicts = []
    for shape in SCALES:
        value, reason = found.ratio(
            found.find("SS2D", shape, "mamba", "", 0), found.find("SS2D", shape, "serpent", "", 0)
        )
        verdicts.append(Verdict("mamba-ssm / serpent, SS2D", shape, 0, value, OVER_MAMBA, True, reason))
    for shape in SCALES[:2]:
        record = found.find("scan core", shape, "serpent", "", 0)
        share, reason = (None, record) if isinstance(record, str) else (record.exp_share, "")
        reason = reason or ("" if share is not None else "the exp ceiling was not measured")
        verdicts.append(Verdict("share of the exp ceiling, scan core", shape, 0, share, EXP_SHARE, True, reason))
    return verdicts
