"""Which NVIDIA GPUs this machine has, asked of what comes with the driver and needs no package.

That is ``nvidia-smi``, a process that can be given up; or the driver's library, where the program is not there, as in
some containers.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

_QUERY = ["--query-gpu=index,name,compute_cap,driver_version", "--format=csv,noheader"]
_TIMEOUT_S = 20.0
"""A driver in trouble can make nvidia-smi wait for minutes; a healthy one answers within two seconds."""

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_MAJOR, _MINOR = 75, 76
"""The driver's numbers of a device's compute capability among its attributes."""


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU.

    Attributes:
        index: its number for ``nvidia-smi``; CUDA may count in another order.
        name: as the driver calls it.
        compute_capability: (major, minor).
        driver_version: of the kernel driver, such as "580.65.06"; or the CUDA that it is for, such as "for CUDA 13.0".
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
    """Ask for the GPUs and the driver; never raises."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return _ask_driver()
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


def _ask_driver() -> GpuSurvey:
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return GpuSurvey((), f"nvidia-smi is not on the PATH and {_DRIVER} not found: no NVIDIA driver is installed")
    try:
        version, count = ctypes.c_int(), ctypes.c_int()
        _call(driver.cuInit, 0)
        _call(driver.cuDriverGetVersion, ctypes.byref(version))
        _call(driver.cuDeviceGetCount, ctypes.byref(count))
        cuda = f"for CUDA {version.value // 1000}.{version.value % 1000 // 10}"
        gpus = tuple(_ask_device(driver, index, cuda) for index in range(count.value))
    except OSError as error:
        return GpuSurvey((), f"the NVIDIA driver refused: {error}")
    return GpuSurvey(gpus, "" if gpus else f"the NVIDIA driver ({cuda}) lists no GPU")


def _ask_device(driver: ctypes.CDLL, index: int, cuda: str) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    _call(driver.cuDeviceGet, ctypes.byref(device), index)
    _call(driver.cuDeviceGetName, name, len(name), device)
    _call(driver.cuDeviceGetAttribute, ctypes.byref(major), _MAJOR, device)
    _call(driver.cuDeviceGetAttribute, ctypes.byref(minor), _MINOR, device)
    return Gpu(index, name.value.decode(errors="replace"), (major.value, minor.value), cuda)


def _call(function: Any, *arguments: Any) -> None:
    status = function(*arguments)
    if status != 0:
        raise OSError(f"{function.__name__} failed with status {status}")


def _parse_line(line: str) -> Gpu | None:
    match = re.fullmatch(r"\s*(\d+), (.+), (\d+)\.(\d+), (\S+)\s*", line)
    if match is None:
        return None
    index, name, major, minor, driver = match.groups()
    return Gpu(int(index), name, (int(major), int(minor)), driver)
