"""Where and with what a run took place, and how much memory a call takes."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch

import serpent
from serpent import native


def describe(device: torch.device) -> dict[str, object]:
    """Names of CPU and GPU, driver, clocks and load."""
    machine: dict[str, object] = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": native.default_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        machine["gpu"] = properties.name
        machine["multiprocessors"] = properties.multi_processor_count
        machine["l2_cache_bytes"] = properties.L2_cache_size
        machine |= _nvidia_smi(str(getattr(properties, "uuid", "")))
    return machine


def _nvidia_smi(uuid: str) -> dict[str, str]:
    fields = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu")
    if shutil.which("nvidia-smi") is None:
        return {"driver_version": "unknown: no nvidia-smi"}
    # The GPU that torch was shown, which need not be the machine's first; a part of one (MIG) is not to be asked about.
    for gpu in (f"GPU-{uuid.removeprefix('GPU-')}", "0"):
        command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", f"--id={gpu}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return dict(zip(fields, done.stdout.strip().split(", "), strict=False))
    return {"driver_version": f"unknown: {(done.stderr or done.stdout).strip()}"}


def cpu_model() -> str:
    """The CPU's name as Linux has it."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.is_file() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def versions() -> dict[str, str]:
    """What took part."""
    found = {"serpent": serpent.__version__, "python": platform.python_version(), "torch": torch.__version__}
    if torch.version.cuda is not None:
        found["torch_cuda"] = torch.version.cuda
    for name in ("triton", "mamba-ssm"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def extra_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Peak memory of a call beyond what was in use before; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        ctypes.CDLL(None).malloc_trim(0)  # or the call would reuse memory that still counts as resident
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident
        before = _status_bytes("VmRSS")
    except (OSError, AttributeError):
        call()
        return None
    result = call()
    peak = _status_bytes("VmHWM")
    del result
    return max(0, peak - before)


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) * 1024
