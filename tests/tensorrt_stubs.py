"""Stand-ins with the signatures of TensorRT 10.x and 11.x, as far as a build needs them.

They have what the bindings of their version have and nothing else: a call of something that 11 removed, or a
number where a version's own enum belongs, fails. ``calls`` of the module keeps what was asked.
"""

from __future__ import annotations

import enum
from types import ModuleType, SimpleNamespace
from typing import Any

PLAN = b"a plan of the stub"


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    UINT8 = 5
    BF16 = 7


class LayerType(enum.Enum):
    CONVOLUTION = 0
    PLUGIN_V3 = 46


# Numbers as in the headers of 10.16 and 11.1: what was removed makes others move up.
class Flags10(enum.IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1
    PREFER_JIT_PYTHON_PLUGINS = 2
    PREFER_AOT_PYTHON_PLUGINS = 3


class Flags11(enum.IntEnum):
    STRONGLY_TYPED = 0
    PREFER_JIT_PYTHON_PLUGINS = 1
    PREFER_AOT_PYTHON_PLUGINS = 2


class BuilderFlag10(enum.IntEnum):
    FP16 = 0
    TF32 = 6
    VERSION_COMPATIBLE = 13


class BuilderFlag11(enum.IntEnum):
    TF32 = 6
    VERSION_COMPATIBLE = 12


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"+measured"


def make_trt(version: str, *, scans: int = 14, static: bool = True) -> Any:  # noqa: C901 (a row of tiny classes)
    """A module ``tensorrt`` of ``version`` whose parser finds ``scans`` plugin layers in any file."""
    old = version.startswith("10.")
    module: Any = ModuleType("tensorrt")
    calls: list[tuple[Any, ...]] = []

    def recorder(name: str, answer: Any = None) -> Any:
        def method(_self: Any, *arguments: Any) -> Any:
            calls.append((name, *arguments))
            return answer(*arguments) if callable(answer) else answer

        return method

    image_shape = (1, 3, 64, 64) if static else (-1, 3, -1, -1)
    tensors = {n: SimpleNamespace(name=n, dtype=DataType.FLOAT, shape=image_shape) for n in ("image", "restored")}

    class ILogger:
        Severity = enum.Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

    class Config:
        __slots__ = ("builder_optimization_level", "cache", "plugins_to_serialize")
        set_memory_pool_limit = recorder("set_memory_pool_limit")
        clear_flag = recorder("clear_flag")
        add_optimization_profile = recorder("add_optimization_profile", 0)

        def create_timing_cache(self, content: bytes) -> TimingCache | None:
            return None if content == b"damaged" else TimingCache(content)

        def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
            calls.append(("set_timing_cache", cache.content, ignore_mismatch))
            self.cache = cache
            return cache.content != b"of another GPU"

        def get_timing_cache(self) -> TimingCache:
            return self.cache

    class Profile:
        set_shape = recorder("set_shape")

    class Network:
        name = "Unnamed Network 0"
        num_layers = scans + 1

        def get_layer(self, index: int) -> Any:
            return SimpleNamespace(type=LayerType.PLUGIN_V3 if index < scans else LayerType.CONVOLUTION)

        def get_input(self, _index: int) -> Any:
            return tensors["image"]

        def get_output(self, _index: int) -> Any:
            return tensors["restored"]

    class Builder:
        def __init__(self, _logger: Any) -> None:
            pass

        create_network = recorder("create_network", lambda _flags: Network())
        create_builder_config = recorder("create_builder_config", Config)
        create_optimization_profile = recorder("create_optimization_profile", Profile)

        def build_serialized_network(self, network: Any, config: Any) -> bytes:
            level = getattr(config, "builder_optimization_level", None)
            plugins = getattr(config, "plugins_to_serialize", None)
            calls.append(("build", network.name, level, plugins))
            return PLAN

    class OnnxParser:
        num_errors = 0

        def __init__(self, _network: Any, _logger: Any) -> None:
            pass

        def parse(self, _content: bytes) -> bool:
            return True

    class Registry:
        def __init__(self) -> None:
            self.all_creators: list[Any] = []

        def register_creator(self, creator: Any, _namespace: str) -> bool:
            self.all_creators.append(creator)
            return True

        def load_library(self, path: str) -> Any:
            calls.append(("load_library", path))
            return None if "broken" in path else object()

    registry = Registry()
    module.__version__ = version
    module.calls = calls
    module.tensors = tensors
    module.get_plugin_registry = lambda: registry
    module.PluginFieldCollection = list
    for cls in (ILogger, Builder, OnnxParser, DataType, LayerType, MemoryPoolType):
        setattr(module, cls.__name__, cls)
    for name in ("IPluginV3", "IPluginV3OneCore", "IPluginV3OneBuild", "IPluginV3OneRuntime", "IPluginCreatorV3One"):
        setattr(module, name, type(name, (), {}))
    module.NetworkDefinitionCreationFlag = Flags10 if old else Flags11
    module.BuilderFlag = BuilderFlag10 if old else BuilderFlag11
    return module
