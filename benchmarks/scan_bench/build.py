"""Compiles the benchmark's own C++ and CUDA sources when it runs, for the machine it runs on."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from serpent.errors import SerpentError

SOURCES = Path(__file__).resolve().parent


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="serpent-bench-")


def cpp_compiler() -> str:
    """The host's C++ compiler.

    Raises:
        SerpentError: there is none.
    """
    wanted = os.environ.get("CXX")
    for name in (wanted,) if wanted else ("c++", "g++", "clang++"):
        found = shutil.which(name)
        if found is not None:
            return found
    raise SerpentError(f"no C++ compiler was found ({wanted or 'c++, g++, clang++'})", hint="install one or set CXX")


def cuda_compiler() -> str | None:
    """nvcc, or None."""
    return shutil.which(os.environ.get("CUDACXX", "nvcc")) or shutil.which("/usr/local/cuda/bin/nvcc")


def compile_library(compiler: str, source: str, *flags: str) -> Path:
    """Compile a source of this folder into a shared library that lives as long as the process.

    Raises:
        SerpentError: the compiler refuses it; the message is the compiler's.
    """
    target = Path(_folder().name) / f"{source}-{abs(hash((compiler, flags))):x}.so"
    command = [compiler, "-O3", "-shared", *flags, "-o", str(target), str(SOURCES / source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SerpentError(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
    return target


@functools.cache
def cpp_library(source: str, *flags: str) -> ctypes.CDLL:
    """A C++ source of this folder, compiled by the host's compiler and loaded.

    Raises:
        SerpentError: no compiler, or it refuses the source.
    """
    return ctypes.CDLL(str(compile_library(cpp_compiler(), source, "-std=c++20", "-fPIC", "-pthread", *flags)))
