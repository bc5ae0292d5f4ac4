"""What ``serpent-infer`` says of memory: predicted before the run, measured after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serpent_cli.console import human_size, say

if TYPE_CHECKING:
    from serpent.runtime.memory_plan import MemoryPlan
    from serpent.runtime.session import Session


_GROWTH = 1.1
"""Of many pictures, one counts as larger where its prediction exceeds the last one said by more than this."""


class MemoryLines:
    """Collects the two figures of a run; says the first at once, on stderr, unless ``quiet``."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._plan: MemoryPlan | None = None
        self._peak: int | None = None

    def planned(self, plan: MemoryPlan) -> None:
        """Before each picture; the first counts, and larger ones."""
        if self._plan is not None:
            before = max(_GROWTH * (self._plan.predicted or 0), plan.reached or 0)
            if (plan.predicted or 0) <= before:  # what was measured since is no prediction
                return
        self._plan = plan
        if not self._quiet:
            free = "" if plan.free is None else f", {human_size(plan.free)} free"
            predicted = (
                "not predicted for this model" if plan.predicted is None else f"{human_size(plan.predicted)} predicted"
            )
            say(f"peak memory: {predicted}{free}", err=True)

    def measured(self, *sessions: Session) -> None:
        """After the run, of all that ran it."""
        self._peak = max((peak for session in sessions if (peak := session.memory().peak) is not None), default=None)

    def figures(self) -> dict[str, int | None]:
        """Bytes, for ``--json``; null where they are not known."""
        predicted, free = (None, None) if self._plan is None else (self._plan.predicted, self._plan.free)
        return {"predicted_peak": predicted, "measured_peak": self._peak, "free_before": free}

    def lines(self) -> tuple[str, ...]:
        """For the text output."""
        if self._peak is None:
            return ()
        predicted = None if self._plan is None else self._plan.predicted
        before = "not predicted" if predicted is None else f"predicted {human_size(predicted)}"
        return (f"peak memory {human_size(self._peak)}, {before}",)
