"""docs/deploy.md: every command in it is run by a test as it is printed, or marked as not run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import documented
from exported import Exported

RUN_HERE = {"Checking an export on the machine that runs it", "ONNX Runtime's TensorRT provider"}
RUN_ELSEWHERE = {
    "Which tool wants which file and flag": "tests/test_packaging.py",  # the folder that it asks for, of a wheel
    "C++": "tests/test_packaging.py",
    "Polygraphy": "tests/test_polygraphy.py",
}


def test_every_section_with_commands_is_run_or_marked() -> None:
    assert len(documented.lines()) > 10
    run = {line.section for line in documented.lines() if not line.not_run}
    assert run == RUN_HERE | set(RUN_ELSEWHERE)
    root = documented.DOCUMENT.parents[1]
    assert [file for file in RUN_ELSEWHERE.values() if not (root / file).is_file()] == []


def test_what_needs_a_gpu_or_another_machine_is_marked() -> None:
    marked = [line.text for line in documented.lines() if line.not_run]
    for start in ("polygraphy run", "trtexec", "triton/start.sh", "serpent-verify NAME.plan"):
        assert any(text.startswith(start) for text in marked), start


def test_trtexec_runs_the_plan_of_an_export_for_tensorrt() -> None:
    """Not the default's, which is TensorRT-RTX's."""
    texts = [line.text for line in documented.lines() if line.section == "trtexec"]
    run = next(index for index, text in enumerate(texts) if "--loadEngine=NAME.plan" in text)
    assert any(text.startswith("serpent-export") and "--engine trt" in text for text in texts[:run])
    (row,) = [text for text in documented.DOCUMENT.read_text().splitlines() if text.startswith("| trtexec, running")]
    assert "--engine trt" in row


def test_checking_an_export(exported: Exported, tmp_path: Path) -> None:
    for file in (exported.onnx, exported.plan, exported.manifest):
        # The manifest names its files, so the name stays; the commands' NAME is put in its place.
        if file.exists():
            shutil.copy(file, tmp_path)
    commands = [text.replace("NAME", exported.onnx.stem) for text in documented.runnable(min(RUN_HERE))]
    if not exported.plan.exists():
        commands = [text for text in commands if ".plan" not in text]
    run = documented.run(commands, tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"agrees with {exported.manifest.name}" in run.stdout
    assert f"verified: {exported.onnx.name}, onnxruntime on cpu" in run.stdout


@pytest.mark.slow
def test_the_file_for_the_tensorrt_provider(tmp_path: Path) -> None:
    run = documented.run(documented.runnable("ONNX Runtime's TensorRT provider"), tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert [file.name for file in tmp_path.glob("*.ort-trt.onnx")] == ["serpent-b-512-fp32.ort-trt.onnx"]
