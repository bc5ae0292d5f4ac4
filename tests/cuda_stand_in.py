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
    cudaErrorInsufficientDriver = 35


class Cuda:
    """Device memory is host memory.

    Attributes:
        memory: what was allocated and not freed.
        device: the current one.
        contexts: devices that have a context.
        used: the device of each allocation and each new stream.
    """

    cudaError_t = Status
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out")
    cudaDeviceAttr = SimpleNamespace(cudaDevAttrComputeCapabilityMajor=0, cudaDevAttrComputeCapabilityMinor=1)

    def __init__(self, *capabilities: tuple[int, int]) -> None:
        self.capabilities = capabilities
        self.memory: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.events: set[int] = set()
        self.captures: list[tuple[str, int]] = []
        self.device = 0
        self.contexts: set[int] = set()
        self.lent: list[int] = []
        self.used: list[int] = []
        self.allocations_left = 1_000_000
        self.full_device: int | None = None

    def cudaGetDeviceCount(self) -> tuple[Status, int]:
        return Status.cudaSuccess, len(self.capabilities)

    def cudaDeviceGetAttribute(self, attribute: int, device: int) -> tuple[Status, int]:
        return Status.cudaSuccess, self.capabilities[device][attribute]

    def cudaGetDevice(self) -> tuple[Status, int]:
        return Status.cudaSuccess, self.device

    def cudaSetDevice(self, device: int) -> tuple[Status]:
        self.device = device
        self.contexts.add(device)
        return (Status.cudaSuccess,)

    CUresult = SimpleNamespace(CUDA_SUCCESS=Status.cudaSuccess)

    def cuDeviceGet(self, index: int) -> tuple[Status, int]:
        return Status.cudaSuccess, index

    def cuDevicePrimaryCtxRetain(self, device: int) -> tuple[Status, int | None]:
        if device == self.full_device:
            return Status.cudaErrorMemoryAllocation, None
        self.contexts.add(device)
        return Status.cudaSuccess, device

    def cuCtxPushCurrent(self, context: int) -> tuple[Status]:
        self.lent.append(self.device)
        self.device = context
        return (Status.cudaSuccess,)

    def cuCtxPopCurrent(self) -> tuple[Status, int]:
        context, self.device = self.device, self.lent.pop()
        return Status.cudaSuccess, context

    def cuGetErrorString(self, status: Status) -> tuple[Status, bytes]:
        return self.cudaGetErrorString(status)

    cudaStreamNonBlocking = 1
    cudaEventDisableTiming = 2
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaMemoryType = SimpleNamespace(cudaMemoryTypeDevice=2, cudaMemoryTypeManaged=3)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Status, int]:
        self.used.append(self.device)
        assert flags == self.cudaStreamNonBlocking
        self.streams.add(77)
        return Status.cudaSuccess, 77

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Status, int]:
        assert flags == self.cudaEventDisableTiming
        self.events.add(88)
        return Status.cudaSuccess, 88

    def cudaEventDestroy(self, event: int) -> tuple[Status]:
        self.events.remove(event)
        return (Status.cudaSuccess,)

    def cudaEventRecord(self, event: int, stream: int) -> tuple[Status]:
        assert event in self.events
        assert stream in self.streams
        return (Status.cudaSuccess,)

    def cudaEventSynchronize(self, event: int) -> tuple[Status]:
        assert event in self.events
        return (Status.cudaSuccess,)

    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[Status]:
        assert (stream in self.streams, event in self.events, flags) == (True, True, 0)
        return (Status.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: int, _mode: int) -> tuple[Status]:
        self.captures.append(("begin", stream))
        return (Status.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Status, int]:
        self.captures.append(("end", stream))
        return Status.cudaSuccess, 55

    def cudaGraphInstantiate(self, graph: int, _flags: int) -> tuple[Status, int]:
        return Status.cudaSuccess, graph + 1

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Status]:
        self.captures.append(("launch", graph))
        assert stream in self.streams
        return (Status.cudaSuccess,)

    def cudaGraphDestroy(self, graph: int) -> tuple[Status]:
        self.captures.append(("destroy", graph))
        return (Status.cudaSuccess,)

    def cudaGraphExecDestroy(self, graph: int) -> tuple[Status]:
        self.captures.append(("destroy", graph))
        return (Status.cudaSuccess,)

    def cudaMemGetInfo(self) -> tuple[Status, int, int]:
        return Status.cudaSuccess, 2**30, 2**31

    def cudaGetDeviceProperties(self, device: int) -> tuple[Status, SimpleNamespace]:
        return Status.cudaSuccess, SimpleNamespace(name=b"A GPU", uuid=SimpleNamespace(bytes=bytes([device])))

    def cudaPointerGetAttributes(self, address: int) -> tuple[Status, SimpleNamespace]:
        return Status.cudaSuccess, SimpleNamespace(type=2 if address in self.memory else 1, device=self.device)

    def cudaMallocHost(self, size: int) -> tuple[Status, int | None]:
        return self.cudaMalloc(size)

    def cudaFreeHost(self, address: int) -> tuple[Status]:
        return self.cudaFree(address)

    def cudaStreamDestroy(self, stream: int) -> tuple[Status]:
        self.streams.remove(stream)
        return (Status.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Status]:
        assert stream in self.streams
        return (Status.cudaSuccess,)

    def cudaMalloc(self, size: int) -> tuple[Status, int | None]:
        self.used.append(self.device)
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
        self.runs = 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return name == "image"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name in ("image", "restored")
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, _stream: int) -> bool:
        self.runs += 1
        if not self.works:
            return False
        count = self.shape[0] * self.shape[1] * self.shape[2] * self.shape[3]
        source = (ctypes.c_float * count).from_address(self.addresses["image"])
        target = (ctypes.c_float * count).from_address(self.addresses["restored"])
        target[:] = [value / 2 for value in source]
        return True


class Engine:
    """A loaded plan with one execution context."""

    device_memory_size_v2 = 2**20

    def __init__(self, tensors: dict[str, Any], shape: tuple[int, ...] = (1, 3, 64, 64)) -> None:
        self.context = Context()
        self.shape = shape
        self.tensors = tensors
        self.layouts: dict[str, str] = {}
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return self.tensors[name]

    def get_tensor_format(self, name: str) -> Any:
        return SimpleNamespace(name=self.layouts.get(name, "LINEAR"))

    def get_tensor_shape(self, _name: str) -> tuple[int, ...]:
        return self.shape

    def create_execution_context(self) -> Context:
        return self.context
