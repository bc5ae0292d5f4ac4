"""The build of the CUDA kernels that `make test-cuda-build` makes, for the tests that look at it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Build:
    """A build folder with CUDA kernels, and the architectures it was made for, such as "75-real"."""

    folder: Path
    architectures: tuple[str, ...]

    @property
    def library(self) -> Path:
        return self.folder / "plugins" / "libserpent.so"


def finished_build(config: pytest.Config) -> Build:
    """The one that --cuda-build names; without it, or without kernels in it, the test is skipped."""
    folder = config.getoption("--cuda-build")
    if folder is None:
        pytest.skip("looks at a build of the CUDA kernels: make test-cuda-build")
    (state,) = re.findall(r"^SERPENT_CUDA_STATE:INTERNAL=(.*)$", (folder / "CMakeCache.txt").read_text(), re.MULTILINE)
    built = re.fullmatch(r"built by nvcc [\d.]+ for (.*)", state)
    if built is None:
        pytest.skip(f"CUDA kernels: {state}")
    return Build(folder.resolve(), tuple(built.group(1).split(";")))
