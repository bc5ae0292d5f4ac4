"""Run a ``.plan`` on an NVIDIA GPU with TensorRT-RTX or TensorRT.

Everything up to the GPU is checked in order, and each refusal names what is missing and a command that works.
From the first CUDA call on, this was not run on a GPU with TensorRT: only against stand-ins for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serpent.errors import EngineError, UsageError
from serpent.manifest import Manifest, load_manifest, manifest_path
from serpent.runtime.cuda_device import CudaDevice
from serpent.runtime.memory import Memory
from serpent.runtime.session import Session, SessionInfo
from serpent.runtime.streaming import in_order
from serpent.runtime.tensorrt_engine import Device, Engine
from serpent.runtime.tensorrt_loading import PlanFile, cuda_runtime, load_engine, try_loading
from serpent.runtime.tensorrt_machine import BUILD_AGAIN, check_machine, choose_device, or_onnx, read_needs
from serpent.runtime.tensorrt_runner import PlanRunner


class TensorRTSession(Session):
    """A plan on one GPU. Several threads may use it at once.

    Args:
        path: a ``.plan`` with its manifest beside it.
        device: "auto" (the first GPU that the plan was built for), "cuda" or "cuda:N" as CUDA counts.
        contexts: how many runs may go on at once; further ones wait. Each takes device memory for the plan's largest
            shape, from its first use on.
        cuda_graphs: replay repeated runs of one shape as CUDA graphs, which helps where launching kernels takes
            longer than running them.
        allow_native_code: run a plan that carries its plugin (``serpent-export --embed-plugin``), which is native code.

    Raises:
        UsageError: no such device, no positive number of contexts, or native code that was not allowed.
        ModelFileError: the manifest or the plan is missing, changed or damaged.
        MissingExtraError: the plan's flavour of TensorRT is not installed.
        EngineError: the plan cannot run on this machine, or with what is installed here.
    """

    def __init__(
        self,
        path: Path,
        device: str = "auto",
        *,
        contexts: int = 2,
        cuda_graphs: bool = False,
        allow_native_code: bool = False,
    ) -> None:
        if contexts < 1:
            raise UsageError(f"contexts is {contexts}; expected at least 1")
        manifest = load_manifest(manifest_path(path))
        manifest.check_digest(path)
        plan = open_plan(path, manifest, device, cuda_graphs=cuda_graphs, allow_native_code=allow_native_code)
        self._contexts = contexts
        self._runner = PlanRunner(
            plan.engine,
            plan.device,
            name=str(path),
            profile=manifest.profile,
            io=manifest.io,
            contexts=contexts,
            cuda_graphs=cuda_graphs,
            free_before=plan.free_before,
        )
        self.info = SessionInfo(
            path=path,
            backend="tensorrt",
            config=manifest.config,
            task=manifest.task,
            precision=manifest.precision,
            weights=manifest.weights,
            profile=manifest.profile,
            device=f"cuda:{plan.device.index}",
            scan="plugin",
            io=manifest.io,
        )

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._runner.run(image)

    def run_on_device(self, image: Any, *, out: Any = None, stream: Any = None) -> Any:
        """Enqueue one run from a GPU tensor to a GPU tensor, without a copy; returns before it is done.

        Args:
            image: any tensor that offers DLPack or ``__cuda_array_interface__``: on this device, C-contiguous, sizes
                within the profile, in the plan's layout and type ((B, 3, H, W) float32 unless exported with
                ``--io``). Its memory must stay as it is until ``stream`` has passed the run.
            out: a tensor for the result, of the shape and type of ``image`` and with memory of its own; by default a
                new one.
            stream: a CUDA stream (torch, CuPy, cuda.core, or its address); by default CUDA's default stream.

        Returns:
            ``out``, or an object that offers DLPack and ``__cuda_array_interface__``: ``torch.from_dlpack(result)``.

        Raises:
            ArgumentError: a tensor that does not fit, with what the plan takes.
            EngineError: the run could not be enqueued.
        """
        return self._runner.run_on_device(image, out=out, stream=stream)

    def stream(self, pictures: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
        """Restore pictures one after the other, in order; while one is computed, its neighbours are copied.

        Args:
            pictures: as for calling the session, of any sizes; read no further ahead than there are contexts.

        Yields:
            Each picture's result.

        Raises:
            SerpentError: as calling the session does, in the place of the picture that is at fault.
        """
        return in_order(self, pictures, workers=self._contexts)

    def run_bytes(self, batch: int, height: int, width: int) -> int:
        return self._runner.run_bytes(batch, height, width)

    def memory(self) -> Memory:
        return self._runner.memory()

    def close(self) -> None:
        self._runner.close()


class LoadedPlan(NamedTuple):
    """A plan on its GPU; ``free_before`` are the bytes that were free there before it was loaded."""

    engine: Engine
    device: Device
    free_before: int


def open_plan(path: Path, manifest: Manifest, device: str, *, cuda_graphs: bool, allow_native_code: bool) -> LoadedPlan:
    """Check everything that a plan needs here, then load it.

    Raises:
        SerpentError: as :class:`TensorRTSession` says.
    """
    needs = read_needs(path, manifest.engine(path))
    check_machine(path, needs, allow_native_code=allow_native_code)
    cuda = cuda_runtime(needs.flavour)
    index = choose_device(cuda, path, device, needs.targets)
    digest = str(manifest.fields["files"][path.name]["sha256"])
    gpu = CudaDevice(cuda, index)
    try:
        file = PlanFile(path, digest, needs.flavour, needs.version, gpu.name(), needs.embedded)
        try_loading(file, index)
        with gpu.active():
            free_before = gpu.free_bytes()
            return LoadedPlan(load_engine(file, cuda_graphs=cuda_graphs), gpu, free_before)
    except EngineError as error:
        raise EngineError(
            f"{needs.flavour.title} cannot load {path}: {error.message}", hint=error.hint or or_onnx(path, BUILD_AGAIN)
        ) from None
