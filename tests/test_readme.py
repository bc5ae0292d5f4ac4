"""What the documentation shows is what works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_python_example_runs_as_printed(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    check = "\nassert restored.shape == photo.shape and restored.dtype == np.float32"
    run = subprocess.run([sys.executable, "-c", example + check], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "b.safetensors").is_file()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_into_the_repository_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text())
    local = [target for target in targets if not target.startswith("https://")]
    assert [target for target in local if not (ROOT / target).exists()] == []


def test_the_files_and_folders_that_contributing_names_exist() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## Where a line of code belongs")[1].split("\n\n")[1]
    named = re.findall(r"`((?:serpent|plugins|export|cli)/[^`]*)`", table)
    assert len(named) >= 10
    assert [path for path in named if not list(ROOT.glob(path))] == []


def test_every_make_target_that_contributing_names_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z0-9-]+)\b", (ROOT / "CONTRIBUTING.md").read_text()))
    assert {"test", "lint"} <= named <= targets
