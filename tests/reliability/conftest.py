"""Three tiers of the same tests: `make test` runs 1/20 of the counts, `make test-slow` 1/5, `make soak` all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Scaled = Callable[[int], int]
Record = Callable[[str, object], None]
"""pytest's ``record_property``: with ``--figures`` it is written down."""


def pytest_itemcollected(item: pytest.Item) -> None:
    # So that `make test-slow` runs them among its tests: on their own they keep one process busy and leave one idle.
    if float(item.config.getoption("--scale")) > 0.05:
        item.add_marker("slow")


@pytest.fixture(scope="session")
def scaled(request: pytest.FixtureRequest) -> Scaled:
    """A full count to what this tier does of it, at least 1."""
    scale = float(request.config.getoption("--scale"))
    return lambda count: max(1, round(count * scale))
