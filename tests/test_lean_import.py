"""Nothing heavy is imported before it is needed: help texts stay fast, and a lean install works."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import serpent

HEAVY = {"torch", "onnx", "onnxruntime", "onnxscript", "tensorrt", "tensorrt_rtx", "cuda", "scipy", "skimage"}
HELP_SECONDS = 0.5


def top_level_modules_after(code: str) -> set[str]:
    """Names of the top-level modules that a fresh interpreter has loaded once ``code`` has run."""
    report = "\nimport json, sys\nprint(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    run = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout.splitlines()[-1]))


def help_of(function: str, program: str) -> str:
    return f"""
import sys
sys.argv = [{program!r}, "--help"]
from serpent_cli.main import {function}
try:
    {function}()
except SystemExit as leave:
    assert not leave.code, leave.code
"""


@pytest.mark.parametrize(
    ("function", "program"),
    [
        ("run_serpent", "serpent"),
        ("run_export", "serpent-export"),
        ("run_infer", "serpent-infer"),
        ("run_inspect", "serpent-inspect"),
        ("run_verify", "serpent-verify"),
        ("run_train", "serpent-train"),
        ("run_eval", "serpent-eval"),
        ("run_degrade", "serpent-degrade"),
        ("run_doctor", "serpent-doctor"),
    ],
)
def test_help_imports_nothing_heavy(function: str, program: str) -> None:
    loaded = top_level_modules_after(help_of(function, program))
    assert "click" in loaded  # else this test looks at the wrong thing
    assert not loaded & (HEAVY | {"numpy", "PIL", "safetensors"})


def test_help_answers_at_once() -> None:
    command = [str(Path(sys.executable).with_name("serpent")), "--help"]
    seconds = []
    for _ in range(6):  # the best of several: other work on the machine only ever adds
        start = time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert "Usage: serpent" in run.stdout
    assert min(seconds) < HELP_SECONDS


def test_import_serpent_imports_nothing_else() -> None:
    added = top_level_modules_after("import serpent") - top_level_modules_after("")
    assert added - sys.stdlib_module_names == {"serpent"}
    submodules = "import serpent, sys; print([name for name in sys.modules if name.startswith('serpent.')])"
    run = subprocess.run([sys.executable, "-c", submodules], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_configuration_needs_no_numpy() -> None:
    loaded = top_level_modules_after("import serpent; serpent.SerpentConfig.from_variant('B')")
    assert not loaded & (HEAVY | {"numpy"})


@pytest.mark.parametrize(
    "module", ["serpent.runtime", "serpent.native", "serpent.metrics", "serpent.manifest", "serpent.evaluation"]
)
def test_the_runtime_imports_without_any_extra(module: str) -> None:
    assert not top_level_modules_after(f"import {module}") & HEAVY


def test_the_network_and_its_gradients_need_torch_alone() -> None:
    pytest.importorskip("torch", reason="the network needs the extra torch")
    code = """
import sys, warnings
sys.modules.update(dict.fromkeys(["numpy", "safetensors", "PIL", "click", "rich", "onnx", "mamba_ssm"]))
warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
import torch, serpent, serpent.scan
model = serpent.create_model("L", embed_dim=8, num_scales=1, depth=1)
model(torch.rand(1, 3, 8, 8)).sum().backward()
print(all(parameter.grad is not None for parameter in model.parameters()))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "True\n"), run.stderr


@pytest.mark.parametrize("name", serpent.__all__)
def test_every_public_name_is_there(name: str) -> None:
    pytest.importorskip("torch", reason="create_model, load_model and save_model need the extra torch")
    assert getattr(serpent, name) is not None
    assert name in dir(serpent)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'serpent' has no attribute 'nonsense'"):
        _ = serpent.nonsense
