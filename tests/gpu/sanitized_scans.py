"""Small scans, forward and backward, on the CUDA driver alone: what compute-sanitizer watches in little time.

    sanitized_scans.py cuda|cpu [VARIANT ...]

Runs the default variant and those named, in f32, f16 and bf16, and compares with the CPU kernel. Needs no torch,
whose own kernels the sanitizer would watch too.
"""

from __future__ import annotations

import array
import ctypes
import functools
import os
import random
import struct
import sys
from collections.abc import Sequence

from serpent import native
from serpent.errors import ArgumentError
from serpent.native import ScanGradients, ScanPointers, ScanShape

# N and R that the tuned variants take, and others; more than one chunk of tokens. A ragged tile of channels, and one
# whose rows are aligned, which the kernels copy as vectors.
STATES_AND_RANKS = ((6, 2), (11, 4), (22, 8), (43, 16), (5, 3))
BATCH, HEIGHT, WIDTH = 1, 5, 61
CHANNELS = (37, 40)
INPUTS = ("x", "x_dbl", "dt_weight", "dt_bias", "A", "D_skip")
STORED = ("x", "x_dbl", "y", "grad_y", "grad_x", "grad_x_dbl")  # in the storage type; the others in f32
TOLERANCE = {"f32": 1e-4, "f16": 2e-3, "bf16": 2e-2}  # gross faults only: other tests measure the error


def encoded(values: Sequence[float], dtype: str) -> bytes:
    if dtype == "bf16":
        return array.array("H", [struct.unpack("<I", struct.pack("<f", value))[0] >> 16 for value in values]).tobytes()
    return struct.pack(f"<{len(values)}{'e' if dtype == 'f16' else 'f'}", *values)


def decoded(data: bytes, dtype: str) -> tuple[float, ...]:
    if dtype == "bf16":
        bits = [value << 16 for value in array.array("H", data)]
        return struct.unpack(f"<{len(bits)}f", struct.pack(f"<{len(bits)}I", *bits))
    kind, size = ("e", 2) if dtype == "f16" else ("f", 4)
    return struct.unpack(f"<{len(data) // size}{kind}", data)


class Host:
    """Memory of the CPU; everything stays alive with this object."""

    def __init__(self) -> None:
        self._kept: list[ctypes.Array[ctypes.c_char]] = []

    def put(self, data: bytes) -> int:
        self._kept.append(ctypes.create_string_buffer(data, len(data)))
        return ctypes.addressof(self._kept[-1])

    def get(self, address: int, size: int) -> bytes:
        return ctypes.string_at(address, size)


class Device:
    """Memory of the first GPU, through the driver's C interface."""

    def __init__(self) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)

    def put(self, data: bytes) -> int:
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(len(data)))
        self._call("cuMemcpyHtoD_v2", address, data, ctypes.c_size_t(len(data)))
        return address.value

    def get(self, address: int, size: int) -> bytes:
        data = ctypes.create_string_buffer(size)
        self._call("cuMemcpyDtoH_v2", data, ctypes.c_uint64(address), ctypes.c_size_t(size))
        return data.raw

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status != 0:
            raise SystemExit(f"{name} failed with CUDA error {status}")


def element_counts(shape: ScanShape) -> dict[str, int]:
    pixels = shape.batch * shape.height * shape.width
    return {
        "x": pixels * shape.channels,
        "x_dbl": pixels * 4 * (shape.dt_rank + 2 * shape.d_state),
        "dt_weight": 4 * shape.channels * shape.dt_rank,
        "dt_bias": 4 * shape.channels,
        "A": 4 * shape.channels * shape.d_state,
        "D_skip": 4 * shape.channels,
    }


def drawn(shape: ScanShape) -> dict[str, bytes]:
    """Inputs and dL/dy, all bounded away from anything that overflows."""
    counts = element_counts(shape)
    source = random.Random(0)
    values = {name: [source.uniform(-1, 1) for _ in range(size)] for name, size in counts.items()}
    values["A"] = [-1 - abs(value) for value in values["A"]]
    values["dt_bias"] = [value - 4 for value in values["dt_bias"]]
    values["grad_y"] = [source.uniform(-1, 1) for _ in range(counts["x"])]
    return {name: encoded(each, shape.dtype if name in STORED else "f32") for name, each in values.items()}


def passes(memory: Host | Device, shape: ScanShape, inputs: dict[str, bytes]) -> dict[str, bytes]:
    """y and the gradients as they come back from the memory's machine."""
    library = native.library()
    given = {name: memory.put(data) for name, data in inputs.items()}
    results = {"y": inputs["x"], **{f"grad_{name}": inputs[name] for name in INPUTS}}
    # Filled with 0xff, which are NaNs: what is not written shows.
    places = {name: memory.put(b"\xff" * len(data)) for name, data in results.items()}
    scan = ScanPointers(**{name: given[name] for name in INPUTS}, y=places["y"])
    gradients = ScanGradients(grad_y=given["grad_y"], **{f"grad_{name}": places[f"grad_{name}"] for name in INPUTS})
    if isinstance(memory, Host):
        library.scan_cpu(shape, scan, 1)
        library.scan_backward_cpu(shape, scan, gradients, 1)
    else:
        size, backward_size = library.workspace_size(shape), library.backward_workspace_size(shape)
        library.scan_cuda(shape, scan, memory.put(b"\xff" * size), size, 0)
        library.scan_backward_cuda(shape, scan, gradients, memory.put(b"\xff" * backward_size), backward_size, 0)
    return {name: memory.get(places[name], len(data)) for name, data in results.items()}


def disagreement(ours: bytes, theirs: bytes, dtype: str) -> float:
    """The largest difference over the largest value; infinite where something is not finite."""
    one, other = decoded(ours, dtype), decoded(theirs, dtype)
    worst = max(abs(a - b) for a, b in zip(one, other, strict=True))
    finite = all(abs(value) < float("inf") for value in one)
    return worst / max(abs(value) for value in other) if finite else float("inf")


@functools.cache
def problem(shape: ScanShape) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Inputs, and what the CPU makes of them."""
    inputs = drawn(shape)
    return inputs, passes(Host(), shape, inputs)


def agrees(machine: str, variant: str, shape: ScanShape) -> bool:
    """Whether ``variant`` ("" for the default) takes the shape; exits with a message where it is wrong."""
    inputs, expected = problem(shape)
    variable = "SERPENT_CUDA_VARIANT" if machine == "cuda" else "SERPENT_ISA"
    if variant:
        os.environ[variable] = variant
    try:
        found = passes(Device() if machine == "cuda" else Host(), shape, inputs)
    except ArgumentError as refusal:
        if "' takes d_state" in refusal.message:
            return False
        raise
    finally:
        os.environ.pop(variable, None)
    for name, data in found.items():
        error = disagreement(data, expected[name], shape.dtype if name in STORED else "f32")
        if not error <= TOLERANCE[shape.dtype]:
            raise SystemExit(f"{variant or 'default'}, {shape}: {name} is off by {error:.3g} of its largest value")
    return True


def main(machine: str, variants: list[str]) -> None:
    """Compare every variant, dtype, N and R, and name those that ran."""
    ran = []
    for variant in ("", *variants):
        shapes = [
            ScanShape(BATCH, HEIGHT, WIDTH, channels, states, rank, dtype)
            for states, rank in STATES_AND_RANKS
            for channels in CHANNELS
            for dtype in TOLERANCE
        ]
        if sum(agrees(machine, variant, shape) for shape in shapes):
            ran.append(variant or "default")
    sys.stdout.write(f"agree: {' '.join(ran)}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
