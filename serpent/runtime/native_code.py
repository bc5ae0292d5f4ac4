"""Whether a plan carries native code for the host, told by its bytes: a manifest says what its author likes."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

_LIBRARIES = (
    # ELF of 64 bits, a shared library, for x86-64 (62) or aarch64 (183). Code for GPUs is ELF too, with number 190.
    re.compile(rb"\x7fELF\x02.{11}\x03\x00[\x3e\xb7]\x00", re.DOTALL),
    # PE of 64 bits for x86-64 or aarch64 with the flag of a DLL.
    re.compile(rb"PE\x00\x00\x64[\x86\xaa].{17}[\x20-\x3f\x60-\x7f\xa0-\xbf\xe0-\xff]\x0b\x02", re.DOTALL),
)
"""Headers of what the loaders of Linux and Windows take, each far too long to turn up by chance."""


def carries_native_code(path: Path) -> bool:
    """Whether a host's shared library lies in a file, as TensorRT embeds it: as it is, anywhere.

    Raises:
        OSError: the file cannot be read.
    """
    if path.stat().st_size == 0:  # which cannot be mapped
        return False
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as plan:
        return any(header.search(plan) for header in _LIBRARIES)
