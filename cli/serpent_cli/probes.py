"""What ``serpent-doctor`` looks at. Each probe runs in a process of its own: ``python -m serpent_cli.probes NAME``.

A broken library can end the process that loads it (a truncated file with SIGBUS, a bad build with SIGILL);
then only its own line suffers.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from serpent.errors import MissingExtraError, SerpentError
from serpent.extras import EXTRAS, install_command, is_installed, require


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        status: "ok", "missing" (not there, and optional) or "problem" (there, but unusable).
        detail: version, place, or what is wrong.
        hint: the next command, empty when nothing needs to be done.
    """

    name: str
    status: str
    detail: str
    hint: str = ""


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} ({sys.executable})")


def _native() -> Finding:
    from serpent.native import library

    loaded = library()
    kernels = "CPU and CUDA kernels" if loaded.has_cuda else "CPU kernels, built without CUDA"
    return Finding("native library", "ok", f"{loaded.path}, ABI {loaded.abi_version}, {kernels}")


def _torch() -> Finding:
    require("torch", "torch", "running a .safetensors checkpoint")
    import torch

    if torch.version.cuda is None:
        return Finding("PyTorch", "ok", f"{torch.__version__}, CPU only")
    usable = f"{torch.cuda.device_count()} usable GPU(s)" if torch.cuda.is_available() else "no usable GPU"
    return Finding("PyTorch", "ok", f"{torch.__version__}, CUDA {torch.version.cuda}, {usable}")


def _onnxruntime() -> Finding:
    runtime = require("onnxruntime", "onnx", "running an .onnx file")
    providers = ", ".join(runtime.get_available_providers())
    return Finding("ONNX Runtime", "ok", f"{runtime.__version__} ({providers})")


def _onnx() -> Finding:
    onnx = require("onnx", "onnx", "exporting")
    onnxscript = require("onnxscript", "onnx", "exporting")
    return Finding("ONNX export", "ok", f"onnx {onnx.__version__}, onnxscript {onnxscript.__version__}")


def _tensorrt(key: str) -> Finding:
    from serpent.runtime.tensorrt_library import FLAVOURS, load, supported_targets

    flavour = FLAVOURS[key]
    module = load(flavour)
    targets = ",".join(supported_targets(module))
    ahead = f"builds plans for {targets} without a GPU" if targets else "builds plans on the GPU that runs them"
    return Finding(flavour.title, "ok", f"{module.__version__}, {ahead}")


def _plugin() -> Finding:
    from serpent.identity import NAME, NAMESPACE, VERSION
    from serpent.native import library
    from serpent.runtime.tensorrt_library import FLAVOURS, installed_version, load
    from serpent.runtime.tensorrt_plugin import register

    present = [flavour for flavour in FLAVOURS.values() if installed_version(flavour) is not None]
    if not present:
        raise MissingExtraError("the TensorRT plugin needs TensorRT-RTX or TensorRT", hint=install_command("rtx"))
    loaded = library()
    for flavour in present:
        register(load(flavour))
    plugin = f"{NAMESPACE}::{NAME} version {VERSION} registers with {' and '.join(f.title for f in present)}"
    if loaded.has_cuda:
        return Finding("TensorRT plugin", "ok", plugin)
    hint = "to run plans, install again on a machine with the CUDA toolkit (nvcc)"
    return Finding("TensorRT plugin", "ok", f"{plugin}; builds plans, cannot run them: no CUDA kernels", hint)


def _gpu() -> Finding:
    from serpent.runtime.gpu import survey_gpus

    survey = survey_gpus()
    if not survey.gpus:
        hint = "pictures are restored on the CPU; .plan files need an NVIDIA GPU and its driver"
        return Finding("NVIDIA GPU", "missing", survey.reason, hint)
    driver = survey.gpus[0].driver_version
    return Finding("NVIDIA GPU", "ok", f"{', '.join(f'{g.name} ({g.target})' for g in survey.gpus)}, driver {driver}")


def _extras() -> Finding:
    complete = [extra for extra, modules in EXTRAS.items() if all(map(is_installed, modules))]
    absent = [extra for extra in EXTRAS if extra not in complete]
    detail = f"complete: {', '.join(complete) or 'none'}; incomplete: {', '.join(absent) or 'none'}"
    return Finding(
        "extras", "ok" if complete else "missing", detail, install_command(",".join(absent)) if absent else ""
    )


NATIVE = "native library"
"""The one line that must be ok: without the native library there is no fast scan on any runtime."""

PROBES: dict[str, Callable[[], Finding]] = {
    "Python": _python,
    NATIVE: _native,
    "PyTorch": _torch,
    "ONNX Runtime": _onnxruntime,
    "ONNX export": _onnx,
    "TensorRT-RTX": partial(_tensorrt, "rtx"),
    "TensorRT": partial(_tensorrt, "trt"),
    "TensorRT plugin": _plugin,
    "NVIDIA GPU": _gpu,
    "extras": _extras,
}


def probe(name: str) -> Finding:
    """Run one probe in this process; whatever it raises becomes its finding."""
    try:
        return PROBES[name]()
    except MissingExtraError as error:
        return Finding(name, "missing", error.message, error.hint or "")
    except SerpentError as error:
        return Finding(name, "problem", error.message, error.hint or "")
    except Exception as error:  # noqa: BLE001  # the doctor reports what is broken, itself included
        return Finding(name, "problem", f"{type(error).__name__}: {error}", "reinstall what the message names")


if __name__ == "__main__":
    # One line and the last: a library may have written to stdout while it was loaded.
    sys.stdout.write("\n" + json.dumps(dataclasses.asdict(probe(sys.argv[1]))) + "\n")
