"""Which plugin a build process registers: the Python glue, or the C++ library that goes into the plan.

Both are one contract (name, version, namespace, fields) over one kernel archive; plans do not differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serpent import native
from serpent.errors import EngineError
from serpent.files import sha256_file
from serpent.identity import NAME, NAMESPACE, VERSION
from serpent.runtime import tensorrt_plugin


@dataclass(frozen=True)
class RegisteredPlugin:
    """A plugin that the parser can now find.

    Attributes:
        library: the file with its kernels.
        embedded: whether the plan will carry that file.
        errors: grows by a message whenever the plugin refuses something; the C++ plugin reports to TensorRT's logger.
    """

    library: Path
    embedded: bool
    errors: list[str] = field(default_factory=list)

    def to_manifest(self) -> dict[str, Any]:
        return {
            "name": NAME,
            "version": VERSION,
            "namespace": NAMESPACE,
            "schema": native.library().schema,
            "library": self.library.name,
            "library_sha256": sha256_file(self.library),
            "embedded": self.embedded,
        }


def register_plugin(trt: Any, config: Any, library: Path | None) -> RegisteredPlugin:
    """Make the scan known to ``trt``.

    Args:
        trt: the module ``tensorrt_rtx`` or ``tensorrt``.
        config: the builder's configuration.
        library: the C++ plugin library to use and to embed; None for the Python glue.

    Raises:
        EngineError: TensorRT cannot load the library.
    """
    if library is None:
        creator = tensorrt_plugin.register(trt)
        return RegisteredPlugin(native.library().path, embedded=False, errors=creator.errors)
    if trt.get_plugin_registry().load_library(str(library)) is None:
        raise EngineError(
            f"{trt.__name__} {trt.__version__} cannot load the plugin library {library}",
            hint="build it again against the headers of this TensorRT, or leave out --embed-plugin",
        )
    config.plugins_to_serialize = [str(library)]
    return RegisteredPlugin(library, embedded=True)
