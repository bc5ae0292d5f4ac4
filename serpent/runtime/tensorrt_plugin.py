"""The selective scan as a TensorRT plugin: Python glue over the native library's C interface.

One code for both flavours: TensorRT-RTX and TensorRT have the same class names in different modules, so the
classes are made for the module that is given. Building a plan needs neither a GPU nor CUDA kernels; running
one needs both. Plans store name, version, namespace and fields, not code: any glue with the same four fits.

TensorRT's Python bindings catch what a callback raises, print it to stderr and report failure. Some callers
then carry on (a failing ``get_workspace_size`` counts as "no workspace"), so every message is also kept in
``creator.errors``, and whoever builds or runs must treat a message there as failure.
"""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from serpent import native
from serpent.errors import ArgumentError, EngineError, SerpentError
from serpent.identity import INPUTS, NAME, NAMESPACE, VERSION
from serpent.native import ScanPointers, ScanShape
from serpent.runtime.tensorrt_library import Messages, once

SCHEMA_FIELD = "schema"
"""The one serialised field, one int32: revision of the workspace-size function that the plan was built with."""


_RANKS = (4, 4, 3, 2, 3, 2)

_registering = threading.Lock()
"""Two sessions opened at once must not both find the plugin missing: a second registration of one name fails."""


@once
def make_creator(trt: Any) -> Any:
    """The plugin creator of :data:`NAME` for a TensorRT module, one per module.

    Args:
        trt: the module ``tensorrt_rtx`` or ``tensorrt``.

    Returns:
        An ``IPluginCreatorV3One`` whose list ``errors`` collects the failures of itself and of its plugins.
    """
    # TensorRT finds a callback by its name on the class, so ours must come before its own.
    interfaces = (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime)
    plugin_class = types.new_class(NAME, (_Plugin, *interfaces))
    creator_class = types.new_class(f"{NAME}Creator", (_Creator, trt.IPluginCreatorV3One))
    return creator_class(trt, plugin_class, interfaces)


def register(trt: Any) -> Any:
    """Make the plugin known to a TensorRT module; again is fine, from any thread.

    Args:
        trt: the module ``tensorrt_rtx`` or ``tensorrt``.

    Returns:
        The registered creator, see :func:`make_creator`.

    Raises:
        EngineError: a plugin of this name, version and namespace from elsewhere is registered already.
    """
    creator = make_creator(trt)
    with _registering:
        _register(trt, creator)
    return creator


def _register(trt: Any, creator: Any) -> None:
    registry = trt.get_plugin_registry()
    identity = (NAME, VERSION, NAMESPACE)
    for known in registry.all_creators:
        if (known.name, known.plugin_version, known.plugin_namespace) != identity:
            continue
        if known is not creator:
            raise EngineError(
                f"another library has registered the plugin {NAMESPACE}::{NAME} version {VERSION} in this process",
                hint="do not load the C++ plugin library into a Python process that uses this package",
            )
        return
    if not registry.register_creator(creator, NAMESPACE):
        raise EngineError(f"{trt.__name__} {trt.__version__} refused to register the plugin {NAMESPACE}::{NAME}")


def _recorded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Keep the message of whatever a callback raises in ``self.errors``."""

    @functools.wraps(method)
    def guarded(self: Any, *arguments: Any) -> Any:
        try:
            return method(self, *arguments)
        except Exception as error:
            self.errors.append(_message(error))
            raise

    return guarded


def _message(error: Exception) -> str:
    return error.message if isinstance(error, SerpentError) else f"{NAME}: {error!r}"


class _Creator:
    """The callbacks of ``IPluginCreatorV3One``."""

    def __init__(self, trt: Any, plugin_class: Callable[..., Any], interfaces: Sequence[Any]) -> None:
        trt.IPluginCreatorV3One.__init__(self)
        self.name, self.plugin_version, self.plugin_namespace = NAME, VERSION, NAMESPACE
        # No ONNX attribute is wanted; the parser keeps plugin_namespace and plugin_version to itself.
        self.field_names = trt.PluginFieldCollection([])
        self.errors = Messages()
        self._trt = trt
        self._make = functools.partial(plugin_class, trt, interfaces, self.errors)

    def create_plugin(self, _name: str, fields: Any, phase: Any) -> Any:
        try:
            return self._make(_read_schema(self._trt, fields, required=phase == self._trt.TensorRTPhase.RUNTIME))
        except Exception as error:  # noqa: BLE001  # nothing may escape into TensorRT; None reports the failure
            self.errors.append(_message(error))
            return None


class _Plugin:
    """The callbacks of ``IPluginV3`` and its three capabilities."""

    def __init__(self, trt: Any, interfaces: Sequence[Any], errors: list[str], schema: int) -> None:
        for interface in interfaces:
            interface.__init__(self)
        self.plugin_name, self.plugin_version, self.plugin_namespace = NAME, VERSION, NAMESPACE
        self.num_outputs = 1
        self.errors = errors
        self._trt = trt
        self._scalars = {trt.DataType.FLOAT: "f32", trt.DataType.HALF: "f16", trt.DataType.BF16: "bf16"}
        # A member, because TensorRT reads the serialised field after the call that returns it.
        self._schema = np.array([schema], dtype=np.int32)
        self._copy = functools.partial(type(self), trt, interfaces, errors, schema)

    def clone(self) -> Any:
        return self._copy()

    def attach_to_context(self, _context: Any) -> Any:
        return self._copy()

    def get_capability_interface(self, _kind: Any) -> Any:
        return self

    @_recorded
    def get_output_data_types(self, kinds: Sequence[Any]) -> list[Any]:
        if len(kinds) != len(INPUTS):
            raise ArgumentError(f"{NAME} has {len(kinds)} inputs; expected {len(INPUTS)}: {', '.join(INPUTS)}")
        if kinds[0] not in self._scalars:
            names = ", ".join(kind.name for kind in self._scalars)
            raise ArgumentError(f"{NAME}: input x has type {kinds[0].name}; expected one of {names}")
        expected = [kinds[0], kinds[0], *[self._trt.DataType.FLOAT] * 4]
        for name, kind, wanted in zip(INPUTS, kinds, expected, strict=True):
            if kind != wanted:
                raise ArgumentError(f"{NAME}: input {name} has type {kind.name}; expected {wanted.name}")
        return [kinds[0]]

    @_recorded
    def get_output_shapes(self, inputs: Sequence[Any], _shape_inputs: Any, _builder: Any) -> list[Any]:
        for name, rank, dims in zip(INPUTS, _RANKS, inputs, strict=True):
            if len(dims) != rank:
                raise ArgumentError(f"{NAME}: input {name} has rank {len(dims)}; expected {rank}")
        return [self._trt.DimsExprs(inputs[0])]

    def supports_format_combination(self, position: int, tensors: Sequence[Any], _num_inputs: int) -> bool:
        desc = tensors[position].desc
        if desc.format != self._trt.TensorFormat.LINEAR:
            return False
        if position == 0:
            return desc.type in self._scalars
        shares_type = position in (1, len(INPUTS))  # x_dbl and the output y
        return bool(desc.type == (tensors[0].desc.type if shares_type else self._trt.DataType.FLOAT))

    def configure_plugin(self, _inputs: Any, _outputs: Any) -> None:
        """Nothing is chosen at build time: the kernel is chosen from the shapes at run time."""

    @_recorded
    def get_workspace_size(self, inputs: Sequence[Any], _outputs: Any) -> int:
        shape = _scan_shape([tensor.max for tensor in inputs], self._scalars[inputs[0].desc.type])
        return native.library().workspace_size(shape)

    def get_valid_tactics(self) -> list[int]:
        return []

    def set_tactic(self, _tactic: int) -> None:
        """TensorRT announces its default tactic even where none was offered."""

    def on_shape_change(self, _inputs: Any, _outputs: Any) -> None:
        """The shapes arrive with every enqueue."""

    def get_fields_to_serialize(self) -> Any:
        field = self._trt.PluginField(SCHEMA_FIELD, self._schema, self._trt.PluginFieldType.INT32)
        return self._trt.PluginFieldCollection([field])

    @_recorded
    def enqueue(
        self,
        input_descs: Sequence[Any],
        _output_descs: Any,
        inputs: Sequence[int],
        outputs: Sequence[int],
        workspace: int,
        stream: int,
    ) -> None:
        library = native.library()
        shape = _scan_shape([desc.dims for desc in input_descs], self._scalars[input_descs[0].type])
        pointers = ScanPointers(*[*inputs, outputs[0]])
        library.scan_cuda(shape, pointers, workspace, library.workspace_size(shape), stream)


def _read_schema(trt: Any, fields: Sequence[Any], *, required: bool) -> int:
    """The schema that a plugin is made for: the native library's own, which a serialised one must equal.

    Raises:
        ArgumentError: a field is unknown, of the wrong type or length, or missing though ``required``.
        EngineError: the schema is not the native library's.
        NativeLibraryError: there is no native library.
    """
    current = native.library().schema
    found: int | None = None
    for field in fields:
        if field.name != SCHEMA_FIELD:
            raise ArgumentError(f"{NAME} has an unknown field {field.name!r}; expected {SCHEMA_FIELD!r} alone")
        if field.type != trt.PluginFieldType.INT32 or field.size != 1:
            got = f"{field.size} of type {field.type.name}"
            raise ArgumentError(f"{NAME}: field {SCHEMA_FIELD!r} holds {got}; expected one INT32")
        found = int(field.data[0])
    if found is None and required:
        raise ArgumentError(f"{NAME}: the plan lacks the field {SCHEMA_FIELD!r}")
    if found is not None and found != current:
        raise EngineError(
            f"{NAME}: the plan was built with workspace schema {found}, the native library has {current}",
            hint="build the plan again with serpent-export, or install the version that built it",
        )
    return current


def _scan_shape(dims: Sequence[Sequence[int]], dtype: str) -> ScanShape:
    """The sizes of one scan from the dimensions of the six inputs."""
    (batch, height, width, channels), (_, _, dt_rank), (_, _, d_state) = dims[0], dims[2], dims[4]
    return ScanShape(batch, height, width, channels, d_state, dt_rank, dtype)
