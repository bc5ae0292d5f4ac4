"""A lane: one execution context with the stream, the memory and the CUDA graph that its runs need."""

from __future__ import annotations

import contextlib
import ctypes
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent.errors import EngineError
from serpent.runtime.border import border_named, from_border, to_border
from serpent.runtime.tensorrt_engine import Device, Engine, Shape

_MIB = 2**20


class Lane:
    """Runs one picture batch at a time; its owner sees to it that one thread at a time uses it, on its device.

    A run on the caller's stream may still be going on when the next one is enqueued on another stream: the lane
    makes that one wait, since both use the context's memory.

    Args:
        graphs: replay a run as a CUDA graph from its third time with the same shape and addresses on: the first
            lets TensorRT do what it does once per shape, the second is captured.

    Raises:
        EngineError: no memory, or TensorRT refuses.
    """

    def __init__(self, engine: Engine, device: Device, io: str, *, graphs: bool) -> None:
        self._device, self._io = device, io
        self._border = border_named(io)
        self._graphs = graphs and not engine.captures_itself
        _check_memory(engine, device)
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            self._context = engine.create_context()
            undo.callback(self._context.close)
            self._stream = device.create_stream()
            undo.callback(device.destroy_stream, self._stream)
            self._done = device.create_event()
            undo.callback(device.destroy_event, self._done)
            self._closing = undo.pop_all()
        self._closing.callback(self._free_buffers)
        self._closing.callback(self._drop_graph)
        self._capacity = 0
        self._buffers = contextlib.ExitStack()
        self._pinned = (0, 0)
        self._memory = (0, 0)
        self._shape: Shape = ()
        self._last: tuple[Shape, int, int] | None = None
        self._graph: int | None = None
        self._pending = False

    @property
    def shape(self) -> Shape:
        """The shape of the last run; another one costs time."""
        return self._shape

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """One run from host memory to host memory: (B, 3, H, W) f32 to a new array of the same shape."""
        device, border = self._device, self._border
        batch, _, height, width = image.shape
        shape = border.shape(batch, height, width)
        source_image = to_border(image, self._io)
        size = source_image.nbytes
        self._reserve(size)
        (pinned_image, pinned_restored), (source, target) = self._pinned, self._memory
        np.copyto(_array(pinned_image, shape, border.dtype), source_image)
        device.copy_in(source, pinned_image, size, self._stream)
        self.enqueue(shape, source, target, self._stream)
        device.copy_out(pinned_restored, target, size, self._stream)
        device.synchronize(self._stream)
        self._pending = False
        # A copy: the pinned memory is the next run's.
        return from_border(_array(pinned_restored, shape, border.dtype).copy(), self._io)

    def enqueue(self, shape: Shape, image: int, restored: int, stream: int) -> None:
        """Enqueue one run from and to device memory on any stream; returns before it is done."""
        device, context = self._device, self._context
        if self._pending and shape != self._shape:
            self._finish()  # a new shape changes what the run that is going on may still read
        if self._pending:
            device.wait(stream, self._done)
        if shape != self._shape:
            self._drop_graph()
            self._shape = ()  # unknown, should the next line fail
            written = context.set_shape(shape)
            if written != shape:  # the memory for the result has the image's size
                raise EngineError(
                    f"the plan would write a result of shape {written} for an image of shape {shape}",
                    hint="restore the files as they were exported, or run serpent-export again",
                )
            self._shape = shape
        run = (shape, image, restored)
        if run != self._last:
            self._drop_graph()
            context.enqueue(image, restored, stream)
        elif not self._graphs:
            context.enqueue(image, restored, stream)
        else:
            if self._graph is None:
                # Not on the caller's stream: CUDA cannot capture its default stream.
                self._graph = device.capture(self._stream, lambda: context.enqueue(image, restored, self._stream))
            device.launch(self._graph, stream)
        self._last = run
        device.record(self._done, stream)
        self._pending = True

    def close(self) -> None:
        """Wait for what is going on, then free everything, last made first."""
        with self._closing:
            self._finish()

    def _finish(self) -> None:
        if self._pending:
            self._pending = False
            self._device.synchronize_event(self._done)

    def _drop_graph(self) -> None:
        graph, self._graph, self._last = self._graph, None, None
        if graph is not None:
            self._finish()
            self._device.destroy_graph(graph)

    def _reserve(self, size: int) -> None:
        """Have ``size`` bytes for each of input and output, pinned on the host and on the device."""
        if size <= self._capacity:
            return
        self._finish()
        self._free_buffers()
        device = self._device
        with contextlib.ExitStack() as undo:
            addresses = []
            for allocate, free in ((device.allocate_pinned, device.free_pinned), (device.allocate, device.free)):
                for _ in range(2):
                    addresses.append(allocate(size))
                    undo.callback(free, addresses[-1])
            self._buffers = undo.pop_all()
        self._pinned, self._memory = (addresses[0], addresses[1]), (addresses[2], addresses[3])
        self._capacity = size

    def _free_buffers(self) -> None:
        self._drop_graph()  # it has the addresses in it
        self._capacity = 0
        self._buffers.close()


def _array(address: int, shape: Shape, dtype: Any) -> NDArray[Any]:
    count = math.prod(shape) * np.dtype(dtype).itemsize
    memory: Any = (ctypes.c_byte * count).from_address(address)
    return np.ndarray(shape, dtype, buffer=memory)


def _check_memory(engine: Engine, device: Device) -> None:
    needed, free = engine.context_bytes, device.free_bytes()
    if needed > free:
        raise EngineError(
            f"an execution context needs {-(-needed // _MIB)} MiB, and cuda:{device.index} has {free // _MIB} MiB free",
            hint="close other programs on the GPU, use fewer contexts, or export a smaller --res",
        )
