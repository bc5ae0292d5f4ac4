"""Which TensorRT builds the plan, and for which GPUs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from serpent.errors import EngineError, MissingExtraError, SerpentError, UsageError
from serpent.runtime.cuda_device import load_cuda
from serpent.runtime.gpu import Gpu, survey_gpus
from serpent.runtime.tensorrt_library import RTX, TRT, Flavour, check_installed, installed_version, load
from serpent.runtime.tensorrt_library import supported_targets as targets_of

DEFAULT_TARGETS = ("sm86", "sm89", "sm120")
"""GeForce and professional RTX GPUs of the Ampere, Ada and Blackwell generations."""


@dataclass(frozen=True)
class EngineChoice:
    """Who builds the plan; where nobody can, ``flavour`` is None and ``reason`` says which command changes that."""

    flavour: Flavour | None
    reason: str = ""


def rtx_targets() -> tuple[str, ...]:
    """The GPUs that the installed TensorRT-RTX builds for; empty where it is not installed.

    Raises:
        SerpentError: it is installed but too old, or cannot be loaded.
    """
    return targets_of(load(RTX)) if installed_version(RTX) is not None else ()


def choose_engine(engine: str, gpus: Sequence[Gpu]) -> EngineChoice:
    """Decide ``--engine``.

    "auto" takes TensorRT where it is installed and no GPU of this machine is a target of TensorRT-RTX, else
    TensorRT-RTX, which needs no GPU for building.

    Args:
        engine: as typed.
        gpus: of this machine.

    Returns:
        The flavour, or the one line that says which command would add the plan.

    Raises:
        UsageError: unknown engine.
        MissingExtraError: the engine asked for by name is not installed.
        EngineError: the engine asked for by name is too old, or needs a GPU that is not there.
    """
    if engine not in ("auto", "rtx", "trt"):
        raise UsageError(f"unknown engine {engine!r}; expected auto, rtx or trt")
    if engine == "rtx":
        check_installed(RTX)
        return EngineChoice(RTX)
    if engine == "trt":
        check_installed(TRT)
        if not gpus:
            raise EngineError("TensorRT builds plans only on the GPU that will run them; there is none", hint=_USE_RTX)
        return EngineChoice(TRT)
    try:
        available = rtx_targets()
        if gpus and installed_version(TRT) is not None and not any(gpu.target in available for gpu in gpus):
            check_installed(TRT)
            return EngineChoice(TRT)
        check_installed(RTX)
    except SerpentError as error:
        advice = f": {error.hint}" if error.hint else ""
        return EngineChoice(
            None, f"no plan, because {error.message}; to add it{advice}, then export again with --overwrite"
        )
    return EngineChoice(RTX)


def choose_targets(text: str | None, flavour: Flavour, gpus: Sequence[Gpu]) -> tuple[str, ...]:
    """Read ``--targets``, a list such as "sm86,sm89,sm120", for the chosen engine.

    Args:
        text: as typed; None for the default of the engine.
        flavour: TensorRT-RTX builds for any of its targets, TensorRT only for the GPU it runs on.
        gpus: of this machine.

    Returns:
        Lower-case names, each once, in ascending order: equal sets give equal plans. Empty for TensorRT where none is
        asked for: the process that builds knows its GPU, see :func:`own_target`.

    Raises:
        UsageError: a text that names no GPU, or a GPU that the engine cannot build for.
        EngineError: TensorRT without a GPU.
    """
    asked = None if text is None else parse_targets(text)
    if flavour is TRT:
        if not gpus:
            raise EngineError("TensorRT builds plans only on the GPU that will run them; there is none", hint=_USE_RTX)
        own = list(dict.fromkeys(gpu.target for gpu in gpus))
        if asked is not None and asked not in [(target,) for target in own]:
            raise UsageError(
                f"--targets {text} cannot be built by TensorRT, which builds for the GPU of this machine "
                f"({', '.join(own)}) alone",
                hint=f"leave out --targets, or {_USE_RTX}",
            )
        return asked or ()
    available = rtx_targets()
    chosen = DEFAULT_TARGETS if asked is None else asked
    for target in chosen:
        if target not in available:
            raise UsageError(
                f"--targets {target}: TensorRT-RTX builds for {', '.join(available)}; this GPU needs TensorRT proper",
                hint=f"on a machine with that GPU: {TRT.install_command}, then serpent-export --engine trt",
            )
    return chosen


def own_target(asked: Sequence[str]) -> tuple[str, ...]:
    """The GPU that TensorRT builds for in this process: CUDA's current device, as CUDA counts.

    ``nvidia-smi``, which counts in another order, is asked where CUDA's bindings are not installed.

    Args:
        asked: empty, or the one target that the plan should have.

    Raises:
        UsageError: another target than ``asked``.
        EngineError: CUDA fails, or there is no GPU.
    """
    try:
        cuda = load_cuda(TRT.key, "building a plan")
    except MissingExtraError:
        survey = survey_gpus()
        if not survey.gpus:
            raise EngineError(f"TensorRT builds plans on a GPU, and {survey.reason}", hint=_USE_RTX) from None
        own = survey.gpus[0].target
    else:
        own = cuda.target(cuda.current())
    if asked and tuple(asked) != (own,):
        raise UsageError(
            f"--targets {','.join(asked)} cannot be built on the GPU that CUDA counts first, which is {own}",
            hint=f"choose another with CUDA_VISIBLE_DEVICES=N, leave out --targets, or {_USE_RTX}",
        )
    return (own,)


def parse_targets(text: str) -> tuple[str, ...]:
    """Read a list of GPUs without asking whether any engine builds for them.

    Raises:
        UsageError: a part is no compute capability such as "sm89".
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"sm_?(\d{2,3})", part.strip().lower())
        if match is None:
            raise UsageError(
                f"--targets {text!r}: {part.strip()!r} is no GPU target",
                hint=f"use compute capabilities, as in --targets {','.join(DEFAULT_TARGETS)}",
            )
        found.add(int(match.group(1)))
    return tuple(f"sm{number}" for number in sorted(found))


def gpu_note(targets: Sequence[str], gpus: Sequence[Gpu]) -> str | None:
    """One line when no GPU of this machine can run a plan for ``targets``, else None."""
    runs_on = ", ".join(targets)
    if not gpus:
        return f"this machine has no NVIDIA GPU: the plan runs on {runs_on}"
    if any(gpu.target in targets for gpu in gpus):
        return None
    names = ", ".join(f"{gpu.name} ({gpu.target})" for gpu in gpus)
    return f"the GPU of this machine, {names}, cannot run the plan, which is for {runs_on}"


_USE_RTX = f"use --engine rtx, which needs no GPU ({RTX.install_command})"
