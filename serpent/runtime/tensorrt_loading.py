"""From a plan's bytes to an engine on a GPU; and whether loading them is safe, tried by a process of its own.

TensorRT checks a plan's header and little else: bytes that are no plan of its own can end the process. The manifest's
digest keeps damaged files out; what remains is tried once per plan, GPU, driver and version.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serpent.errors import EngineError, ModelFileError, SerpentError
from serpent.runtime import tensorrt_cache
from serpent.runtime.cuda_device import Cuda, load_cuda
from serpent.runtime.gpu import find_gpus
from serpent.runtime.tensorrt_adapter import TensorRTEngine
from serpent.runtime.tensorrt_library import FLAVOURS, Flavour, Messages, load, make_logger
from serpent.runtime.tensorrt_plugin import register

_TRIAL_LIMIT_S = 300.0
"""Loading takes seconds; a trial that hangs must not hang the user's program."""


@dataclass(frozen=True)
class PlanFile:
    """Which plan to load, and with what.

    Attributes:
        path: the file.
        sha256: of its bytes.
        flavour: who loads it.
        version: of the flavour.
        gpu: what distinguishes the GPU from others, see :meth:`CudaDevice.name`.
        embedded: the plan carries its plugin, native code that is to be run.
    """

    path: Path
    sha256: str
    flavour: Flavour
    version: str
    gpu: str
    embedded: bool = False

    def entry(self, kind: str) -> str:
        """Name of a cache entry of this plan on this GPU, with the driver that is there now."""
        return tensorrt_cache.entry_name(kind, self.sha256, self.flavour.key, self.version, self.gpu, _driver())


def cuda_runtime(flavour: Flavour) -> Cuda:
    """The CUDA runtime that ``flavour`` uses.

    Raises:
        MissingExtraError: not installed.
    """
    return load_cuda(flavour.key, "running a plan")


def load_engine(file: PlanFile, *, cuda_graphs: bool) -> TensorRTEngine:
    """Load a plan on the calling thread's device, the plugin first.

    Args:
        file: the plan.
        cuda_graphs: see :class:`TensorRTEngine`.

    Raises:
        EngineError: TensorRT refuses it, or another plugin is in the way.
        ModelFileError: the file has changed.
    """
    plan = file.path.read_bytes()
    if hashlib.sha256(plan).hexdigest() != file.sha256:
        raise ModelFileError(f"{file.path} was changed while it was opened", hint="open it again")
    entry = file.entry("runtime")
    return _engine(file.flavour, plan, embedded=file.embedded, cuda_graphs=cuda_graphs, cache_entry=entry)


def _engine(
    flavour: Flavour, plan: bytes, *, embedded: bool, cuda_graphs: bool = False, cache_entry: str | None = None
) -> TensorRTEngine:
    trt = load(flavour)
    return TensorRTEngine(
        trt,
        flavour.title,
        plan,
        plugin_errors=_register(trt, embedded=embedded),
        logger=make_logger(trt),
        cuda_graphs=cuda_graphs,
        host_code=embedded,
        cache_entry=cache_entry,
    )


def _register(trt: Any, *, embedded: bool) -> Messages:
    """Have the plugin ready, and return where its failures will be found."""
    if embedded:  # two plugins of one name would be in each other's way
        return Messages()
    errors: Messages = register(trt).errors
    errors.clear()
    return errors


def try_loading(file: PlanFile, device: int | None) -> None:
    """Load the plan in a process of its own, unless that went well before.

    Args:
        file: the plan.
        device: CUDA's number of the GPU; None leaves CUDA alone.

    Raises:
        EngineError: the plan is refused, or the process died of it; says why, and not of which plan.
    """
    known = file.entry("loads")
    if tensorrt_cache.load(known) is not None:
        return
    reason, hint = _trial(file, device)
    if reason:
        raise EngineError(reason, hint=hint)
    tensorrt_cache.store(known, b"")


def _trial(file: PlanFile, device: int | None) -> tuple[str, str | None]:
    """Why the plan cannot be loaded, "" if it can; and what helps, where that is known."""
    spec = {"path": str(file.path.resolve()), "flavour": file.flavour.key, "device": device, "embedded": file.embedded}
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    # -P keeps the current folder, which may hold anything, off the child's import path.
    command = [sys.executable, "-P", "-m", __name__]
    try:
        # An aborted process removes none of its temporary files; this folder goes with all of them.
        with tempfile.TemporaryDirectory(prefix="serpent-trial-") as scratch:
            run = subprocess.run(
                command,
                input=json.dumps(spec),
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=os.environ | {"PYTHONPATH": paths, "TMPDIR": scratch},
                timeout=_TRIAL_LIMIT_S,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return f"the process that tried it had not ended after {_TRIAL_LIMIT_S:.0f} s", None
    except OSError as error:  # no folder for temporary files, or no Python of its own inside another program
        return f"the process that tries it, {sys.executable!r}, cannot be started: {error}", None
    if run.returncode < 0:
        return f"the process that tried it was ended by signal {_signal_name(-run.returncode)}", None
    try:
        answer = json.loads(run.stdout.splitlines()[-1])
        return str(answer["reason"]), answer.get("hint")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        last = (run.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return f"the process that tried it failed with exit code {run.returncode}: {last}", None


def trial(path: Path, flavour: Flavour, device: int | None, *, embedded: bool = False) -> SerpentError | None:
    """What the child does: load the plan and make a context; the error that prevents it, if one does.

    Args:
        path: the plan.
        flavour: who loads it.
        device: CUDA's number of the GPU; None leaves CUDA alone.
        embedded: the plan carries its plugin.
    """
    try:
        if device is not None:
            cuda_runtime(flavour).call("cudaSetDevice", device)
        _engine(flavour, path.read_bytes(), embedded=embedded).create_context().close()
    except SerpentError as error:
        return error
    return None


def _driver() -> str:
    """The version of the driver, in whatever words."""
    try:
        return Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").partition("\n")[0]
    except OSError:  # under WSL the driver is that of Windows
        return ", ".join(sorted({gpu.driver_version for gpu in find_gpus()}))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def main() -> None:
    """Serve one trial: JSON on stdin, one JSON line at the end of stdout."""
    spec = json.load(sys.stdin)
    error = trial(Path(spec["path"]), FLAVOURS[spec["flavour"]], spec["device"], embedded=spec["embedded"])
    answer = {"reason": "", "hint": None} if error is None else {"reason": error.message, "hint": error.hint}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
