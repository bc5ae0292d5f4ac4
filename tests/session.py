"""The folder that all test processes of a session share, and what one of them makes there for all."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_base: Path | None = None


def open_folder(factory: pytest.TempPathFactory) -> Path:
    """The session's. Each xdist worker has a base folder of its own inside it."""
    global _base  # noqa: PLW0603  # functions that are no fixtures make things here, too
    base = factory.getbasetemp()
    _base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return _base


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder ``name``, filled by ``make`` in the first process that asks for it; the others wait."""
    assert _base is not None
    with (_base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (_base / name).exists():
            aside = Path(tempfile.mkdtemp(dir=_base))
            make(aside)
            aside.rename(_base / name)
    return _base / name
