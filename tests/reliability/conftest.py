"""Three tiers of the same tests: `make test` runs 1/20 of the counts, `make test-slow` 1/5, `make soak` all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import serpent

Scaled = Callable[[int], int]


@pytest.fixture(scope="session")
def scaled(request: pytest.FixtureRequest) -> Scaled:
    """A full count to what this tier does of it, at least 1."""
    scale = float(request.config.getoption("--scale"))
    return lambda count: max(1, round(count * scale))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    serpent.save_model(serpent.create_model("L", embed_dim=8, num_scales=1, depth=1), path)
    return path
