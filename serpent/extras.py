"""Optional dependencies: which extra brings which module, and one error for what is absent."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from serpent.errors import MissingExtraError, SerpentError

EXTRAS = {
    "torch": ("torch",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "rtx": ("tensorrt_rtx", "cuda.bindings"),
    "train": ("lightning_fabric", "tensorboardX"),
    "trt": ("tensorrt", "cuda.bindings"),
}
"""Modules that each extra must bring for this package to use it."""


def install_command(extra: str) -> str:
    """The command that adds ``extra`` to the installed package."""
    return f"pip install 'serpent-restoration[{extra}]'"


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: its import name, for example "onnxruntime".
        extra: the extra that brings it.
        purpose: what needs it, the subject of the error's sentence, for example "running an ONNX file".

    Raises:
        MissingExtraError: it is not installed.
        SerpentError: it is installed but does not load.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _broken(module, extra, purpose, error) from error
        hint = install_command(extra)
        raise MissingExtraError(f"{purpose} needs {module}, which is not installed", hint=hint) from error
    except ImportError as error:
        raise _broken(module, extra, purpose, error) from error


def _broken(module: str, extra: str, purpose: str, error: ImportError) -> SerpentError:
    message = f"{purpose} needs {module}, which is installed but does not load: {' '.join(str(error).split())}"
    return SerpentError(message, hint=f"{install_command(extra)} --force-reinstall")


def is_installed(module: str) -> bool:
    """Whether a module can be found; imports at most its parent package."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
