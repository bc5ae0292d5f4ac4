"""Where the TensorRT plugin's own library files are: they lie beside the native library, if they were built.

This package runs plans without them, through :mod:`serpent.runtime.tensorrt_plugin`; C++ hosts, trtexec, Triton and
plans that carry their plugin need them.
"""

from __future__ import annotations

from pathlib import Path

from serpent import native
from serpent.errors import NativeLibraryError

PLUGIN_LIBRARY = "libserpent_trt.so"
"""For every TensorRT >= 10 and TensorRT-RTX >= 1.7.1; found through ``getCreators``, registers nothing by itself."""

AUTOREG_LIBRARY = "libserpent_trt_autoreg{major}.so"
"""For one major version of TensorRT (TensorRT-RTX counts as 11): registers the plugin when it is loaded."""

_BUILD = (
    "build the project where NvInfer.h is found: unpack a TensorRT SDK, set TENSORRT_ROOT to its folder and reinstall "
    "(pip install .)"
)


def plugin_library() -> Path:
    """Path of the plugin library for ``IPluginRegistry.load_library`` and ``IBuilderConfig.plugins_to_serialize``.

    Raises:
        NativeLibraryError: it was not built, or there is no native library.
    """
    return _beside_native(PLUGIN_LIBRARY)


def autoreg_library(major: int) -> Path:
    """Path of the library that registers the plugin on load, for tools that only load a library.

    Args:
        major: version of TensorRT's interface: 10 or 11; TensorRT-RTX 1.7 has that of 11.

    Raises:
        NativeLibraryError: it was not built, or there is no native library.
    """
    return _beside_native(AUTOREG_LIBRARY.format(major=major))


def _beside_native(name: str) -> Path:
    path = native.find_library().with_name(name)
    if not path.is_file():
        raise NativeLibraryError(f"the TensorRT plugin library {path} does not exist", hint=_BUILD)
    return path
