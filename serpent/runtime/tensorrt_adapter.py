"""TensorRT and TensorRT-RTX as :class:`serpent.runtime.tensorrt_engine.Engine`: everything that knows their API.

Not run on a GPU yet: only against stand-ins, and against the real module as far as that goes without a GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from serpent.errors import EngineError
from serpent.runtime import tensorrt_cache
from serpent.runtime.tensorrt_engine import INPUT, OUTPUT, Shape, ShapeLimits

_SILENT = "no reason was given"
_DTYPES = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8"}

_DIAGNOSES = {
    "VERSION_MISMATCH": "it was built with another version of {title}",
    "UNSUPPORTED_CC": "it was not built for this GPU's compute capability",
    "OLD_CUDA_DRIVER": "the NVIDIA driver is older than it needs",
    "OLD_CUDA_RUNTIME": "the installed CUDA runtime is older than it needs",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "MALFORMED_ENGINE": "its header is no plan's: the file is damaged or something else",
}
"""What the header check of TensorRT-RTX can find; its other finding, a CUDA error, is clearer from loading the plan."""


class TensorRTEngine:
    """A plan in memory; the methods are those of :class:`serpent.runtime.tensorrt_engine.Engine`.

    Args:
        trt: the module, see :func:`serpent.runtime.tensorrt_library.load`.
        title: what the module is called.
        plan: the file's bytes.
        plugin_errors: what the plugin says, a ``Messages``.
        logger: of :func:`serpent.runtime.tensorrt_library.make_logger`.
        cuda_graphs: let TensorRT-RTX replay runs as CUDA graphs; TensorRT has nobody's help in this.
        host_code: run native code that the plan carries (its plugin).
        cache_entry: name of the cache entry for what TensorRT-RTX compiles; nothing is kept without it.

    Raises:
        EngineError: the plan is refused, with the reason.
    """

    def __init__(
        self,
        trt: Any,
        title: str,
        plan: bytes,
        *,
        plugin_errors: Any,
        logger: Any,
        cuda_graphs: bool = False,
        host_code: bool = False,
        cache_entry: str | None = None,
    ) -> None:
        self._title, self._plugin_errors, self._logger = title, plugin_errors, logger
        self.captures_itself = hasattr(trt, "CudaGraphStrategy")
        self._take_messages()
        runtime = trt.Runtime(logger)
        if host_code:  # otherwise the runtime's default stays, which refuses it
            runtime.engine_host_code_allowed = True
        self._check_header(trt, runtime, plan)
        self._engine = runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(self._take_messages() or _SILENT)
        self._config: Any = None
        self._cache: Any = None
        self._cache_entry, self._cached = cache_entry, b""
        if self.captures_itself:
            self._configure(trt, cuda_graphs)

    @property
    def dtypes(self) -> dict[str, str]:
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        kinds = {name: engine.get_tensor_dtype(name).name for name in names}
        layouts = {name: engine.get_tensor_format(name).name for name in names}
        return {
            name: _DTYPES.get(kind, kind.lower()) + (f" {layouts[name]}" if layouts[name] != "LINEAR" else "")
            for name, kind in kinds.items()
        }

    @property
    def limits(self) -> ShapeLimits:
        shape = tuple(self._engine.get_tensor_shape(INPUT))
        if -1 not in shape:
            return ShapeLimits(shape, shape)
        least, _, most = self._engine.get_tensor_profile_shape(INPUT, 0)
        return ShapeLimits(tuple(least), tuple(most))

    @property
    def context_bytes(self) -> int:
        return int(self._engine.device_memory_size_v2)

    def create_context(self) -> TensorRTContext:
        self._take_messages()
        engine = self._engine
        context = engine.create_execution_context(*([] if self._config is None else [self._config]))
        if context is None:
            raise EngineError(f"{self._title} cannot make an execution context: {self._take_messages() or _SILENT}")
        return TensorRTContext(context, self._take_messages)

    def save_cache(self) -> None:
        cache = self._cache  # another thread may close this meanwhile
        if cache is None or self._cache_entry is None:
            return
        serialized = cache.serialize()
        if serialized is None:  # TensorRT failed to, after a run that went well: there is nothing to keep
            return
        content = bytes(serialized)
        if content != self._cached and tensorrt_cache.store(self._cache_entry, content):
            self._cached = content

    def close(self) -> None:
        self._cache = self._config = self._engine = None

    def _check_header(self, trt: Any, runtime: Any, plan: bytes) -> None:
        """Refuse by its first bytes a plan that cannot work here, where the flavour can tell."""
        if not hasattr(runtime, "get_engine_validity"):
            return
        validity, findings = runtime.get_engine_validity(plan[: runtime.engine_header_size])
        if validity != trt.EngineValidity.INVALID:
            return
        known = trt.EngineInvalidityDiagnostics.__members__
        found = [text for name, text in _DIAGNOSES.items() if name in known and int(findings) & int(known[name])]
        if found:
            raise EngineError("; ".join(found).format(title=self._title))

    def _configure(self, trt: Any, cuda_graphs: bool) -> None:
        config = self._engine.create_runtime_config()
        strategy = trt.CudaGraphStrategy
        config.cuda_graph_strategy = strategy.WHOLE_GRAPH_CAPTURE if cuda_graphs else strategy.DISABLED
        self._cache = config.create_runtime_cache()
        cached = None if self._cache_entry is None else tensorrt_cache.load(self._cache_entry)
        # One that is of another driver or GPU is refused there, and then made again.
        if cached is not None and self._cache.deserialize(cached):
            self._cached = cached
        config.set_runtime_cache(self._cache)
        self._config = config

    def _take_messages(self) -> str:
        """What the plugin and TensorRT said in this thread since the last time, "" for nothing."""
        return "; ".join(dict.fromkeys([*self._plugin_errors.take(), *self._logger.messages.take()]))


class TensorRTContext:
    """An execution context; the methods are those of :class:`serpent.runtime.tensorrt_engine.Context`.

    Two threads in one context would corrupt it: the second is refused.
    """

    def __init__(self, context: Any, take_messages: Callable[[], str]) -> None:
        self._context = context
        self._take_messages = take_messages
        self._shape: Shape = ()
        self._lock = threading.Lock()

    def set_shape(self, shape: Shape) -> Shape:
        with self._alone() as context:
            if not context.set_input_shape(INPUT, shape):
                raise EngineError(f"an image of shape {shape} was refused: {self._take_messages() or _SILENT}")
            self._shape = shape
            return tuple(context.get_tensor_shape(OUTPUT))

    def enqueue(self, image: int, restored: int, stream: int) -> None:
        with self._alone() as context:
            self._take_messages()
            # The first False ends the chain. A plugin's failure may leave TensorRT content.
            done = (
                context.set_tensor_address(INPUT, image)
                and context.set_tensor_address(OUTPUT, restored)
                and context.execute_async_v3(stream)
            )
            said = self._take_messages()
            if said or not done:
                raise EngineError(f"failed on an image of shape {self._shape}: {said or _SILENT}")

    def close(self) -> None:
        self._context = None

    @contextmanager
    def _alone(self) -> Iterator[Any]:
        if not self._lock.acquire(blocking=False):
            raise EngineError("two threads use one execution context", hint="take a context per thread from the pool")
        try:
            if self._context is None:
                raise EngineError("the execution context is closed")
            yield self._context
        finally:
            self._lock.release()
