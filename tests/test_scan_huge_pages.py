"""The CPU scan asks for large pages where a new result is large."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from serpent.scan import selective_scan_2d
from tests.scan_cases import Sizes, arguments


def flags_of(address: int) -> list[str]:
    """Of the mapping that an address lies in, as Linux abbreviates them."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first:
            start, end = (int(side, 16) for side in first.split("-"))
            inside = start <= address < end
        elif inside and first == "VmFlags:":
            return rest
    raise AssertionError(f"{address:#x} is not mapped")


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="this system has no large pages to ask for"
)
def test_a_large_result_asks_for_large_pages() -> None:
    inputs = arguments(Sizes(height=300, width=300, channels=40, d_state=1, dt_rank=1), torch.float32)
    y = selective_scan_2d(*inputs)
    assert "hg" in flags_of(y.data_ptr() + y.nbytes // 2)
