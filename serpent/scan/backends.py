"""Which implementation a model's scans run on. It is no part of a model: weights and results do not depend on it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from serpent.errors import UsageError
from serpent.scan.mamba import require_mamba, selective_scan_2d_mamba
from serpent.scan.operator import selective_scan_2d
from serpent.scan.reference import selective_scan_2d_reference

BACKENDS: dict[str, Callable[..., Tensor]] = {
    "native": selective_scan_2d,
    "reference": selective_scan_2d_reference,
    "mamba": selective_scan_2d_mamba,
}
"""The operator, the sequential oracle, and mamba-ssm (an optional package; CUDA). One contract."""


def check_backend(name: str) -> None:
    """Accept the name of a backend that can run here.

    Raises:
        UsageError: no such backend.
        MissingExtraError: "mamba" without the package mamba-ssm.
    """
    if name not in BACKENDS:
        raise UsageError(f"unknown scan backend {name!r}; expected {', '.join(BACKENDS)}")
    if name == "mamba":
        require_mamba()
