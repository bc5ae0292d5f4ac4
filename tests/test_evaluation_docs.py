"""docs/evaluation.md says what the commands do."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest

from serpent.degradations import degrade, generator, registry
from serpent.evaluation import wiener
from serpent.evaluation.lpips import LPIPS_SMALLEST, lpips_tensors
from serpent.evaluation.sheet import EACH
from serpent_cli.degrade import degrade as degrade_command
from serpent_cli.evaluation import evaluate
from tests.photographs import saved

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
LPIPS, TASK, PYTHON = (
    next(block for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL) if word in block)
    for word in ("import lpips", "def darken", "import Pairs")
)


def options(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")}


def test_every_option_that_is_named_exists() -> None:
    named = set(re.findall(r"--[a-z][a-z-]*", TEXT))
    assert {"--wiener-from", "--border", "--list"} <= named <= options(evaluate) | options(degrade_command)


def test_the_numbers_are_those_of_the_code() -> None:
    side = 2 * wiener.REACH + 1
    assert f"filters of {side} x {side} pixels" in TEXT
    assert f"blocks of {wiener.BLOCK} pixels" in TEXT
    assert f"sides of at least {LPIPS_SMALLEST} pixels" in TEXT
    assert EACH == 3
    assert "three worst and the three best" in TEXT


def test_the_recipe_keeps_the_tensors_that_are_expected() -> None:
    published = {name: SimpleNamespace(clone=lambda name=name: name) for name in lpips_tensors()}
    published |= {f"lins.{layer}.model.1.weight": SimpleNamespace() for layer in range(5)}
    published |= {"scaling_layer.shift": SimpleNamespace(), "scaling_layer.scale": SimpleNamespace()}
    found: dict[str, object] = {"state": published}
    exec(LPIPS[LPIPS.index("prefixes") : LPIPS.index("save_file(")], found)
    assert found["kept"] == {name: name for name in lpips_tensors()}


def test_the_task_of_ones_own_is_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, object] = {}
    exec(TASK, found)
    monkeypatch.setitem(registry._TASKS, "documented", found["darken"])  # type: ignore[arg-type]
    picture = np.full((4, 5, 3), 0.5, np.float32)
    assert 0.1 <= degrade(picture, "documented", generator(0)).mean() <= 0.25


def test_the_python_example_runs_as_printed(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "DATA", "a.png", "b.png")
    saved(tmp_path / "TRAINING", "c.png")
    text = PYTHON.replace('"B"', repr(str(checkpoint))).replace("crop=256", "crop=48")
    for folder in ("DATA", "TRAINING"):
        text = text.replace(f'"{folder}"', repr(str(tmp_path / folder)))
    exec(text, {})
    assert capsys.readouterr().out.count("Scores(psnr=") == 2
