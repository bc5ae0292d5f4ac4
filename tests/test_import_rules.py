"""Imports by name of a string, which the import linter cannot see, obey the same rules."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for folder in ("serpent", "export", "cli") for path in sorted((ROOT / folder).rglob("*.py"))]
CALLS = {"import_module", "require", "__import__"}

# Who may name which optional module in such a call.
ALLOWED = {
    "torch": (
        "serpent/scan/",
        "serpent/model/",
        "serpent/runtime/torch_session.py",
        "serpent/evaluation/lpips.py",
        "export/",
        "cli/",
    ),
    "mamba_ssm": ("serpent/scan/mamba.py",),
    "onnx": ("serpent/runtime/onnx_", "serpent/runtime/inspection.py", "export/", "cli/"),
    "onnxruntime": ("serpent/runtime/onnx_", "export/", "cli/"),
    "onnxscript": ("export/", "cli/"),
    "tensorrt": ("serpent/runtime/tensorrt_",),
    "tensorrt_rtx": ("serpent/runtime/tensorrt_",),
    "polygraphy": ("serpent/runtime/tensorrt_",),
    "cuda": ("serpent/runtime/cuda_device.py",),
}


def imports_by_string(source: str) -> list[str]:
    """Top-level names of the modules that literal import calls in ``source`` name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        argument = node.args[0]
        if name in CALLS and isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            found.append(argument.value.partition(".")[0])
    return found


def test_such_calls_are_seen() -> None:
    source = "import importlib\ndef f():\n    importlib.import_module('torch.nn'); require('onnx', extra='onnx')"
    assert imports_by_string(source) == ["torch", "onnx"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_optional_modules_are_named_only_where_they_belong(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    strangers = [
        module
        for module in imports_by_string(path.read_text(encoding="utf-8"))
        if module in ALLOWED and not place.startswith(ALLOWED[module])
    ]
    assert strangers == []
