"""Which NVIDIA GPUs this machine has, asked of ``nvidia-smi``: it comes with the driver and needs no package."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

_QUERY = ["--query-gpu=index,name,compute_cap,driver_version", "--format=csv,noheader"]
_TIMEOUT_S = 20.0
"""A driver in trouble can make nvidia-smi wait for minutes; a healthy one answers within two seconds."""


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU.

    Attributes:
        index: its number for ``nvidia-smi`` (CUDA may count in another order).
        name: as the driver calls it.
        compute_capability: (major, minor).
        driver_version: of the kernel driver, such as "580.65.06".
    """

    index: int
    name: str
    compute_capability: tuple[int, int]
    driver_version: str

    @property
    def target(self) -> str:
        """The compute capability as ``--targets`` spells it, such as "sm89"."""
        return target_name(*self.compute_capability)


@dataclass(frozen=True)
class GpuSurvey:
    """The GPUs found; ``reason`` says why there is none, and is empty when there is one."""

    gpus: tuple[Gpu, ...]
    reason: str = ""


def target_name(major: int, minor: int) -> str:
    """The name of a compute capability: 8, 9 -> "sm89"."""
    return f"sm{major}{minor}"


def survey_gpus() -> GpuSurvey:
    """Ask ``nvidia-smi`` for the GPUs and the driver; never raises."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return GpuSurvey((), "nvidia-smi is not on the PATH: no NVIDIA driver is installed")
    try:
        answer = subprocess.run(
            [program, *_QUERY],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return GpuSurvey((), f"{program} did not answer within {_TIMEOUT_S:.0f} s")
    except OSError as error:
        return GpuSurvey((), f"{program} cannot be started: {error.strerror}")
    if answer.returncode != 0:
        said = " ".join((answer.stdout + answer.stderr).split()) or "nothing"
        return GpuSurvey((), f"{program} failed with exit code {answer.returncode} and said: {said}")
    lines = [line for line in answer.stdout.splitlines() if line.strip()]
    gpus = [_parse_line(line) for line in lines]
    found = tuple(gpu for gpu in gpus if gpu is not None)
    if len(found) < len(gpus):
        return GpuSurvey((), f"{program} answered {lines[gpus.index(None)]!r}, which is not understood")
    return GpuSurvey(found, "" if found else f"{program} lists no GPU")


def find_gpus() -> list[Gpu]:
    """The NVIDIA GPUs of this machine; empty when there is none or the driver does not answer."""
    return list(survey_gpus().gpus)


def _parse_line(line: str) -> Gpu | None:
    match = re.fullmatch(r"\s*(\d+), (.+), (\d+)\.(\d+), (\S+)\s*", line)
    if match is None:
        return None
    index, name, major, minor, driver = match.groups()
    return Gpu(int(index), name, (int(major), int(minor)), driver)
