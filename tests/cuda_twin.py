"""Builds the host twin of the CUDA kernels (plugins/tests/twin) and runs its programs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

import session
from cmake_build import REPOSITORY, CMakeBuild

SOURCES = REPOSITORY / "plugins" / "src" / "cuda"

# The barriers of the kernels by name, each with the file that it stands in; device*.h define them.
BARRIERS = {
    name: file.name
    for file in sorted([*SOURCES.glob("*.cu"), *SOURCES.glob("*.h")])
    if not file.name.startswith("device")
    for name in re.findall(r"SERPENT_(?:BLOCK|WARP)_SYNC\((\w+)\)", file.read_text())
}

# Enough chunks of 8 pixels that the kernels which link chunks share them out among the warps of a block.
MANY_CHUNKS = "shape=1,16,17,3,1,1"

# ThreadSanitizer before GCC 14 refuses the addresses that recent kernels randomise widely.
_PLAIN_ADDRESSES = ("setarch", "--addr-no-randomize")


class Twin(CMakeBuild):
    """The build of plugins/tests/twin."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, REPOSITORY / "plugins" / "tests" / "twin")

    def build(self, program: str) -> Path:
        """The path of ``program``, built at the first call."""
        self.target(program)
        return self.folder / program

    def run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """What ``program`` says; no check of its exit status."""
        command = [*_PLAIN_ADDRESSES, str(self.build(program)), *words]
        settings = {"TSAN_OPTIONS": "halt_on_error=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=False, env=os.environ | settings
        )

    def variants(self) -> list[tuple[str, str]]:
        """Each forward variant with "D,N,R" of shapes for it, the greatest N and R that it takes.

        D is of two tiles, once copied as vectors of 16 bytes and once channel by channel.
        """
        lines = self.run("cuda_twin", "variants").stdout.splitlines()
        assert lines
        return [
            (name, f"{int(tile) + more},{states},{ranks}")
            for name, states, ranks, tile in map(str.split, lines)
            for more in (8, 1)
        ]


def shared_twin(tmp_path_factory: pytest.TempPathFactory) -> Twin:
    """The session's."""
    return Twin(session.open_folder(tmp_path_factory) / "cuda_twin")
