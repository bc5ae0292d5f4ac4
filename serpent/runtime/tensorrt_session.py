"""Run a ``.plan`` on an NVIDIA GPU with TensorRT-RTX or TensorRT.

Everything up to the GPU is checked in order, and each refusal names what is missing and a command that works.
From the first CUDA call on, this module was not run on a GPU: only against stand-ins for CUDA and TensorRT.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent import native
from serpent.errors import EngineError, MissingExtraError, ModelFileError, SerpentError, UsageError
from serpent.extras import require
from serpent.manifest import load_manifest, manifest_path
from serpent.runtime.gpu import survey_gpus, target_name
from serpent.runtime.session import Session, SessionInfo
from serpent.runtime.tensorrt_library import FLAVOURS, Flavour, check_installed, load, make_logger
from serpent.runtime.tensorrt_plugin import register

INPUT, OUTPUT = "image", "restored"


class TensorRTSession(Session):
    """A plan on one GPU.

    Args:
        path: a ``.plan`` with its manifest beside it.
        device: "auto" (the first GPU that the plan was built for), "cuda" or "cuda:N" as CUDA counts.

    Raises:
        UsageError: no such device.
        ModelFileError: the manifest or the plan is missing, changed or damaged.
        MissingExtraError: the plan's flavour of TensorRT is not installed.
        EngineError: the plan cannot run on this machine, or with what is installed here.
    """

    def __init__(self, path: Path, device: str = "auto") -> None:
        manifest = load_manifest(manifest_path(path))
        manifest.check_digest(path)
        flavour, targets = _check_machine(path, manifest.engine(path))
        self._cuda = _Cuda(require("cuda.bindings.runtime", flavour.key, "running a plan"))
        self._device = _choose_device(self._cuda, path, device, targets)
        self._cuda.call("cudaSetDevice", self._device)
        trt = load(flavour)
        self._creator = register(trt)
        self._creator.errors.clear()
        self._logger = make_logger(trt)
        # Engines may carry native code; the runtime's default, which refuses it, stays.
        engine = trt.Runtime(self._logger).deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise EngineError(f"{flavour.title} cannot load {path}: {self._said()}", hint=_or_onnx(path, _BUILD_AGAIN))
        _check_tensors(trt, engine, path)
        self._context = engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"{flavour.title} cannot run {path}: {self._said()}", hint=_or_onnx(path))
        self._stream = self._cuda.call("cudaStreamCreate")
        self.info = SessionInfo(
            path=path,
            backend="tensorrt",
            config=manifest.config,
            task=manifest.task,
            precision=manifest.precision,
            weights=manifest.weights,
            profile=manifest.profile,
            device=f"cuda:{self._device}",
            scan="plugin",
        )

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._context is None:
            raise SerpentError(f"the session of {self.info.path} is closed", hint="open it again with open_session")
        cuda, context = self._cuda, self._context
        image = np.ascontiguousarray(image, dtype=np.float32)
        restored = np.empty_like(image)
        cuda.call("cudaSetDevice", self._device)  # the current device belongs to the calling thread
        with contextlib.ExitStack() as buffers:
            source, target = (cuda.allocate(buffers, image.nbytes) for _ in (INPUT, OUTPUT))
            cuda.copy(source, image.ctypes.data, image.nbytes, "cudaMemcpyHostToDevice", self._stream)
            self._creator.errors.clear()
            self._logger.messages.clear()
            # The first False ends the chain; the logger holds the reason.
            done = (
                context.set_input_shape(INPUT, image.shape)
                and context.set_tensor_address(INPUT, source)
                and context.set_tensor_address(OUTPUT, target)
                and context.execute_async_v3(int(self._stream))
            )
            if not done or self._creator.errors:
                raise EngineError(f"{self.info.path} failed on an image of shape {image.shape}: {self._said()}")
            cuda.copy(restored.ctypes.data, target, image.nbytes, "cudaMemcpyDeviceToHost", self._stream)
            cuda.call("cudaStreamSynchronize", self._stream)
        return restored

    def close(self) -> None:
        if self._context is not None:
            self._context = None
            self._cuda.call("cudaStreamDestroy", self._stream)

    def _said(self) -> str:
        """What the plugin and TensorRT gave as the reason of a failure."""
        reasons = [*dict.fromkeys(self._creator.errors), self._logger.sentence()]
        return "; ".join(reason for reason in reasons if reason) or "no reason was given"


class _Cuda:
    """The CUDA runtime with every status checked."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of ``cuda.bindings.runtime`` and return its value, if it has one.

        Raises:
            EngineError: CUDA reports an error.
        """
        status, *values = getattr(self._runtime, name)(*arguments)
        if status != self._runtime.cudaError_t.cudaSuccess:
            _, text = self._runtime.cudaGetErrorString(status)
            raise EngineError(f"{name} failed: {text.decode()}", hint="serpent-doctor says what is usable here")
        return values[0] if values else None

    def allocate(self, owner: contextlib.ExitStack, size: int) -> int:
        """Address of ``size`` bytes on the device, freed with ``owner``."""
        address = int(self.call("cudaMalloc", size))
        owner.callback(self.call, "cudaFree", address)
        return address

    def copy(self, target: int, source: int, size: int, kind: str, stream: Any) -> None:
        """Enqueue a copy between host and device."""
        self.call("cudaMemcpyAsync", target, source, size, getattr(self._runtime.cudaMemcpyKind, kind), stream)

    def target(self, device: int) -> str:
        """Compute capability of a device, such as "sm89"."""
        kind = self._runtime.cudaDeviceAttr
        attributes = (kind.cudaDevAttrComputeCapabilityMajor, kind.cudaDevAttrComputeCapabilityMinor)
        return target_name(*(int(self.call("cudaDeviceGetAttribute", attribute, device)) for attribute in attributes))


def _check_machine(path: Path, engine: dict[str, Any]) -> tuple[Flavour, list[str]]:
    """Refuse, before anything heavy is loaded, a plan that cannot run here; return its flavour and targets."""
    try:
        flavour, version, targets = FLAVOURS[engine["flavour"]], str(engine["version"]), list(engine["targets"])
    except (KeyError, TypeError) as error:
        raise ModelFileError(
            f"the manifest of {path} describes its engine badly: {error!r}", hint=_BUILD_AGAIN
        ) from None
    survey = survey_gpus()
    if not survey.gpus:
        raise EngineError(f"{path} needs an NVIDIA GPU, and {survey.reason}", hint=_or_onnx(path))
    try:
        installed = check_installed(flavour)
    except MissingExtraError as error:
        raise MissingExtraError(f"{path} cannot run: {error.message}", hint=_or_onnx(path, error.hint)) from None
    if installed != version:
        raise EngineError(
            f"{path} was built with {flavour.title} {version}; installed is {installed}, which cannot run it",
            hint=_or_onnx(path, _BUILD_AGAIN),
        )
    if not any(gpu.target in targets for gpu in survey.gpus):
        present = ", ".join(f"{gpu.name} ({gpu.target})" for gpu in survey.gpus)
        raise EngineError(
            f"{path} was built for {', '.join(targets)}; this machine has {present}", hint=_or_onnx(path, _BUILD_AGAIN)
        )
    library = native.library()
    if not library.has_cuda:
        raise EngineError(
            f"{path} needs the CUDA kernels, and the native library {library.path} was built without them",
            hint=_or_onnx(path, "reinstall on a machine with the CUDA toolkit (nvcc)"),
        )
    return flavour, targets


def _choose_device(cuda: _Cuda, path: Path, device: str, targets: list[str]) -> int:
    """The GPU to run on, as CUDA counts: nvidia-smi counts in another order and sees GPUs hidden from CUDA."""
    kind, _, index = device.partition(":")
    if device not in ("auto", "cuda") and not (kind == "cuda" and index.isdecimal()):
        raise UsageError(
            f"device {device!r} cannot run {path}: a plan runs on auto, cuda or cuda:N", hint=_or_onnx(path)
        )
    present = [cuda.target(number) for number in range(int(cuda.call("cudaGetDeviceCount")))]
    asked = range(len(present)) if not index else [int(index)]
    for number in asked:
        if number < len(present) and present[number] in targets:
            return number
    seen = ", ".join(f"cuda:{number} ({target})" for number, target in enumerate(present)) or "no GPU"
    raise EngineError(
        f"{path} was built for {', '.join(targets)} and cannot run on device {device}: CUDA sees {seen}",
        hint=_or_onnx(path),
    )


def _check_tensors(trt: Any, engine: Any, path: Path) -> None:
    """The plan has one input and one output of the agreed names, both f32."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = {name: engine.get_tensor_dtype(name) for name in names}
    if found != {INPUT: trt.DataType.FLOAT, OUTPUT: trt.DataType.FLOAT}:
        listed = ", ".join(f"{name} {kind.name}" for name, kind in found.items())
        raise ModelFileError(f"{path} has the tensors {listed}; expected {INPUT} and {OUTPUT}, both FLOAT")


_BUILD_AGAIN = "run serpent-export again on this machine"


def _or_onnx(path: Path, fix: str | None = None) -> str:
    """The hint: what makes the plan run, and the command that works now with the ONNX file of the same export."""
    onnx = path.with_suffix(".onnx")
    run = f"serpent-infer {onnx} photo.png" if onnx.is_file() else "export with --format onnx and run the .onnx file"
    return run if fix is None else f"{fix}, or: {run}"
