"""Stand-ins for the CUDA runtime and for a TensorRT module that runs one plan: host memory, same names."""
# ruff: noqa: N802, N815  # the names are CUDA's

from __future__ import annotations

import ctypes
from enum import Enum
from types import SimpleNamespace
from typing import Any


class Status(Enum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2


class Cuda:
    """Device memory is host memory. ``memory`` holds what was allocated and not freed."""

    cudaError_t = Status
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out")
    cudaDeviceAttr = SimpleNamespace(cudaDevAttrComputeCapabilityMajor=0, cudaDevAttrComputeCapabilityMinor=1)

    def __init__(self, *capabilities: tuple[int, int]) -> None:
        self.capabilities = capabilities
        self.memory: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.device = 0
        self.allocations_left = 1_000_000

    def cudaGetDeviceCount(self) -> tuple[Status, int]:
        return Status.cudaSuccess, len(self.capabilities)

    def cudaDeviceGetAttribute(self, attribute: int, device: int) -> tuple[Status, int]:
        return Status.cudaSuccess, self.capabilities[device][attribute]

    def cudaSetDevice(self, device: int) -> tuple[Status]:
        self.device = device
        return (Status.cudaSuccess,)

    def cudaStreamCreate(self) -> tuple[Status, int]:
        self.streams.add(77)
        return Status.cudaSuccess, 77

    def cudaStreamDestroy(self, stream: int) -> tuple[Status]:
        self.streams.remove(stream)
        return (Status.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Status]:
        assert stream in self.streams
        return (Status.cudaSuccess,)

    def cudaMalloc(self, size: int) -> tuple[Status, int | None]:
        if self.allocations_left == 0:
            return Status.cudaErrorMemoryAllocation, None
        self.allocations_left -= 1
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return Status.cudaSuccess, ctypes.addressof(block)

    def cudaFree(self, address: int) -> tuple[Status]:
        del self.memory[address]
        return (Status.cudaSuccess,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: str, stream: int) -> tuple[Status]:
        assert stream in self.streams
        assert (target if kind == "in" else source) in self.memory
        ctypes.memmove(target, source, size)
        return (Status.cudaSuccess,)

    def cudaGetErrorString(self, status: Status) -> tuple[Status, bytes]:
        return Status.cudaSuccess, {Status.cudaErrorMemoryAllocation: b"out of memory"}[status]


class Context:
    """Gives back half of its input, which is f32."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.works = True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return name == "image"

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, _stream: int) -> bool:
        if not self.works:
            return False
        count = self.shape[0] * self.shape[1] * self.shape[2] * self.shape[3]
        source = (ctypes.c_float * count).from_address(self.addresses["image"])
        target = (ctypes.c_float * count).from_address(self.addresses["restored"])
        target[:] = [value / 2 for value in source]
        return True


class Engine:
    """A loaded plan with one execution context."""

    def __init__(self, tensors: dict[str, Any]) -> None:
        self.context = Context()
        self.tensors = tensors
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return self.tensors[name]

    def create_execution_context(self) -> Context:
        return self.context
