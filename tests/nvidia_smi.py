"""A stand-in for the program nvidia-smi."""

from __future__ import annotations

from pathlib import Path

import pytest

from serpent.runtime import gpu

RTX_4090 = "0, NVIDIA GeForce RTX 4090, 8.9, 580.65.06"
H100 = "0, NVIDIA H100 80GB HBM3, 9.0, 580.65.06"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, output: str, *, status: int = 0, seconds: float = 0) -> None:
    """Put an nvidia-smi that prints ``output`` and leaves with ``status`` alone on the PATH."""
    folder.mkdir()
    (folder / "answer").write_text(output, encoding="utf-8")
    program = folder / "nvidia-smi"
    wait = f"exec /bin/sleep {seconds}\n" if seconds else ""
    program.write_text(f"#!/bin/sh\n{wait}/bin/cat '{folder}/answer'\nexit {status}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def remove(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a PATH without nvidia-smi, and no driver."""
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(gpu, "_DRIVER", "libno-driver.so.1")
