"""A plan that needs no TensorRT: a network of one selective scan, over host memory or over CUDA memory.

restored = scan(image, c image): three channels, one state, weights as below. The scan is the native library's, for
the CPU or for CUDA, so results can be compared with :func:`expected`.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
from typing import Any

import numpy as np

from serpent import native
from serpent.errors import EngineError
from serpent.runtime.border import BORDERS, from_border, to_border
from serpent.runtime.tensorrt_engine import INPUT, OUTPUT, Shape, ShapeLimits
from serpent.shapes import ShapeProfile
from standin_device import HostDevice

CHANNELS, STATE, RANK = 3, 1, 1
COLUMNS = np.arange(4 * (RANK + 2 * STATE)) % CHANNELS
FACTORS = np.linspace(-1, 1, COLUMNS.size, dtype=np.float32)
_rng = np.random.default_rng(7)
WEIGHTS = (
    _rng.normal(0, 0.5, (4, CHANNELS, RANK)).astype(np.float32),
    _rng.normal(0, 0.5, (4, CHANNELS)).astype(np.float32),
    -_rng.uniform(0.5, 2, (4, CHANNELS, STATE)).astype(np.float32),
    np.full((4, CHANNELS), 0.05, np.float32),
)


def expected(image: Any) -> Any:
    """The network on (B, 3, H, W) f32 in host memory."""
    x = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
    x_dbl = np.ascontiguousarray(x[..., COLUMNS] * FACTORS)
    y = native.selective_scan_2d(x, x_dbl, *WEIGHTS, threads=1)
    return np.ascontiguousarray(y.transpose(0, 3, 1, 2))


def picture(seed: int, height: int = 16, width: int = 16, batch: int = 1) -> Any:
    """(B, 3, H, W) f32 of random values."""
    return np.random.default_rng(seed).random((batch, 3, height, width), dtype=np.float32)


def agrees(restored: Any, image: Any) -> bool:
    """Far closer than one step of 8 bits, far wider than the rounding of f32; another picture is far off."""
    return restored.shape == image.shape and bool(np.abs(restored - expected(image)).max() < 1e-4)


class StandInEngine:
    """The methods are those of :class:`serpent.runtime.tensorrt_engine.Engine`, over host memory.

    Attributes:
        failing: "create_context", "set_shape" or "enqueue" to let it fail, "" for none.
        written: the shape of the output, where it is not the input's.
        delay: seconds that a run takes at least.
        overlaps: how often two runs were in one context at the same time.
        contexts: those that were made and not closed.
    """

    captures_itself = False

    def __init__(self, device: Any, profile: ShapeProfile, io: str = "f32-nchw", *, context_bytes: int = 2**20) -> None:
        self.device, self.io = device, io
        border = BORDERS[io]
        self.dtypes = {INPUT: border.dtype_name, OUTPUT: border.dtype_name}
        ranges = (profile.batch, profile.height, profile.width)
        self.limits = ShapeLimits(border.shape(*(r.min for r in ranges)), border.shape(*(r.max or 0 for r in ranges)))
        self.context_bytes = context_bytes
        self.failing, self.delay, self.overlaps = "", 0.0, 0
        self.written: Shape | None = None
        self.contexts: list[Any] = []
        self.saves, self.closed = 0, False

    def create_context(self) -> Any:
        self.check("create_context")
        context = (StandInContext if isinstance(self.device, HostDevice) else CudaStandInContext)(self)
        self.contexts.append(context)
        return context

    def save_cache(self) -> None:
        self.check("save_cache")
        self.saves += 1

    def close(self) -> None:
        assert not self.contexts, "the plan was freed before its contexts"
        self.closed = True

    def check(self, name: str) -> None:
        assert not isinstance(self.device, HostDevice) or self.device.is_current(), "a call on another device"
        if name == self.failing:
            raise EngineError(f"{name} failed: as the test asked")


class _Context:
    def __init__(self, engine: StandInEngine) -> None:
        self.engine = engine
        self.shape: Shape = ()
        self.enqueues = 0
        self._take(engine.context_bytes)

    def close(self) -> None:
        self.engine.contexts.remove(self)
        self._take(-self.engine.context_bytes)

    def _take(self, size: int) -> None:
        if isinstance(self.engine.device, HostDevice):
            self.engine.device.memory_bytes -= size


class StandInContext(_Context):
    """One run at a time in host memory; says so when there are two."""

    def __init__(self, engine: StandInEngine) -> None:
        super().__init__(engine)
        self._running = threading.Lock()

    def set_shape(self, shape: Shape) -> Shape:
        self.engine.check("set_shape")
        assert not self._running.locked(), "another shape while a run is going on"
        self.shape = shape
        return self.engine.written or shape

    def enqueue(self, image: int, restored: int, stream: int) -> None:
        self.engine.check("enqueue")
        self.enqueues += 1
        self.engine.device.submit(stream, lambda shape=self.shape: self._run(image, restored, shape))

    def _run(self, image: int, restored: int, shape: Shape) -> None:
        if not self._running.acquire(blocking=False):
            self.engine.overlaps += 1
            return
        try:
            io, dtype = self.engine.io, BORDERS[self.engine.io].dtype
            time.sleep(self.engine.delay)
            restored_image = expected(from_border(_array(image, shape, dtype).copy(), io))
            np.copyto(_array(restored, shape, dtype), to_border(restored_image, io))
        finally:
            self._running.release()


class CudaStandInContext(_Context):
    """The same in CUDA memory. Everything is allocated per shape, so that a run can be captured."""

    def __init__(self, engine: StandInEngine) -> None:
        super().__init__(engine)
        import torch

        self._torch = torch
        self._where = torch.device("cuda", engine.device.index)
        self._weights = [torch.from_numpy(weight).to(self._where) for weight in WEIGHTS]
        self._columns = torch.from_numpy(COLUMNS).to(self._where)
        self._factors = torch.from_numpy(FACTORS).to(self._where)

    def set_shape(self, shape: Shape) -> Shape:
        self.engine.check("set_shape")
        torch = self._torch
        batch, _, height, width = shape
        self.shape = shape
        self._sizes = native.ScanShape(batch, height, width, CHANNELS, STATE, RANK, "f32")
        self._workspace_bytes = native.library().workspace_size(self._sizes)
        self._workspace = torch.empty(max(self._workspace_bytes, 1), dtype=torch.uint8, device=self._where)
        self._x = torch.empty(batch, height, width, CHANNELS, device=self._where)
        self._x_dbl = torch.empty(batch, height, width, COLUMNS.size, device=self._where)
        self._y = torch.empty_like(self._x)
        torch.cuda.synchronize(self._where)
        return self.engine.written or shape

    def enqueue(self, image: int, restored: int, stream: int) -> None:
        self.engine.check("enqueue")
        self.enqueues += 1
        torch = self._torch
        tensors = [self._x, self._x_dbl, *self._weights, self._y]
        pointers = native.ScanPointers(*[tensor.data_ptr() for tensor in tensors])
        with torch.cuda.stream(torch.cuda.ExternalStream(stream, device=self._where)):
            self._x.copy_(self._view(image).permute(0, 2, 3, 1))
            torch.index_select(self._x, 3, self._columns, out=self._x_dbl)
            self._x_dbl.mul_(self._factors)
            workspace = self._workspace.data_ptr()
            native.library().scan_cuda(self._sizes, pointers, workspace, self._workspace_bytes, stream)
            self._view(restored).copy_(self._y.permute(0, 3, 1, 2))

    def _view(self, address: int) -> Any:
        fields = {"shape": self.shape, "typestr": "<f4", "data": (address, False), "strides": None, "version": 2}
        return self._torch.as_tensor(type("Memory", (), {"__cuda_array_interface__": fields})(), device=self._where)


def _array(address: int, shape: Shape, dtype: Any) -> Any:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.ndarray(shape, dtype, buffer=(ctypes.c_byte * size).from_address(address))
