"""Runs a loaded plan for any number of threads, from host memory or from GPU tensors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent.errors import ArgumentError, EngineError, ModelFileError, forget_frames
from serpent.runtime.border import Border, border_named
from serpent.runtime.device_tensor import DeviceTensor, DeviceView, stream_handle, view_of
from serpent.runtime.memory import Memory
from serpent.runtime.tensorrt_engine import INPUT, OUTPUT, Device, Engine, Shape
from serpent.runtime.tensorrt_lane import Lane
from serpent.runtime.tensorrt_pool import LanePool
from serpent.shapes import Range, ShapeProfile


class PlanRunner:
    """A plan with a pool of execution contexts. All methods may be called from several threads at once.

    Whatever device is current for the calling thread stays so.

    Args:
        engine: the plan; closed with the runner, also when this fails.
        device: where it runs.
        name: the file, for messages.
        profile: accepted shapes, as the manifest says; the plan's own must be these.
        io: layout and type of both tensors, as the manifest says.
        contexts: how many runs may go on at once.
        cuda_graphs: replay runs of a shape as CUDA graphs.
        free_before: bytes that were free on the device before the plan was loaded.

    Raises:
        ModelFileError: the plan and the manifest disagree.
        EngineError: no context can be made.
    """

    def __init__(
        self,
        engine: Engine,
        device: Device,
        *,
        name: str,
        profile: ShapeProfile,
        io: str,
        contexts: int,
        cuda_graphs: bool,
        free_before: int,
    ) -> None:
        self._engine, self._device, self._name = engine, device, name
        self._profile, self._io = profile, io
        self._saved = False
        self._free_before, self._peak = free_before, 0
        self._reserved = 0  # bytes of the largest image so far
        try:
            self._border = border_named(io)
            _check_plan(engine, name, profile, self._border)
            with device.active():
                self._pool = LanePool(
                    lambda: Lane(engine, device, io, graphs=cuda_graphs),
                    contexts,
                    f"the session of {name} is closed",
                )
        except BaseException as error:
            engine.close()
            if isinstance(error, EngineError):
                raise EngineError(f"{name} cannot run: {error.message}", hint=error.hint) from None
            raise

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, 3, H, W) f32 in host memory, sizes within the profile, to a new array of the same shape.

        Raises:
            ArgumentError: another rank, type or size.
            EngineError: the run failed.
            SerpentError: closed.
        """
        if image.ndim != 4 or image.shape[1] != 3 or image.dtype != np.float32:
            raise ArgumentError(f"image is {image.dtype}{image.shape}; expected float32 (B, 3, H, W)")
        batch, _, height, width = image.shape
        shape = self._border.shape(batch, height, width)
        self._check_sizes(shape, (batch, height, width))
        with _named(self._name), self._device.active():
            with self._pool.lane(shape) as lane:
                restored = lane.run(image)
                self._reserved = max(self._reserved, self._bytes(shape))
            if not self._saved:  # once early: a server may never close its sessions
                self._saved = True
                self._engine.save_cache()
        return restored

    def run_on_device(self, image: Any, *, out: Any = None, stream: Any = None) -> Any:
        """Enqueue one run from a GPU tensor to a GPU tensor, without a copy; returns before it is done.

        Args:
            image: C-contiguous on this device, in the plan's own layout and type, sizes within the profile. Whoever
                owns it keeps it unchanged until ``stream`` has passed the run.
            out: where to put the result: a tensor of the same shape and type that shares no memory with ``image``; a
                new one by default.
            stream: the caller's CUDA stream; the default stream by default.

        Returns:
            ``out``, or a :class:`DeviceTensor`.

        Raises:
            ArgumentError: a tensor that does not fit.
            EngineError: the run could not be enqueued.
            SerpentError: closed.
        """
        handle = stream_handle(stream)
        # On its device from here on: PyTorch hands a tensor over only where its device is the current one, and makes
        # the current device's stream wait.
        with self._device.active():
            source = view_of(image, INPUT, self._device, handle)
            self._check_tensor(source, INPUT)
            if out is None:
                result = DeviceTensor(self._device, source.shape, source.dtype)
                target = result.address
            else:
                view = view_of(out, "out", self._device, handle)
                self._check_tensor(view, "out")
                self._check_out(source, view)
                target = view.address
            with _named(self._name), self._pool.lane(source.shape) as lane:
                lane.enqueue(source.shape, source.address, target, handle)
        if out is not None:
            return out
        result.written_on(handle)
        return result

    def run_bytes(self, batch: int, height: int, width: int) -> int:
        """Device memory that a run from host memory takes beyond what is held: a context has its own from the start.

        Not in it is what TensorRT may take at the first run of a shape.
        """
        return 2 * max(0, self._bytes(self._border.shape(batch, height, width)) - self._reserved)

    def memory(self) -> Memory:
        """What the device has less than before the plan was loaded, taken by whomever: CUDA does not tell by whom.

        Contexts and buffers stay until the end, so that the peak can be asked for after a run.
        """
        free = self._device.free_bytes()
        used = max(0, self._free_before - free)
        self._peak = max(self._peak, used)
        return Memory(used, self._peak, free)

    def close(self) -> None:
        """Wait for running calls, then free everything; again is fine."""
        with self._device.active():
            self._pool.close()
            self._engine.save_cache()
            self._engine.close()

    def _bytes(self, shape: Shape) -> int:
        return math.prod(shape) * int(np.dtype(self._border.dtype).itemsize)

    def _check_tensor(self, view: DeviceView, name: str) -> None:
        border = self._border
        layout = "(B, H, W, 3)" if border.channels_last else "(B, 3, H, W)"
        if len(view.shape) != 4 or view.shape[3 if border.channels_last else 1] != 3 or view.dtype != border.dtype_name:
            raise ArgumentError(
                f"{name} is {view.dtype}{view.shape}; the plan ({self._io}) takes {border.dtype_name} {layout}"
            )
        sizes = view.shape[:3] if border.channels_last else (view.shape[0], *view.shape[2:])
        self._check_sizes(view.shape, (sizes[0], sizes[1], sizes[2]))

    @staticmethod
    def _check_out(image: DeviceView, out: DeviceView) -> None:
        if out.shape != image.shape:
            raise ArgumentError(f"out has shape {out.shape}; expected that of image, {image.shape}")
        if abs(out.address - image.address) < math.prod(out.shape) * np.dtype(out.dtype).itemsize:
            raise ArgumentError(
                f"out, at {out.address:#x}, overlaps image, at {image.address:#x}: the plan may write the one "
                "before it has read the other",
                hint="give a tensor with memory of its own, or no out",
            )

    def _check_sizes(self, shape: Shape, sizes: tuple[int, int, int]) -> None:
        profile = self._profile
        batch, *sides = sizes
        fits = batch in profile.batch and sides[0] in profile.height and sides[1] in profile.width
        if not fits or any(side % profile.multiple for side in sides):
            raise ArgumentError(
                f"image has shape {shape}, outside the profile of {self._name}: batch {profile.batch}, height "
                f"{profile.height}, width {profile.width} (min:opt:max), sides multiples of {profile.multiple}",
                hint="call the session itself, session(images), which pads and tiles pictures of any size",
            )


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors of a run carry the plan's name."""
    try:
        yield
    except EngineError as error:
        forget_frames(error)
        raise EngineError(f"{name}: {error.message}", hint=error.hint) from None


def _check_plan(engine: Engine, name: str, profile: ShapeProfile, border: Border) -> None:
    expected = {INPUT: border.dtype_name, OUTPUT: border.dtype_name}
    if engine.dtypes != expected:
        listed = ", ".join(f"{tensor} {kind}" for tensor, kind in engine.dtypes.items())
        raise ModelFileError(
            f"{name} has the tensors {listed}; expected {INPUT} and {OUTPUT}, both {border.dtype_name}"
        )
    ranges = (profile.batch, profile.height, profile.width)
    least = border.shape(*(size.min for size in ranges))
    most = border.shape(*(_bounded(size) for size in ranges))
    limits = engine.limits
    if (limits.least, limits.most) != (least, most):
        raise ModelFileError(
            f"{name} takes shapes from {limits.least} to {limits.most}; its manifest says {least} to {most}",
            hint="restore the files as they were exported, or run serpent-export again",
        )


def _bounded(size: Range) -> int:
    return 0 if size.max is None else size.max
