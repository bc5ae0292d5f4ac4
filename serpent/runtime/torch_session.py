"""Run a ``.safetensors`` checkpoint with PyTorch, eagerly, the whole picture at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serpent import native
from serpent.errors import OutOfMemoryError, SerpentError, UsageError
from serpent.extras import require
from serpent.runtime.live_memory import run_bytes
from serpent.runtime.memory import Memory
from serpent.runtime.session import Session, SessionInfo
from serpent.shapes import Range, ShapeProfile

if TYPE_CHECKING:
    import torch


class TorchSession(Session):
    """A checkpoint on PyTorch. There is no upper limit to the picture's size but memory.

    Args:
        path: a ``.safetensors`` checkpoint.
        device: "auto" (the first GPU that PyTorch can use, if the native library has CUDA kernels; else the CPU),
            "cpu", "cuda" or "cuda:N".
        threads: CPU threads for the runs of this session; PyTorch's own setting by default.
        precision: "fp32", "fp16" or "bf16" inside the network; by default that of the file.

    Raises:
        MissingExtraError: PyTorch is not installed.
        UsageError: no such device.
        CheckpointError: the file is damaged or foreign.
    """

    def __init__(
        self, path: Path, device: str = "auto", *, threads: int | None = None, precision: str | None = None
    ) -> None:
        require("torch", "torch", "running a .safetensors checkpoint")
        import torch

        from serpent.model import load_model, read_metadata, set_precision

        notes: tuple[str, ...] = ()
        self._device = choose_device(device)
        if device == "auto" and self._device.type == "cuda" and not native.library().has_cuda:
            reason = f"{native.library().path} was built without CUDA kernels; reinstall it where nvcc is found"
            notes = (f"runs on the CPU, not on {self._device}: {reason}",)
            self._device = torch.device("cpu")
        self._threads = threads
        self._used = False
        metadata = read_metadata(path)
        model = load_model(path).eval()
        if precision is not None:
            model = set_precision(model, precision)
        self._model: torch.nn.Module | None = model.to(self._device)
        config = model.config
        dtypes = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
        side = Range(config.size_multiple, config.size_multiple, None)
        self.info = SessionInfo(
            path=path,
            backend="torch",
            config=config,
            task=metadata.get("task", "unknown"),
            precision=dtypes[next(model.parameters()).dtype],
            weights=metadata["weights_digest"],
            profile=ShapeProfile(Range(1, 1, None), side, side, config.size_multiple),
            device=str(self._device),
            scan="native",
            notes=notes,
        )

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        if self._model is None:
            raise SerpentError(f"the session of {self.info.path} is closed", hint="open it again with open_session")
        try:
            with torch.inference_mode(), thread_budget(self._threads):
                restored = self._model(torch.from_numpy(image).to(self._device))
                output: NDArray[np.float32] = restored.float().cpu().numpy()
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            batch, _, height, width = image.shape
            raise OutOfMemoryError(
                f"{batch} picture(s) of {width}x{height} pixels exceed the memory of {self._device}",
                hint="ask for tiles (--tile 512)",
            ) from error
        self._used = True
        return output

    def run_bytes(self, batch: int, height: int, width: int) -> int | None:
        import torch

        config = self.info.config
        if not self._used:  # what PyTorch loads at its first run is no part of the next one's memory
            self.run(np.zeros((1, config.in_channels, config.size_multiple, config.size_multiple), np.float32))
        on_gpu = self._device.type != "cpu"
        network = run_bytes(
            config,
            batch,
            height,
            width,
            itemsize=4 if self.info.precision == "fp32" else 2,
            runtime="torch",
            threads=self._threads or torch.get_num_threads(),
            heap=not on_gpu,
        )
        return network + 2 * batch * config.in_channels * height * width * 4 if on_gpu else network

    def memory(self) -> Memory:
        import torch

        if self._device.type == "cpu":
            return super().memory()
        cached = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return Memory(
            torch.cuda.memory_allocated(self._device),
            torch.cuda.max_memory_allocated(self._device),
            torch.cuda.mem_get_info(self._device)[0] + cached,
        )

    def close(self) -> None:
        self._model = None


def choose_device(device: str) -> torch.device:
    """The device of a name as :class:`TorchSession` takes it.

    Raises:
        UsageError: no such device.
    """
    import torch

    if device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    kind, _, index = device.partition(":")
    if device != "cpu" and not (kind == "cuda" and (index.isdecimal() or device == "cuda")):
        raise UsageError(f"unknown device {device!r}; expected auto, cpu or cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device {device} is not there: this PyTorch ({torch.__version__}) sees {torch.cuda.device_count()} GPUs",
            hint="use --device cpu; serpent-doctor says what PyTorch can use",
        )
    return torch.device(f"cuda:{index or 0}" if kind == "cuda" else "cpu")


@dataclass
class _Budgets:
    """Runs with thread counts of their own, and the count that was before."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    running: int = 0
    before: int = 0


_budgets = _Budgets()


@contextlib.contextmanager
def thread_budget(threads: int | None) -> Iterator[None]:
    """PyTorch's thread count is the process's: set it for one run, and put it back as it was before the first of them.

    A run that begins while another one is going on would take that one's count for the process's, and leave it so.
    """
    import torch

    if threads is None:
        yield
        return
    with _budgets.lock:
        if _budgets.running == 0:
            _budgets.before = torch.get_num_threads()
        _budgets.running += 1
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        with _budgets.lock:
            _budgets.running -= 1
            torch.set_num_threads(_budgets.before)


def _is_out_of_memory(error: RuntimeError) -> bool:
    import torch

    # The CPU allocator has no exception type of its own, and oneDNN says no more where its buffers find no memory.
    said = ("DefaultCPUAllocator", "could not create a primitive", "could not execute a primitive")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)
