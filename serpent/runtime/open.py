"""Choose the backend that runs a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from serpent.errors import ModelFileError, UsageError
from serpent.extras import require
from serpent.runtime.session import Session
from serpent.weights import model_file

_SUFFIXES = ".safetensors (PyTorch), .onnx (ONNX Runtime) or .plan (TensorRT)"
_PICKLED = (".pt", ".pth", ".ckpt", ".pkl", ".bin")
Scan = Literal["native", "function"]
"""How ONNX Runtime may run the selective scan: on the native kernel, or on the file's own function."""
Precision = Literal["fp32", "fp16", "bf16"]
"""What PyTorch may compute in; an export has its own."""


def open_session(
    path: Path | str,
    device: str = "auto",
    *,
    scan: Scan | None = None,
    threads: int | None = None,
    contexts: int | None = None,
    cuda_graphs: bool | None = None,
    allow_native_code: bool | None = None,
    precision: Precision | None = None,
) -> Session:
    """Load a model file for inference.

    Args:
        path: ``.safetensors`` (PyTorch), ``.onnx`` (ONNX Runtime) or ``.plan`` (TensorRT); or "B", "L" or "H" for the
            deblurring weights that ship.
        device: "auto", "cpu" or "cuda:N"; "auto" takes a GPU where the backend can use one.
        scan: "native" or "function", for ``.onnx`` only; by default native where the library is there.
        threads: CPU threads, for ``.safetensors`` and ``.onnx`` only; all available ones by default.
        contexts: how many runs of a ``.plan`` may go on at once, each with memory of its own; 2 by default.
        cuda_graphs: replay repeated runs of a ``.plan`` as CUDA graphs; off by default.
        allow_native_code: run a ``.plan`` that carries its plugin, which is native code; off by default.
        precision: "fp32", "fp16" or "bf16" inside the network, for ``.safetensors`` only; that of the file by default.

    Raises:
        UsageError: a kind of file that cannot be run, or an option that its backend does not have.
        ModelFileError, CheckpointError: the file is missing, damaged or foreign.
        MissingExtraError: the backend is not installed.
        EngineError: a plan that cannot run on this machine.
    """
    path = model_file(path)
    suffix = path.suffix.lower()
    if suffix in _PICKLED:
        raise UsageError(
            f"{path} looks like a pickled checkpoint, which can run any code when loaded; it is refused",
            hint="save the weights as .safetensors",
        )
    if suffix not in (".safetensors", ".onnx", ".plan"):
        hint = f"name a model file beside it, for example {path.with_suffix('.onnx')}" if suffix == ".json" else None
        raise UsageError(f"{path} is no model file; expected {_SUFFIXES}", hint=hint)
    _check_choices(path, scan, threads, precision)
    for_plans = {"contexts": contexts, "cuda_graphs": cuda_graphs, "allow_native_code": allow_native_code}
    given: dict[str, Any] = {name: value for name, value in for_plans.items() if value is not None}
    if given and suffix != ".plan":
        raise UsageError(f"{', '.join(given)} was given for {path}; only .plan files have such a choice")
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise ModelFileError(f"the model {path} {problem}", hint="write one with: serpent-export --variant B --res 256")
    # Each backend is imported only when its kind of file is opened.
    if suffix == ".safetensors":
        from serpent.runtime.torch_session import TorchSession

        return TorchSession(path, device, threads=threads, precision=precision)
    if suffix == ".onnx":
        for module in ("onnx", "onnxruntime"):
            require(module, "onnx", f"running {path.name}")
        from serpent.runtime.onnx_session import OnnxSession

        return OnnxSession(path, device, scan=scan, threads=threads)
    from serpent.runtime.tensorrt_session import TensorRTSession

    return TensorRTSession(path, device, **given)


def _check_choices(path: Path, scan: str | None, threads: int | None, precision: str | None) -> None:
    """Refuse choices that the backend of ``path`` does not have."""
    suffix = path.suffix.lower()
    if scan is not None and suffix != ".onnx":
        raise UsageError(f"scan {scan!r} was asked for {path}; only .onnx files have a choice of scan")
    if scan is not None and scan not in get_args(Scan):
        raise UsageError(f"unknown scan {scan!r}; expected one of {', '.join(get_args(Scan))}")
    if precision is not None and suffix != ".safetensors":
        raise UsageError(
            f"precision {precision!r} was asked for {path}; an exported file has its own",
            hint=f"serpent-export --precision {precision}",
        )
    if precision is not None and precision not in get_args(Precision):
        raise UsageError(f"unknown precision {precision!r}; expected one of {', '.join(get_args(Precision))}")
    if threads is not None and suffix == ".plan":
        raise UsageError(f"threads {threads} was asked for {path}; a plan runs on the GPU and has no such choice")
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}; expected at least 1")
