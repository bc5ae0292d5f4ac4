"""Build folders that all test processes of a session share, and the commands that fill them."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]


def run(*command: object, **options: Any) -> str:
    """What a command prints; it must succeed, within half an hour."""
    words = [str(word) for word in command]
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1800, **options)
    assert result.returncode == 0, f"{' '.join(words)}\n{result.stdout}\n{result.stderr}"
    return result.stdout


class CMakeBuild:
    """A build of ``source`` with ``options``, configured and built as targets are asked for, one process at a time."""

    def __init__(self, folder: Path, source: Path = REPOSITORY, *options: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._configure = ("cmake", "-S", source, "-B", folder, *options)
        self._built: set[str] = set()

    def target(self, name: str) -> None:
        """Build a target of the project, at the first call."""
        if name not in self._built:
            self._make(name, "--parallel", os.cpu_count() or 1)
            self._built.add(name)

    def has_target(self, name: str) -> bool:
        """Whether the project has such a target on this machine."""
        return f"... {name}\n" in self._make("help")

    def _make(self, *words: object) -> str:
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (self.folder / "CMakeCache.txt").exists():
                run(*self._configure)
            return run("cmake", "--build", self.folder, "--target", *words)
