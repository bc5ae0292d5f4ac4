"""Processes that fail together: one that stops alone would leave the others waiting for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from serpent.errors import SerpentError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@contextlib.contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """Run a block in every process; where it fails in one, all raise.

    Raises:
        SerpentError: the block's own, or in the other processes one that says so.
    """
    error: SerpentError | None = None
    try:
        yield
    except SerpentError as caught:
        error = caught
    if fabric.world_size > 1:
        failed: Any = fabric.all_reduce(torch.tensor(float(error is not None), device=fabric.device), reduce_op="sum")
        if error is None and bool(failed > 0):
            error = SerpentError("another process of this run failed; its message says why")
    if error is not None:
        raise error
