"""When `make venv` compiles again: after a change of anything that the installed libraries are made of."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("plugins/src/cpu/simd.h", True),
        ("plugins/src/engine/CMakeLists.txt", True),
        ("plugins/exports.map", True),
        ("cmake/cuda.cmake", True),
        ("plugins/tests/check.h", False),
        ("plugins/examples/restore.cpp", False),
    ],
)
def test_what_the_environment_depends_on(tmp_path: Path, changed: str, stale: bool) -> None:
    assert (ROOT / changed).is_file()
    (tmp_path / ".installed").touch()
    command = ["make", "--question", f"--what-if={changed}", f"VENV={tmp_path}", "venv"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == int(stale)
