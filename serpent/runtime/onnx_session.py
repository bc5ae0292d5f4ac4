"""Sessions on ONNX Runtime: scans on the native kernel between segments, or on the file's own function."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from serpent import native
from serpent.errors import (
    EngineError,
    ModelFileError,
    NativeLibraryError,
    OutOfMemoryError,
    SerpentError,
    UsageError,
    forget_frames,
)
from serpent.runtime.border import from_border, to_border
from serpent.runtime.live_memory import function_scan_bytes, run_bytes
from serpent.runtime.memory import Memory, give_back_heap, process_memory
from serpent.runtime.onnx_cuda import CudaSplitRunner, open_device
from serpent.runtime.onnx_file import read_onnx, serialize
from serpent.runtime.onnx_split import ScanStep, Segment, split_at_scans
from serpent.runtime.onnx_twins import f32_twin
from serpent.runtime.session import Session, SessionInfo

ScanChoice = Literal["native", "function"]
Runner = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass
class RunTimes:
    """Seconds of the last run: inside ONNX Runtime, inside the native scan, and in all."""

    segments: float = 0.0
    scans: float = 0.0
    total: float = 0.0


class OnnxSession(Session):
    """An exported ONNX file on the CPU or, where it is asked for, on a GPU.

    Args:
        path: a file written by ``serpent-export``; a manifest beside it must match it.
        device: "auto" and "cpu" are the CPU; "cuda" or "cuda:N" need onnxruntime-gpu and the native CUDA kernels.
        scan: "native" runs scans on the native library, "function" on the standard operators in the file
            (correct, many times slower); None takes the library if it is there and notes it if not.
        threads: one budget for ONNX Runtime and the scan; all available CPUs by default.

    Raises:
        ModelFileError: missing, foreign or changed file.
        NativeLibraryError: ``scan="native"`` without a library.
        EngineError: a precision that ONNX Runtime's CPU kernels do not cover.
        UsageError: another device or scan, or one that a file with inlined scans cannot have.
    """

    def __init__(
        self, path: str | Path, device: str = "auto", *, scan: ScanChoice | None = None, threads: int | None = None
    ) -> None:
        on_gpu = device not in ("auto", "cpu")
        gpu = open_device(device) if on_gpu else None
        if on_gpu and scan == "function":
            raise UsageError(
                f"scan 'function' was asked for on {device}; there the scan runs on the CUDA kernels alone"
            )
        file = read_onnx(Path(path))
        if file.metadata["precision"] == "bf16":
            raise EngineError(
                f"{path} is bf16, for which ONNX Runtime has no CPU kernels (Conv, MatMul and others)",
                hint="export with --precision fp32 or fp16, or run the .plan on a GPU",
            )
        inline = file.metadata.get("scan") == "inline"  # no scan nodes: the file has its own operators alone
        if inline and (on_gpu or scan == "native"):
            raise UsageError(
                f"{path} has its scans as standard operators, which neither the native scan nor a GPU session can run",
                hint="run it with --scan function on the CPU, or export without --inline-scan",
            )
        chosen, notes = choose_scan("function" if inline and scan is None else scan)
        self.times = RunTimes()
        self._threads = threads or native.default_threads()
        self._run: Runner | None
        if gpu is not None:
            self._run = CudaSplitRunner(file.model, gpu, self.times)
        else:
            self._run = make_runner(file.model, chosen, self._threads, self.times)
        self._arena = 0
        self.info = SessionInfo(
            path=Path(path),
            backend="onnxruntime",
            config=file.config,
            task=file.metadata["task"],
            precision=file.metadata["precision"],
            weights=file.metadata["weights"],
            profile=file.profile,
            device="cpu" if gpu is None else f"cuda:{gpu.index}",
            scan=chosen,
            notes=notes,
            io=file.metadata.get("io", "f32-nchw"),
        )

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._run is None:
            raise SerpentError(f"the session of {self.info.path} is closed", hint="open it again with open_session")
        before = self._used()
        restored = from_border(self._run(to_border(image, self.info.io)), self.info.io)
        self._arena = max(0, self._arena + self._used() - before - restored.nbytes)
        return restored

    def _used(self) -> int:
        """What the process uses, where some of it is the arena's afterwards: segments of a split graph have none."""
        return (process_memory().used or 0) if self.info.scan == "function" else 0

    def memory(self) -> Memory:
        memory = super().memory()
        if memory.used is None or memory.free is None:
            return memory
        return Memory(memory.used - self._arena, memory.peak, memory.free + self._arena)  # the next run takes it again

    def run_bytes(self, batch: int, height: int, width: int) -> int | None:
        if self.info.device != "cpu":
            return None  # the GPU's arena follows rules of ONNX Runtime's own
        if self.info.scan == "function":
            return function_scan_bytes(self.info.config, batch, height, width)
        itemsize = 4 if self.info.precision == "fp32" else 2
        sizes = (batch, height, width)
        return run_bytes(self.info.config, *sizes, itemsize=itemsize, runtime="onnxruntime", threads=self._threads)

    def close(self) -> None:
        if isinstance(self._run, CudaSplitRunner):
            self._run.close()
        self._run = None


def run_f32_twin(path: Path, info: SessionInfo) -> tuple[Runner, str]:
    """The f32 twin of a 16-bit file on the CPU, with the scan of a session of that file.

    Returns:
        A function image -> restored, both (B, 3, H, W) f32, unclipped, and the border whose rounding it has.

    Raises:
        ModelFileError: missing, foreign or changed file.
    """
    run = make_runner(f32_twin(read_onnx(path).model), choose_scan(info.scan)[0], native.default_threads(), RunTimes())
    io = "f32-nchw" if info.io == "f16-nchw" else info.io  # the twin's border is f32, too
    return lambda image: from_border(run(to_border(image, io)), io), io


def choose_scan(scan: str | None) -> tuple[ScanChoice, tuple[str, ...]]:
    """The scan to use and the notes to show.

    Raises:
        NativeLibraryError: "native" asked for, but there is no usable library.
        UsageError: neither "native" nor "function" nor None.
    """
    if scan == "function":
        return "function", ()
    if scan not in (None, "native"):
        raise UsageError(f"scan {scan!r} is unknown; expected 'native' or 'function'")
    try:
        native.library()
    except NativeLibraryError as error:
        if scan == "native":
            raise
        return "function", (f"the scan runs on ONNX operators, many times slower: {error.message}",)
    return "native", ()


def make_runner(model: onnx.ModelProto, scan: ScanChoice, threads: int, times: RunTimes) -> Runner:
    """A function image -> restored that runs ``model``: (B, 3, H, W) f32, or whatever the model's border is.

    Raises:
        ModelFileError: ONNX Runtime refuses the model.
    """
    if scan == "function":
        whole = _open(model, threads, arena=True)

        def run_whole(image: NDArray[Any]) -> NDArray[Any]:
            start = time.perf_counter()
            with _explained(image):
                restored: NDArray[Any] = whole.run(["restored"], {"image": image})[0]
            times.total = times.segments = time.perf_counter() - start
            return restored

        return run_whole
    return _SplitRunner(model, threads, times)


class _SplitRunner:
    """Runs the segments in turn; tensors pass by pointer and are dropped after their last reader."""

    def __init__(self, model: onnx.ModelProto, threads: int, times: RunTimes) -> None:
        plan = split_at_scans(model)
        self._steps = [
            (step, None if isinstance(step, ScanStep) else _open(step.model, threads, arena=False), dead)
            for step, dead in zip(plan.steps, plan.dead_after, strict=True)
        ]
        self._threads = threads
        self._times = times

    def __call__(self, image: NDArray[Any]) -> NDArray[Any]:
        start = time.perf_counter()
        segments = scans = 0.0
        values: dict[str, Any] = {"image": ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(image))}
        for step, session, dead in self._steps:
            begin = time.perf_counter()
            if isinstance(step, ScanStep):
                values[step.output] = _scan(step, values, self._threads)
                scans += time.perf_counter() - begin
            elif session is not None:
                with _explained(image):
                    values.update(_run_segment(session, step, values))
                segments += time.perf_counter() - begin
            for name in dead:
                del values[name]
            give_back_heap()
        # A copy: the value lies in an array that only its wrapper keeps, and that goes with ``values``.
        restored: NDArray[Any] = values["restored"].numpy().copy()
        self._times.segments, self._times.scans = segments, scans
        self._times.total = time.perf_counter() - start
        return restored


def _run_segment(session: Any, step: Segment, values: dict[str, Any]) -> dict[str, Any]:
    results = session.run_with_ort_values(list(step.outputs), {name: values[name] for name in step.inputs})
    # These refer into one vector, which lives, with all it holds, as long as the last of them: the shapes that the
    # decoder reads would keep the encoder's tensors. Arrays over the same memory are independent of each other, and
    # the wrapper of a value made of an array keeps that array.
    arrays = [result.numpy() for result in results]
    return {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in zip(step.outputs, arrays, strict=True)}


def _scan(step: ScanStep, values: dict[str, Any], threads: int) -> Any:
    x, x_dbl = (values[name] for name in step.inputs)
    y = ort.OrtValue.ortvalue_from_shape_and_type(x.shape(), x.element_type())
    weights = [array.ctypes.data for array in step.weights]
    pointers = native.ScanPointers(*[x.data_ptr(), x_dbl.data_ptr(), *weights, y.data_ptr()])
    native.library().scan_cpu(step.shape(x), pointers, threads)
    return y


@contextlib.contextmanager
def _explained(image: NDArray[Any]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 (ONNX Runtime's exceptions share no public base class)
        forget_frames(error)
        size = "x".join(map(str, image.shape))
        if "bad_alloc" in str(error) or "Failed to allocate" in str(error):
            raise OutOfMemoryError(
                f"ONNX Runtime {ort.__version__} ran out of memory on an image of {size}",
                hint="ask for tiles (--tile 512)",
            ) from None
        raise EngineError(
            f"ONNX Runtime {ort.__version__} failed on an image of {size}: {error}",
            hint="if memory ran out, export a smaller --res: larger pictures then go through in tiles",
        ) from None


def _open(model: onnx.ModelProto, threads: int, *, arena: bool) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Segments and scans run one after the other. A pool that spins after its segment would take the CPUs
    # that the next one needs, so waiting threads sleep: together they stay within one budget.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # An arena per segment would keep the peak of each segment until the end; the function's loop, which
    # allocates at every pixel, runs a quarter faster with one.
    options.enable_cpu_mem_arena = arena
    # Reuse keeps a buffer from its first tensor to its last, gaps included: at 512x512 that held 3 GB more.
    options.enable_mem_reuse = False
    # A pattern takes all tensors of a segment as one block from the second run on: 260 MB more at 512x512.
    options.enable_mem_pattern = False
    try:
        return ort.InferenceSession(serialize(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 (ONNX Runtime's exceptions share no public base class)
        raise ModelFileError(
            f"ONNX Runtime {ort.__version__} refuses the model: {error}", hint="try onnxruntime >= 1.31"
        ) from None
