"""A pytest plugin: what tests record, with machine and date, as one file of results."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from scan_bench.machine import cpu_model


class Figures:
    """Gathers ``record_property`` of all tests, those in processes of pytest-xdist included.

    Args:
        path: file to write when the run is over.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._figures: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.user_properties:
            name = report.nodeid.split("::")[-1].removeprefix("test_")
            figures = {**dict(report.user_properties), "seconds": round(report.duration, 1)}
            self._figures[name] = {"outcome": report.outcome, **figures}

    def pytest_sessionfinish(self) -> None:
        about = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {"cpu": cpu_model(), "cores": os.cpu_count()},
            "versions": {name: metadata.version(name) for name in ("torch", "numpy", "pyvips")},
        }
        self._path.write_text(json.dumps({**about, "figures": self._figures}, indent=1) + "\n")
