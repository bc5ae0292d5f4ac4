"""A thousand damaged manifests, ONNX files and plans: our error or the right answer, no death but inside TensorRT."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fuzz_worker
from serpent.errors import EngineError
from serpent.files import sha256_file
from serpent.runtime.gpu import find_gpus
from serpent.runtime.tensorrt_library import RTX, installed_version
from serpent.runtime.tensorrt_loading import PlanFile, try_loading
from tests import nvidia_smi

if TYPE_CHECKING:
    from exported import Exported

CASES = [
    pytest.param("manifest", 300, id="manifest"),
    pytest.param("onnx", 50, id="onnx"),
    pytest.param("onnx-alone", 250, id="onnx-alone"),
    pytest.param("plan", 50, id="plan"),
    pytest.param("plan-itself", 350, id="plan-itself"),
]
needs_rtx = pytest.mark.skipif(installed_version(RTX) is None, reason=f"needs {RTX.title}: {RTX.install_command}")


def run_cases(folder: Path, scratch: Path, kind: str, count: int) -> tuple[dict[int, str], list[int]]:
    """Result by case, and the cases in which the worker died; a new worker goes on after each death."""
    results: dict[int, str] = {}
    deaths: list[int] = []
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    environment = os.environ | {"PYTHONPATH": paths, "XDG_CACHE_HOME": str(scratch / "cache")}
    first = 0
    while first < count:
        command = [sys.executable, "-m", "fuzz_worker", str(folder), str(scratch), kind, str(first), str(count)]
        run = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=environment)
        last = first - 1
        for line in run.stdout.splitlines():
            word, _, rest = line.partition(" ")
            if word == "begin":
                last = int(rest)
            elif word == "end":
                case, _, result = rest.partition(" ")
                results[int(case)] = result
        if run.returncode == 0:
            break
        assert run.returncode < 0, run.stderr
        deaths.append(last)
        first = last + 1
    return results, deaths


def has_a_gpu_for(manifest: Path) -> bool:
    """Whether a GPU of this machine can run the plan that the manifest describes."""
    engines = [entry["engine"] for entry in json.loads(manifest.read_text())["files"].values() if "engine" in entry]
    return any(gpu.target in engine["targets"] for gpu in find_gpus() for engine in engines)


@pytest.mark.parametrize(("gpus", "found"), [(nvidia_smi.RTX_4090, True), (nvidia_smi.H100, False), ("", False)])
def test_only_a_gpu_that_the_plan_was_built_for_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: str, found: bool
) -> None:
    nvidia_smi.install(tmp_path / "bin", monkeypatch, gpus)
    manifest = tmp_path / "a.json"
    manifest.write_text(json.dumps({"files": {"a.plan": {"engine": {"targets": ["sm86", "sm89"]}}, "a.onnx": {}}}))
    assert has_a_gpu_for(manifest) == found


def test_a_damaged_plan_that_loads_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for reason, says in {"": "loaded", "its header is no plan's": "error"}.items():
        monkeypatch.setattr(fuzz_worker, "trial", lambda *_, reason=reason: reason)
        assert fuzz_worker.outcome(tmp_path / "a.plan", tmp_path / "a.onnx", "plan-itself") == says


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), CASES)
def test_damaged_files_end_in_our_error_or_the_right_answer(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, count: int
) -> None:
    results, deaths = run_cases(exported.folder, tmp_path, kind, count)
    assert len(results) + len(deaths) == count
    fine = {"error", "right"}
    if kind == "plan-itself" and has_a_gpu_for(exported.manifest):
        # Without damage it loads, so an error is the damage's; and with a flipped bit in a weight it may.
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        try_loading(PlanFile(exported.plan, sha256_file(exported.plan), RTX, "x", "a GPU"), None)
        fine.add("loaded")
    bad = {case: result for case, result in results.items() if result not in fine}
    assert bad == {}
    tally = Counter(results.values())
    assert tally["error"] > count // 4, tally  # the damage reaches what is read
    if kind != "plan-itself":
        assert deaths == []
    for case in deaths:
        # TensorRT ended the worker; the session meets the same bytes in a trial process, and gets an error.
        file = fuzz_worker.prepare(exported.folder, tmp_path, kind, case)
        with pytest.raises(EngineError, match="was ended by signal"):
            try_loading(PlanFile(file, f"{case:064x}", RTX, "x", "a GPU"), None)
