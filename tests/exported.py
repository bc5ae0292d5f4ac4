"""One export of a small network, made as a user makes it, for the tests of what can be done with its files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import serpent

COMMAND = "from serpent_cli.main import run_export; run_export()"
ARGUMENTS = ["--variant", "B", "--res", "64", "--weights", "b.safetensors", "--out", "files", "--json"]


class Exported(NamedTuple):
    """What the command wrote and said; ``plan`` is missing where TensorRT-RTX is."""

    folder: Path
    checkpoint: Path
    onnx: Path
    plan: Path
    manifest: Path
    stdout: str


def export_with_the_command(root: Path) -> None:
    """Save a checkpoint in ``root`` and export it from there, with relative paths, in a process of its own."""
    serpent.save_model(serpent.create_model("B", seed=0), root / "b.safetensors", task="denoise")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)}
    command = [sys.executable, "-c", COMMAND, *ARGUMENTS]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (root / "stdout").write_text(run.stdout)


def exported_in(root: Path) -> Exported:
    """What :func:`export_with_the_command` made there."""
    onnx, plan, manifest = (root / "files" / f"serpent-b-64-fp32.{kind}" for kind in ("onnx", "plan", "json"))
    return Exported(root / "files", root / "b.safetensors", onnx, plan, manifest, (root / "stdout").read_text())
