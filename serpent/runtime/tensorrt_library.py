"""The two flavours of TensorRT as one small abstraction; nothing is imported before :func:`load`.

TensorRT-RTX ("rtx") and TensorRT ("trt") are separate Python modules with the same names in them.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import importlib
import importlib.metadata
import importlib.util
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from serpent.errors import EngineError, MissingExtraError
from serpent.extras import install_command

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Flavour:
    """One of the two products.

    Attributes:
        key: "rtx" or "trt", also the name of the extra that installs it.
        title: what a person calls it.
        module: name of the Python module.
        distributions: names of the packages that bring the module, by CUDA version.
        minimum: oldest version that takes the scan as a plugin.
    """

    key: str
    title: str
    module: str
    distributions: tuple[str, ...]
    minimum: tuple[int, int, int]

    @property
    def install_command(self) -> str:
        return install_command(self.key)


RTX = Flavour(
    "rtx",
    "TensorRT-RTX",
    "tensorrt_rtx",
    ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx"),
    (1, 7, 1),  # the first whose ONNX parser accepts custom operators at all
)
TRT = Flavour(
    "trt",
    "TensorRT",
    "tensorrt",
    ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    (10, 7, 0),  # before, the parser preferred the function of the ONNX file to the plugin
)
FLAVOURS = {flavour.key: flavour for flavour in (RTX, TRT)}


def installed_version(flavour: Flavour) -> str | None:
    """Version of the installed package, or None; reads metadata and imports nothing."""
    if importlib.util.find_spec(flavour.module) is None:
        return None
    for name in flavour.distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def check_installed(flavour: Flavour) -> str:
    """The version of a flavour that is installed and recent enough.

    Raises:
        MissingExtraError: not installed.
        EngineError: older than the project supports.
    """
    version = installed_version(flavour)
    if version is None:
        raise MissingExtraError(f"{flavour.title} is not installed", hint=flavour.install_command)
    if _numbers(version) < flavour.minimum:
        needed = ".".join(map(str, flavour.minimum))
        raise EngineError(
            f"{flavour.title} {version} is too old: the selective-scan plugin needs {needed} or later",
            hint=f"{flavour.install_command} --upgrade",
        )
    return version


@functools.cache
def load(flavour: Flavour) -> Any:
    """Import the flavour's module, with an ONNX parser that takes plugins.

    Where other code imported the module first, it is returned as it is: running plans needs no parser, and the
    one place that parses is a process of its own that calls this before anything else.

    Raises:
        MissingExtraError: not installed, or its libraries cannot be loaded.
        EngineError: older than the project supports.
    """
    check_installed(flavour)
    try:
        if flavour is RTX and flavour.module not in sys.modules:
            _satisfy_rtx_parser()
        return importlib.import_module(flavour.module)
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            f"{flavour.title} is installed but cannot be loaded: {error}", hint=flavour.install_command
        ) from None


def once(make: Callable[[Any], _Made]) -> Callable[[Any], _Made]:
    """``functools.cache`` of what must exist once: that lets two threads make it, and keeps the later one."""
    cached, lock = functools.cache(make), threading.Lock()

    @functools.wraps(make)
    def locked(argument: Any) -> _Made:
        with lock:
            return cached(argument)

    return locked


def supported_targets(trt: Any) -> tuple[str, ...]:
    """GPUs that a plan can be built for ahead of time, such as ("sm75", "sm80", ...), as this version says.

    Empty for a module that builds for the GPU of its own machine only.
    """
    members = getattr(getattr(trt, "ComputeCapability", None), "__members__", {})
    return tuple(sorted((name.lower() for name in members if name.startswith("SM")), key=_numbers))


class Messages(list[str]):
    """Messages in order; a thread can take those that came while it ran.

    TensorRT calls loggers and plugins back in the thread that called it, so runs in several threads at once each
    get their own reasons.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.local()

    def append(self, message: str) -> None:
        super().append(message)
        self._own().append(message)

    def take(self) -> list[str]:
        """Remove and return what came in the calling thread."""
        own = self._own()
        taken = own[:]
        own.clear()
        for message in taken:
            with contextlib.suppress(ValueError):  # cleared by another thread
                self.remove(message)
        return taken

    def _own(self) -> list[str]:
        if not hasattr(self._thread, "messages"):
            self._thread.messages = []
        return cast("list[str]", self._thread.messages)


@once
def make_logger(trt: Any) -> Any:
    """The logger of a module, which keeps what it is told; ``logger.sentence()`` takes the calling thread's errors.

    One, and for as long as the process lives: TensorRT reports to the first logger that it was given, even after
    the object that brought it is gone.
    """

    class MessageLogger(trt.ILogger):  # type: ignore[misc]  # the module is only known at run time
        def __init__(self) -> None:
            super().__init__()
            self.messages = Messages()

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.messages.append(" ".join(message.split()))

        def sentence(self) -> str:
            return "; ".join(dict.fromkeys(self.messages.take()))

    return MessageLogger()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _satisfy_rtx_parser() -> None:
    """Let the ONNX parser of the RTX wheels find the library that it opens by its unversioned name.

    On the first plugin node the parser calls ``dlopen("libtensorrt_rtx.so")`` and aborts the process when that
    fails; the Linux wheels of 1.7.1 carry only ``libtensorrt_rtx.so.1``. The parser's search path is the folder
    that it was loaded from, so it is loaded from a private folder of links, before the Python bindings load it
    from site-packages. An installation from the SDK has no ``tensorrt_rtx_libs`` package and needs none of this.
    """
    spec = importlib.util.find_spec("tensorrt_rtx_libs")
    if sys.platform != "linux" or spec is None or spec.origin is None:
        return
    libraries = sorted(Path(spec.origin).parent.glob("lib*.so*"))
    folder = Path(tempfile.mkdtemp(prefix="serpent-tensorrt-rtx-"))
    # The parser opens the link when it meets the first plugin, so the folder lives as long as the process.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for library in libraries:
        versioned = folder / library.name
        versioned.symlink_to(library)
        plain = folder / f"{library.name.split('.so')[0]}.so"
        if plain != versioned and not plain.exists():
            plain.symlink_to(library)
    for parser in folder.glob("libtensorrt_onnxparser_rtx.so.*"):
        # Local symbols are enough, and keep the parser's protobuf away from other libraries of the process.
        ctypes.CDLL(str(parser), mode=ctypes.RTLD_LOCAL)
