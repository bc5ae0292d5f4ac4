"""What the machine can do at most, measured in the same run by the kernels beside this file."""

from __future__ import annotations

import ctypes

import torch

from scan_bench.build import compile_library, cpp_library, cuda_compiler
from scan_bench.records import Ceiling
from serpent.errors import SerpentError

INSTRUCTION_FLAGS = {
    "portable": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mfma", "-mprefer-vector-width=512"),
}
CPU_COPY_BYTES = 64 << 20  # of each thread, in and out
CUDA_COPY_BYTES = 512 << 20
REPEATS = 6


def cpu_ceilings(instruction_sets: list[str], threads: list[int], seconds: float = 0.05) -> list[Ceiling]:
    """Exponentials per second by instruction set and thread count, and bytes copied per second by thread count."""
    libraries = {name: cpp_library("ceilings_cpu.cpp", *INSTRUCTION_FLAGS[name]) for name in instruction_sets}
    ceilings = []
    for count in threads:
        for name, library in libraries.items():
            library.ceiling_exp.restype = ctypes.c_double
            arguments = (ctypes.c_int64(count), ctypes.c_double(seconds))
            ceilings.append(Ceiling("exp", name, count, max(library.ceiling_exp(*arguments) for _ in range(REPEATS))))
        copy = libraries[instruction_sets[-1]].ceiling_copy
        copy.restype = ctypes.c_double
        copied = (ctypes.c_int64(count), ctypes.c_double(seconds), ctypes.c_int64(CPU_COPY_BYTES))
        ceilings.append(Ceiling("copy", "", count, max(copy(*copied) for _ in range(REPEATS))))
    return ceilings


def cuda_ceilings(device: torch.device) -> list[Ceiling]:
    """ex2 and FFMA per second, and bytes copied per second.

    Raises:
        SerpentError: no nvcc, it refuses the source, or CUDA reports an error.
    """
    nvcc = cuda_compiler()
    if nvcc is None:
        raise SerpentError("nvcc was not found, so the ceilings cannot be measured", hint="install it or set CUDACXX")
    major, minor = torch.cuda.get_device_capability(device)
    library = ctypes.CDLL(compile_cuda(nvcc, f"sm_{major}{minor}"))
    library.ceiling_status_text.restype = ctypes.c_char_p

    def measured(name: str, *arguments: object) -> float:
        function = getattr(library, name)
        function.restype = ctypes.c_double
        rate = float(function(*arguments))
        if rate <= 0:
            text = library.ceiling_status_text(ctypes.c_int(int(-rate))).decode()
            raise SerpentError(f"the measurement {name} failed: {text}")
        return rate

    source = torch.ones(CUDA_COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    torch.cuda.synchronize()
    at, to, repeats = ctypes.c_void_p(source.data_ptr()), ctypes.c_void_p(target.data_ptr()), ctypes.c_int(20)
    return [
        Ceiling("exp", "", 0, measured("ceiling_exp", at, repeats)),
        Ceiling("fma", "", 0, measured("ceiling_fma", at, repeats)),
        Ceiling("copy", "", 0, measured("ceiling_copy", at, to, ctypes.c_int64(CUDA_COPY_BYTES), repeats)),
    ]


def compile_cuda(nvcc: str, architecture: str) -> str:
    """The library of ``ceilings_cuda.cu`` for one architecture, as sm_90.

    Raises:
        SerpentError: nvcc refuses the source.
    """
    flags = ("-std=c++17", f"-arch={architecture}", "-Xcompiler", "-fPIC")
    return str(compile_library(nvcc, "ceilings_cuda.cu", *flags))


def best_of(first: list[Ceiling], second: list[Ceiling]) -> list[Ceiling]:
    """The higher of two measurements of the same ceilings, since a busy machine only ever shows less."""
    return [max(pair, key=lambda ceiling: ceiling.per_second) for pair in zip(first, second, strict=True)]
