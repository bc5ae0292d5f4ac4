"""What a plan needs of this machine, checked in the order of cost; each refusal is one sentence and a way out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serpent import native
from serpent.errors import EngineError, MissingExtraError, ModelFileError, UsageError
from serpent.identity import NAME, NAMESPACE, VERSION
from serpent.runtime.cuda_device import Cuda
from serpent.runtime.gpu import survey_gpus
from serpent.runtime.native_code import carries_native_code
from serpent.runtime.tensorrt_library import FLAVOURS, Flavour, check_installed

BUILD_AGAIN = "run serpent-export again on this machine"


@dataclass(frozen=True)
class PlanNeeds:
    """What the manifest says that a plan was built with; and ``embedded``: the plan carries its plugin."""

    flavour: Flavour
    version: str
    targets: tuple[str, ...]
    plugin: dict[str, Any]
    embedded: bool


def read_needs(path: Path, engine: dict[str, Any]) -> PlanNeeds:
    """The manifest's ``engine`` entry, and whether there is native code in the plan, whatever the manifest says.

    Raises:
        ModelFileError: it describes no engine.
    """
    try:
        flavour, version, targets = FLAVOURS[engine["flavour"]], str(engine["version"]), engine["targets"]
        plugin = dict(engine.get("plugin", {}))
        if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
            raise TypeError(f"targets are {targets!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"the manifest of {path} describes its engine badly: {error!r}", hint=BUILD_AGAIN
        ) from None
    embedded = bool(plugin.get("embedded", False)) or carries_native_code(path)
    return PlanNeeds(flavour, version, tuple(targets), plugin, embedded)


def check_machine(path: Path, needs: PlanNeeds, *, allow_native_code: bool) -> None:
    """Refuse, before anything heavy is loaded, a plan that cannot run here, or that may not run its own code.

    Raises:
        UsageError: the plan carries native code, and ``allow_native_code`` is off.
        EngineError: no GPU, none that the plan is for, another version of TensorRT, or no fitting plugin.
        MissingExtraError: the flavour is not installed.
    """
    if needs.embedded and not allow_native_code:
        raise UsageError(
            f"{path} carries its plugin, native code that would run in this process",
            hint=f"if you trust where it comes from: serpent-infer {path} photo.png --allow-native-code, "
            "or open_session(path, allow_native_code=True)",
        )
    flavour, targets = needs.flavour, needs.targets
    survey = survey_gpus()
    if not survey.gpus:
        raise EngineError(f"{path} needs an NVIDIA GPU, and {survey.reason}", hint=or_onnx(path))
    try:
        installed = check_installed(flavour)
    except MissingExtraError as error:
        raise MissingExtraError(f"{path} cannot run: {error.message}", hint=or_onnx(path, error.hint)) from None
    if installed != needs.version:
        raise EngineError(
            f"{path} was built with {flavour.title} {needs.version}; installed is {installed}, which cannot run it",
            hint=or_onnx(path, BUILD_AGAIN),
        )
    if not any(gpu.target in targets for gpu in survey.gpus):
        present = ", ".join(f"{gpu.name} ({gpu.target})" for gpu in survey.gpus)
        raise EngineError(
            f"{path} was built for {', '.join(targets)}; this machine has {present}", hint=or_onnx(path, BUILD_AGAIN)
        )
    if not needs.embedded:
        _check_plugin(path, needs.plugin)


def _check_plugin(path: Path, plugin: dict[str, Any]) -> None:
    """The plan asks for the plugin that this package has, with the workspace that its kernels count on."""
    library = native.library()
    if not library.has_cuda:
        raise EngineError(
            f"{path} needs the CUDA kernels, and the native library {library.path} was built without them",
            hint=or_onnx(path, "reinstall on a machine with the CUDA toolkit (nvcc)"),
        )
    ours = {"name": NAME, "version": VERSION, "namespace": NAMESPACE}
    theirs = {key: plugin.get(key, value) for key, value in ours.items()}
    if theirs != ours:
        raise EngineError(
            "{} needs the plugin {namespace}::{name} version {version}; ".format(path, **theirs)
            + "this package has {namespace}::{name} version {version}".format(**ours),
            hint=or_onnx(path, "install the version of this package that built it"),
        )
    schema = plugin.get("schema")
    if schema is not None and schema != library.schema:
        raise EngineError(
            f"{path} was built with workspace schema {schema} of the plugin, this package has {library.schema}",
            hint=or_onnx(path, BUILD_AGAIN),
        )


def choose_device(cuda: Cuda, path: Path, device: str, targets: tuple[str, ...]) -> int:
    """The GPU to run on, as CUDA counts: nvidia-smi counts in another order and sees GPUs hidden from CUDA.

    Raises:
        UsageError: no device that a plan can run on.
        EngineError: the plan was not built for it, or it is not there.
    """
    kind, _, index = device.partition(":")
    if device not in ("auto", "cuda") and not (kind == "cuda" and index.isdecimal()):
        raise UsageError(
            f"device {device!r} cannot run {path}: a plan runs on auto, cuda or cuda:N", hint=or_onnx(path)
        )
    present = [cuda.target(number) for number in range(cuda.count())]
    asked = range(len(present)) if not index else [int(index)]
    for number in asked:
        if number < len(present) and present[number] in targets:
            return number
    seen = ", ".join(f"cuda:{number} ({target})" for number, target in enumerate(present)) or "no GPU"
    raise EngineError(
        f"{path} was built for {', '.join(targets)} and cannot run on device {device}: CUDA sees {seen}",
        hint=or_onnx(path),
    )


def or_onnx(path: Path, fix: str | None = None) -> str:
    """The hint: what makes the plan run, and the command that works now with the ONNX file of the same export."""
    onnx = path.with_suffix(".onnx")
    run = f"serpent-infer {onnx} photo.png" if onnx.is_file() else "export with --format onnx and run the .onnx file"
    return run if fix is None else f"{fix}, or: {run}"
