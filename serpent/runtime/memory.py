"""Memory that a process has, has had at most, and could still have."""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """Bytes, of the process or of a GPU; None where the system does not tell.

    Attributes:
        used: now, without what the allocator holds free for the next run.
        peak: the most so far.
        free: what could still be taken.
    """

    used: int | None
    peak: int | None
    free: int | None


def process_memory() -> Memory:
    """Memory of this process, as Linux counts it. Elsewhere nothing is known."""
    used, peak = _field(_PROC / "self/status", "VmRSS"), _field(_PROC / "self/status", "VmHWM")
    return Memory(None if used is None else max(0, used - _held_free()), peak, free_memory(_PROC, _CGROUPS))


def free_memory(proc: Path, cgroups: Path) -> int | None:
    """Bytes that the machine, and every control group that this process is in, leave it.

    Args:
        proc: usually ``/proc``.
        cgroups: usually ``/sys/fs/cgroup``.
    """
    free = [] if (available := _field(proc / "meminfo", "MemAvailable")) is None else [available]
    for group in _groups(proc, cgroups):
        for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, now = _number(group / limit), _number(group / usage)
            if most is not None and now is not None:
                # Pages of files count as used, and go when memory is needed.
                files = _field(group / "memory.stat", "inactive_file", unit=1) or 0
                free.append(max(0, most - now + files))
    return min(free, default=None)


def _groups(proc: Path, cgroups: Path) -> list[Path]:
    """The folders of this process's control groups of both versions, up to the root."""
    folders = []
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = cgroups / "memory" if controllers else cgroups
        group = root / path.lstrip("/")
        folders += [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
    return folders


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" is no limit
        return None


def _field(path: Path, name: str, unit: int = 1024) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    values = (line.replace(":", " ").split() for line in lines if line.startswith(name))
    return next((int(words[1]) * unit for words in values if words[0] == name), None)


class _MallInfo(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        *((name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")),
    ]


@functools.cache
def _mallinfo() -> Callable[[], _MallInfo] | None:
    if sys.platform != "linux":
        return None  # Windows has no such handle of the process; no other C library has the function
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is not None:
        function.restype = _MallInfo
    return function


HELD_FREE = 64 << 20
"""What the allocator may keep for the next tensor of a run: taking it back costs the time to clear its pages."""


def give_back_heap() -> None:
    """Return the heap's free pages to the system, where glibc counts more than :data:`HELD_FREE`."""
    mallinfo = _mallinfo()
    if mallinfo is not None and mallinfo().fordblks > HELD_FREE:
        ctypes.CDLL(None).malloc_trim(0)


def _held_free() -> int:
    """Bytes of free memory on glibc's heap that are still resident; 0 under another C library.

    glibc counts as free what it has returned to the system too, so the pages themselves are asked.
    """
    mallinfo = _mallinfo()
    if mallinfo is None:
        return 0
    return max(0, _resident_heap() - int(mallinfo().uordblks))


def _resident_heap() -> int:
    """Bytes of the main heap that have a page of memory."""
    try:
        mappings = (_PROC / "self/maps").read_text().splitlines()
    except OSError:
        return 0
    pages = 0
    for line in mappings:
        if line.endswith("[heap]"):  # there may be several, in a row
            start, end = (int(side, 16) for side in line.split(None, 1)[0].split("-"))
            resident = np.zeros((end - start) // mmap.PAGESIZE, np.uint8)
            ctypes.CDLL(None).mincore(ctypes.c_void_p(start), ctypes.c_size_t(end - start), resident.ctypes)
            pages += int((resident & 1).sum())
    return pages * mmap.PAGESIZE
