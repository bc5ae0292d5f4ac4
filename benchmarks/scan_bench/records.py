"""What a run finds out, as the JSON file holds it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Literal

from scan_bench.problem import Boundary, Error

Mode = Literal["cold", "warm", "eager"]
Status = Literal["measured", "wrong", "not measured"]


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one mode. ``samples`` has one place per round; None where the round left this out.

    Rounds time everything of one group in turn, so equal places of two timings of a group lie close in time.
    """

    samples: list[float | None]

    @property
    def taken(self) -> list[float]:
        return [sample for sample in self.samples if sample is not None]

    @property
    def median(self) -> float:
        return statistics.median(self.taken)

    def to_dict(self) -> dict[str, object]:
        """With median, extremes and interquartile range."""
        taken = self.taken
        first, _, third = statistics.quantiles(taken, n=4, method="inclusive") if len(taken) > 1 else 3 * taken
        return {
            "median_s": self.median,
            "min_s": min(taken),
            "max_s": max(taken),
            "interquartile_range_s": third - first,
            "samples_s": self.samples,
        }


def paired_ratio(over: Timing, under: Timing) -> float | None:
    """Median of the ratios of equal rounds; None where no round has both."""
    pairs = zip(over.samples, under.samples, strict=False)
    ratios = [a / b for a, b in pairs if a is not None and b is not None]
    return statistics.median(ratios) if ratios else None


@dataclass(frozen=True)
class Ceiling:
    """A rate of this machine, measured in the same run.

    Attributes:
        name: "exp", "fma" (a multiplication and an addition each) or "copy" (bytes, read and written).
        variant: instruction set, or "" where it does not matter.
        threads: of the CPU; 0 on a GPU.
        per_second: the best of all repeats.
    """

    name: Literal["exp", "fma", "copy"]
    variant: str
    threads: int
    per_second: float


@dataclass(kw_only=True)
class Record:
    """One row at one boundary, shape, dtype and thread count (0 on a GPU)."""

    boundary: Boundary
    shape: str
    dtype: str
    row: str
    variant: str = ""
    threads: int
    status: Status = "not measured"
    reason: str = ""
    error: Error | None = None
    bound: Error | None = None
    workspace_bytes: int | None = None
    timings: dict[Mode, Timing] = field(default_factory=dict)
    exps_per_s: float | None = None
    bytes_per_s: float | None = None
    exp_share: float | None = None
    copy_share: float | None = None

    @property
    def label(self) -> str:
        """Row and variant."""
        return f"{self.row} {self.variant}".strip()

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        plain: dict[str, object] = dict(vars(self))
        plain |= {
            name: None if value is None else vars(value)
            for name, value in (("error", self.error), ("bound", self.bound))
        }
        plain["timings"] = {mode: timing.to_dict() for mode, timing in self.timings.items()}
        return plain


def with_rates(record: Record, exps: int, minimal_bytes: int, ceilings: list[Ceiling]) -> Record:
    """Fill in rates and shares from the cold time, or the eager one of a row that no graph can hold."""
    seconds = record.timings["cold" if "cold" in record.timings else "eager"].median
    record.exps_per_s, record.bytes_per_s = exps / seconds, minimal_bytes / seconds

    def limit(name: str, variant: str) -> float | None:
        rates = [
            ceiling.per_second
            for ceiling in ceilings
            if ceiling.name == name and ceiling.threads == record.threads and variant in ("", ceiling.variant)
        ]
        return max(rates, default=None)

    # Rows of no instruction set of their own may use the best there is.
    isa = record.variant if any(ceiling.variant == record.variant for ceiling in ceilings) else ""
    exp, copy = limit("exp", isa), limit("copy", "")
    record.exp_share = None if exp is None else record.exps_per_s / exp
    record.copy_share = None if copy is None else record.bytes_per_s / copy
    return record
