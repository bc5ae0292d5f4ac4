"""CUDA through ``cuda.bindings``, every status checked; the real ``Device`` of :mod:`.tensorrt_engine`.

Not run on a GPU yet: only against a stand-in for the bindings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from serpent.errors import EngineError
from serpent.extras import require
from serpent.runtime.gpu import target_name

_MIB = 2**20
_ASK_DOCTOR = "serpent-doctor says what is usable here"


class Cuda:
    """The CUDA runtime of this process, before a device is chosen.

    Args:
        runtime: the module ``cuda.bindings.runtime``.
        driver: the module ``cuda.bindings.driver``.
    """

    def __init__(self, runtime: Any, driver: Any) -> None:
        self.runtime, self.driver = runtime, driver

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the CUDA runtime and return its value, if it has one.

        Raises:
            EngineError: CUDA reports an error.
        """
        status, *values = getattr(self.runtime, name)(*arguments)
        if status == self.runtime.cudaError_t.cudaSuccess:
            return values[0] if len(values) == 1 else tuple(values) or None
        if status == self.runtime.cudaError_t.cudaErrorInsufficientDriver:
            raise EngineError(
                f"the NVIDIA driver is too old for the CUDA runtime that is installed ({name} refused)",
                hint="update the driver; serpent-doctor says which version is there",
            )
        _, text = self.runtime.cudaGetErrorString(status)
        raise EngineError(f"{name} failed: {text.decode()}", hint=_ASK_DOCTOR)

    def call_driver(self, name: str, *arguments: Any) -> Any:
        """The same of a function of the driver; its bindings count on there being one.

        Raises:
            EngineError: the driver reports an error.
        """
        status, *values = getattr(self.driver, name)(*arguments)
        if status == self.driver.CUresult.CUDA_SUCCESS:
            return values[0] if values else None
        _, text = self.driver.cuGetErrorString(status)
        raise EngineError(f"{name} failed: {text.decode()}", hint=_ASK_DOCTOR)

    def count(self) -> int:
        """How many devices CUDA sees."""
        return int(self.call("cudaGetDeviceCount"))

    def current(self) -> int:
        """The calling thread's device."""
        return int(self.call("cudaGetDevice"))

    def target(self, device: int) -> str:
        """Compute capability of a device, such as "sm89"."""
        kind = self.runtime.cudaDeviceAttr
        attributes = (kind.cudaDevAttrComputeCapabilityMajor, kind.cudaDevAttrComputeCapabilityMinor)
        return target_name(*(int(self.call("cudaDeviceGetAttribute", attribute, device)) for attribute in attributes))


def load_cuda(extra: str, purpose: str) -> Cuda:
    """The CUDA runtime through its bindings.

    Args:
        extra: of this package, that brings them.
        purpose: what needs them, the subject of an error's sentence.

    Raises:
        MissingExtraError: not installed.
    """
    runtime, driver = (require(f"cuda.bindings.{part}", extra, purpose) for part in ("runtime", "driver"))
    return Cuda(runtime, driver)


class CudaDevice:
    """One GPU; the methods are those of :class:`serpent.runtime.tensorrt_engine.Device`.

    The caller's current device is the same after each of them as before.
    """

    def __init__(self, cuda: Cuda, index: int) -> None:
        self.index = index
        self._cuda = cuda
        self._runtime = cuda.runtime

    def name(self) -> str:
        """What distinguishes this GPU from others, its number apart."""
        # Not on the device, which would take its memory before a plan is tried in another process.
        properties = self._cuda.call("cudaGetDeviceProperties", self.index)
        return f"{properties.name.decode()} {bytes(properties.uuid.bytes).hex()}"

    @contextmanager
    def active(self) -> Iterator[None]:
        # Its context is lent, not the device chosen: choosing the caller's again would make a context there, of some
        # hundred megabytes, on a GPU that nobody may be using, and fail on one that is full.
        self._cuda.call_driver("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            self._cuda.call_driver("cuCtxPopCurrent")

    @functools.cached_property
    def _context(self) -> Any:
        """What CUDA's runtime uses on this device; for as long as the process lives, as where a device is chosen."""
        self._cuda.count()  # says in a sentence that there is no driver, and starts the one that there is
        return self._cuda.call_driver("cuDevicePrimaryCtxRetain", self._cuda.call_driver("cuDeviceGet", self.index))

    def free_bytes(self) -> int:
        return int(self._call("cudaMemGetInfo")[0])

    def allocate(self, size: int) -> int:
        return self._allocated("cudaMalloc", size)

    def free(self, address: int) -> None:
        self._call("cudaFree", address)

    def allocate_pinned(self, size: int) -> int:
        return self._allocated("cudaMallocHost", size)

    def free_pinned(self, address: int) -> None:
        self._call("cudaFreeHost", address)

    def copy_in(self, target: int, source: int, size: int, stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", target, source, size, kind, stream)

    def copy_out(self, target: int, source: int, size: int, stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target, source, size, kind, stream)

    def create_stream(self) -> int:
        # Non-blocking: work on CUDA's default stream, of whichever library, does not hold this one up.
        return int(self._call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def create_event(self) -> int:
        return int(self._call("cudaEventCreateWithFlags", self._runtime.cudaEventDisableTiming))

    def destroy_event(self, event: int) -> None:
        self._call("cudaEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        self._call("cudaEventRecord", event, stream)

    def wait(self, stream: int, event: int) -> None:
        self._call("cudaStreamWaitEvent", stream, event, 0)

    def synchronize_event(self, event: int) -> None:
        self._call("cudaEventSynchronize", event)

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        # Thread-local: what other threads allocate meanwhile does not spoil this capture.
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        with self.active():
            self._call("cudaStreamBeginCapture", stream, mode)
            try:
                enqueue()
            except BaseException:
                # A stream left in capture refuses all other work; what it says about the broken capture adds nothing.
                status, graph = self._runtime.cudaStreamEndCapture(stream)
                if status == self._runtime.cudaError_t.cudaSuccess:  # the calls until then, as a graph
                    self._runtime.cudaGraphDestroy(graph)
                raise
            graph = self._call("cudaStreamEndCapture", stream)
        try:
            return int(self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._call("cudaGraphExecDestroy", graph)

    def index_of(self, address: int) -> int | None:
        attributes = self._call("cudaPointerGetAttributes", address)
        kinds = self._runtime.cudaMemoryType
        on_device = attributes.type in (kinds.cudaMemoryTypeDevice, kinds.cudaMemoryTypeManaged)
        return int(attributes.device) if on_device else None

    def _call(self, name: str, *arguments: Any) -> Any:
        # Also where only a stream is named: stream 0 is that of the current device.
        with self.active():
            return self._cuda.call(name, *arguments)

    def _allocated(self, function: str, size: int) -> int:
        try:
            return int(self._call(function, size))
        except EngineError as error:
            free = self.free_bytes() // _MIB
            raise EngineError(
                f"{error.message}; {-(-size // _MIB)} MiB were asked for, cuda:{self.index} has {free} MiB free",
                hint="close other programs on the GPU, use fewer contexts, or export a smaller --res",
            ) from None
