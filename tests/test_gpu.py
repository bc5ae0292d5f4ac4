"""What nvidia-smi answers, and how it can fail."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from serpent.runtime import gpu
from serpent.runtime.gpu import Gpu, GpuSurvey, find_gpus, survey_gpus
from tests import nvidia_smi


def test_without_the_program_there_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi.remove(tmp_path / "bin", monkeypatch)
    assert find_gpus() == []
    assert (
        survey_gpus().reason
        == "nvidia-smi is not on the PATH and libno-driver.so.1 not found: no NVIDIA driver is installed"
    )


DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int* version) { *version = 13010; return 0; }
int cuDeviceGetCount(int* count) { *count = COUNT; return 0; }
int cuDeviceGet(int* device, int index) { *device = 40 + index; return 0; }
int cuDeviceGetName(char* name, int size, int device) { strncpy(name, device == 40 ? "One" : "Two", size); return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  *value = attribute == 75 ? device - 32 : attribute == 76 ? 9 : -1;
  return 0;
}
"""


@pytest.mark.parametrize(
    ("count", "init", "expected"),
    [
        (2, 0, GpuSurvey((Gpu(0, "One", (8, 9), "for CUDA 13.1"), Gpu(1, "Two", (9, 9), "for CUDA 13.1")))),
        (0, 0, GpuSurvey((), "the NVIDIA driver (for CUDA 13.1) lists no GPU")),
        (1, 100, GpuSurvey((), "the NVIDIA driver refused: cuInit failed with status 100")),
    ],
    ids=["two", "none", "refused"],
)
def test_without_the_program_the_driver_itself_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, init: int, expected: GpuSurvey
) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler, for a stand-in of the driver's library")
    (tmp_path / "driver.c").write_text(DRIVER)
    library = tmp_path / "libdriver.so"
    command = [compiler, "-shared", "-fPIC", f"-DCOUNT={count}", f"-DINIT={init}", str(tmp_path / "driver.c")]
    subprocess.run([*command, "-o", str(library)], check=True)
    nvidia_smi.remove(tmp_path / "bin", monkeypatch)
    monkeypatch.setattr(gpu, "_DRIVER", str(library))
    assert survey_gpus() == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (nvidia_smi.RTX_4090, [Gpu(0, "NVIDIA GeForce RTX 4090", (8, 9), "580.65.06")]),
        (
            f"{nvidia_smi.RTX_4090}\n1, A, B (odd, name), 12.0, 580.65.06\n\n",
            [
                Gpu(0, "NVIDIA GeForce RTX 4090", (8, 9), "580.65.06"),
                Gpu(1, "A, B (odd, name)", (12, 0), "580.65.06"),
            ],
        ),
    ],
    ids=["one", "two, the second with commas in its name"],
)
def test_gpus_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, expected: list[Gpu]) -> None:
    nvidia_smi.install(tmp_path / "bin", monkeypatch, output)
    assert find_gpus() == expected
    assert survey_gpus().reason == ""


@pytest.mark.parametrize(("capability", "target"), [((8, 6), "sm86"), ((12, 0), "sm120"), ((9, 0), "sm90")])
def test_targets_are_named_as_typed(capability: tuple[int, int], target: str) -> None:
    assert Gpu(0, "any", capability, "580").target == target


@pytest.mark.parametrize(
    ("output", "status", "reason"),
    [
        (
            "couldn't communicate\nwith the driver",
            9,
            "failed with exit code 9 and said: couldn't communicate with the driver",
        ),
        ("", 3, "failed with exit code 3 and said: nothing"),
        ("", 0, "lists no GPU"),
        ("0, Old GPU, [N/A], 390.1", 0, "answered '0, Old GPU, [N/A], 390.1', which is not understood"),
        (f"{nvidia_smi.RTX_4090}\ngarbage", 0, "answered 'garbage', which is not understood"),
    ],
)
def test_a_failing_program_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, status: int, reason: str
) -> None:
    nvidia_smi.install(tmp_path / "bin", monkeypatch, output, status=status)
    survey = survey_gpus()
    assert survey.gpus == ()
    assert survey.reason == f"{tmp_path}/bin/nvidia-smi {reason}"


def test_a_program_that_hangs_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi.install(tmp_path / "bin", monkeypatch, nvidia_smi.RTX_4090, seconds=30)
    monkeypatch.setattr(gpu, "_TIMEOUT_S", 0.2)
    assert "did not answer within" in survey_gpus().reason


def test_a_program_that_cannot_start_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi.install(tmp_path / "bin", monkeypatch, "")
    (tmp_path / "bin" / "nvidia-smi").write_bytes(b"\x7fELF of another machine")
    assert "cannot be started" in survey_gpus().reason
