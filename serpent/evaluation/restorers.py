"""Models that are open and can be judged, whatever runs them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent.evaluation.scores import Restore
from serpent.pictures import Picture
from serpent.runtime.open import open_session
from serpent.runtime.restoration import restore_picture


@dataclass(frozen=True)
class Restorer:
    """What :func:`serpent.evaluation.evaluate` is given, and what is to be said of it.

    Attributes:
        restore: the model.
        task: that it was trained for.
        facts: in words, by name: backend, device, precision, weights.
        notes: remarks, which may grow while the model runs.
    """

    restore: Restore
    task: str
    facts: Mapping[str, str]
    notes: list[str] = field(default_factory=list)

    def __call__(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.restore(picture)


@contextlib.contextmanager
def open_restorer(model: Path | str, device: str = "auto", *, tta: bool = False, **options: Any) -> Iterator[Restorer]:
    """Open a model file for evaluation. Here other kinds of model join: any callable makes a :class:`Restorer`.

    Args:
        model: as :func:`serpent.runtime.open_session` takes it.
        device: likewise.
        tta: restore the eight ways to turn and mirror a picture, and take the mean.
        **options: of :func:`serpent.runtime.open_session`.

    Raises:
        SerpentError: as :func:`serpent.runtime.open_session` says.
    """
    with open_session(model, device, **options) as session:
        info = session.info
        notes = list(info.notes)

        def restore(picture: NDArray[np.float32]) -> NDArray[np.float32]:
            restored = restore_picture(session, Picture(picture), self_ensemble=tta)
            notes.extend(note for note in restored.notes if note not in notes)
            return restored.pixels

        facts = {
            "backend": info.backend,
            "device": info.device,
            "scan": info.scan,
            "precision": info.precision,
            "weights": info.weights,
        }
        yield Restorer(restore, info.task, facts, notes)
