"""An ONNX file on a GPU with ONNX Runtime's CUDA provider, its scans on the native CUDA kernels.

The graph is split at the scans as on the CPU. Segments and scans are enqueued on one stream, tensors stay on the
device between them, and the host waits once, at the end.

Not run on a GPU yet: only against a stand-in for ONNX Runtime's device memory and for the CUDA kernels.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from serpent import native
from serpent.errors import EngineError, ModelFileError, NativeLibraryError, SerpentError, UsageError, forget_frames
from serpent.extras import install_command
from serpent.runtime.cuda_device import CudaDevice, load_cuda
from serpent.runtime.onnx_file import serialize
from serpent.runtime.onnx_split import ScanStep, Segment, split_at_scans
from serpent.runtime.tensorrt_engine import Device

PROVIDER = "CUDAExecutionProvider"


def open_device(device: str) -> Device:
    """The GPU that ``device`` ("cuda" or "cuda:N") names, if this installation can use it.

    Raises:
        UsageError: no such device, or an ONNX Runtime without CUDA.
        NativeLibraryError: the native library has no CUDA kernels.
        MissingExtraError: no CUDA bindings.
        EngineError: CUDA does not work.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index.isdecimal() or device == "cuda"):
        raise UsageError(f"device {device!r} cannot run an ONNX file; expected auto, cpu, cuda or cuda:N")
    if PROVIDER not in ort.get_available_providers():
        raise UsageError(
            f"device {device!r}: the installed ONNX Runtime {ort.__version__} has no CUDA provider",
            hint=f"pip uninstall onnxruntime, then {install_command('onnx-gpu')}; or use --device cpu",
        )
    library = native.library()
    if not library.has_cuda:
        raise NativeLibraryError(
            f"device {device!r}: the native library {library.path} was built without CUDA kernels",
            hint="reinstall on a machine with the CUDA toolkit (nvcc), or use --device cpu",
        )
    cuda = load_cuda("onnx-gpu", "running an ONNX file on the GPU")
    number, count = int(index or 0), cuda.count()
    if number >= count:
        raise UsageError(f"device {device!r}: CUDA sees {count} GPUs, numbered from 0")
    return CudaDevice(cuda, number)


class CudaSplitRunner:
    """Runs the segments and scans of a model on one stream; for one thread at a time.

    Args:
        model: an exported file.
        device: the GPU.
        times: its field ``total`` is set to the seconds of each run.

    Raises:
        ModelFileError: ONNX Runtime refuses the model.
        EngineError: ONNX Runtime cannot use the GPU, or there is no memory for the weights.
    """

    def __init__(self, model: onnx.ModelProto, device: Device, times: Any) -> None:
        self._device, self._times = device, times
        plan = split_at_scans(model)
        with device.active(), _explained("while the file was opened"), contextlib.ExitStack() as undo:
            self._stream = device.create_stream()
            undo.callback(device.destroy_stream, self._stream)
            self._steps: list[tuple[Segment | ScanStep, Any, tuple[str, ...]]] = [
                (step, self._upload(step) if isinstance(step, ScanStep) else self._open(step.model), dead)
                for step, dead in zip(plan.steps, plan.dead_after, strict=True)
            ]
            self._closing = undo.pop_all()

    def __call__(self, image: NDArray[Any]) -> NDArray[Any]:
        start = time.perf_counter()
        # What was not allocated in the stream's order lives until the stream has passed it: the host runs ahead, and
        # what it frees may at once be another session's, on another stream.
        held: list[Any] = []
        with self._device.active(), _explained(f"with an image of {'x'.join(map(str, image.shape))}"):
            try:
                restored = self._enqueue(image, held)
            finally:  # after a failure, too: what was enqueued before it still runs
                self._device.synchronize(self._stream)
            result: NDArray[Any] = restored.numpy()
        self._times.total = time.perf_counter() - start
        return result

    def close(self) -> None:
        """Free the sessions, the weights and the stream."""
        with self._device.active():
            self._steps = []
            self._closing.close()

    def _enqueue(self, image: NDArray[Any], held: list[Any]) -> Any:
        """Put a run into the stream; returns where its result will be."""
        values: dict[str, Any] = {"image": self._to_device(np.ascontiguousarray(image))}
        held.append(values["image"])
        for step, prepared, dead in self._steps:
            if isinstance(step, ScanStep):
                values[step.output] = self._scan(step, prepared, values, held)
            else:
                values.update(zip(step.outputs, self._run(step, prepared, values), strict=True))
            for name in dead:
                del values[name]
        return values["restored"]

    def _open(self, model: onnx.ModelProto) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        provider = {
            "device_id": str(self._device.index),
            "user_compute_stream": str(self._stream),
            "use_tf32": "0",  # f32 means f32: the default misses the certificate by orders of magnitude
        }
        try:
            session = ort.InferenceSession(serialize(model), options, providers=[(PROVIDER, provider)])
        except Exception as error:  # noqa: BLE001 (ONNX Runtime's exceptions share no public base class)
            raise ModelFileError(f"ONNX Runtime {ort.__version__} refuses the model: {error}") from None
        # Where the provider's own libraries are missing, ONNX Runtime logs that and gives a session for the CPU.
        if PROVIDER not in session.get_providers():
            raise EngineError(
                f"ONNX Runtime {ort.__version__} cannot start its CUDA provider on cuda:{self._device.index}; what it "
                "wrote to stderr says why, most often that CUDA's or cuDNN's libraries are not found",
                hint="install the CUDA and cuDNN that it asks for, their folders on LD_LIBRARY_PATH; or use "
                "--device cpu",
            )
        return session

    def _run(self, step: Segment, session: Any, values: dict[str, Any]) -> list[Any]:
        binding = session.io_binding()
        for name in step.inputs:
            binding.bind_ortvalue_input(name, values[name])
        for name in step.outputs:
            binding.bind_output(name, "cuda", self._device.index)
        options = ort.RunOptions()
        # The next step is on the same stream, so nobody needs to wait for this one.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        session.run_with_iobinding(binding, options)
        return list(binding.get_outputs())

    def _scan(self, step: ScanStep, weights: list[Any], values: dict[str, Any], held: list[Any]) -> Any:
        x, x_dbl = (values[name] for name in step.inputs)
        shape = step.shape(x)
        size = native.library().workspace_size(shape)
        y = self._on_device(x.shape(), x.element_type())
        workspace = self._on_device([max(size, 1)], np.uint8)
        held += [y, workspace]
        pointers = native.ScanPointers(*[value.data_ptr() for value in (x, x_dbl, *weights, y)])
        native.library().scan_cuda(shape, pointers, workspace.data_ptr(), size, self._stream)
        return y

    def _upload(self, step: ScanStep) -> list[Any]:
        return [self._to_device(weight) for weight in step.weights]

    def _to_device(self, array: NDArray[Any]) -> Any:
        return ort.OrtValue.ortvalue_from_numpy(array, "cuda", self._device.index)

    def _on_device(self, shape: list[int], dtype: Any) -> Any:
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, "cuda", self._device.index)


@contextlib.contextmanager
def _explained(when: str) -> Iterator[None]:
    try:
        yield
    except SerpentError:
        raise
    except Exception as error:  # noqa: BLE001 (ONNX Runtime's exceptions share no public base class)
        forget_frames(error)
        raise EngineError(
            f"ONNX Runtime {ort.__version__} failed on the GPU {when}: {error}",
            hint="if memory ran out, export a smaller --res: larger pictures then go through in tiles",
        ) from None
