"""The callbacks of the plugin, called as TensorRT calls them; whole builds are in test_engine.py."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serpent import native
from serpent.errors import ArgumentError, EngineError, NativeLibraryError
from serpent.identity import NAME
from serpent.native import ScanShape
from serpent.runtime import tensorrt_plugin as plugin
from serpent.runtime.tensorrt_library import RTX, installed_version, load, make_logger

pytestmark = pytest.mark.skipif(installed_version(RTX) is None, reason=f"needs {RTX.title}: {RTX.install_command}")

DIMS = [(2, 5, 9, 16), (2, 5, 9, 20), (4, 16, 1), (4, 16), (4, 16, 2), (4, 16)]
SHAPE = ScanShape(batch=2, height=5, width=9, channels=16, d_state=2, dt_rank=1, dtype="f32")


@pytest.fixture
def trt() -> Any:
    return load(RTX)


@pytest.fixture
def creator(trt: Any) -> Any:
    creator = plugin.make_creator(trt)
    creator.errors.clear()
    return creator


@pytest.fixture
def scan(trt: Any, creator: Any) -> Any:
    return creator.create_plugin("scan", trt.PluginFieldCollection([]), trt.TensorRTPhase.BUILD)


def schema_field(trt: Any, value: int | list[int], name: str = "schema", kind: str = "INT32") -> Any:
    dtype = {"INT32": np.int32, "INT64": np.int64, "FLOAT32": np.float32}[kind]
    return trt.PluginField(name, np.atleast_1d(np.array(value, dtype=dtype)), getattr(trt.PluginFieldType, kind))


def descriptions(trt: Any, kinds: list[str], dims: list[tuple[int, ...]] = DIMS) -> list[Any]:
    found = []
    for kind, sizes in zip(kinds, dims, strict=True):
        description = trt.PluginTensorDesc()
        description.dims, description.type = sizes, getattr(trt.DataType, kind)
        description.format = trt.TensorFormat.LINEAR
        found.append(description)
    return found


def test_registering_twice_registers_once(trt: Any, creator: Any) -> None:
    assert plugin.register(trt) is creator
    assert plugin.register(trt) is creator
    found = [known for known in trt.get_plugin_registry().all_creators if known.name == NAME]
    assert found == [creator]
    assert (creator.name, creator.plugin_version, creator.plugin_namespace) == ("SelectiveScan2D", "1", "serpent")


def test_threads_that_open_plans_at_once_share_one_logger_and_one_plugin() -> None:
    # A TensorRT that lets other threads run in every call.
    class Slow:
        def __init__(self, *_: object) -> None:
            time.sleep(0.01)

    registered: list[Any] = []

    def register_creator(creator: Any, _namespace: str) -> bool:
        Slow()
        registered.append(creator)
        return True

    trt: Any = ModuleType("slow")
    for name in ("ILogger", "IPluginV3", "IPluginV3OneCore", "IPluginV3OneBuild", "IPluginV3OneRuntime"):
        setattr(trt, name, type(name, (Slow,), {}))
    trt.IPluginCreatorV3One = type("IPluginCreatorV3One", (Slow,), {})
    trt.PluginFieldCollection = Slow
    trt.get_plugin_registry = lambda: SimpleNamespace(all_creators=registered[:], register_creator=register_creator)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: (make_logger(trt), plugin.register(trt)), range(8)))
    assert set(made) == {(make_logger(trt), registered[0])}
    assert len(registered) == 1


def test_a_plugin_of_the_same_identity_from_elsewhere_is_refused(trt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(name="SelectiveScan2D", plugin_version="1", plugin_namespace="serpent")
    monkeypatch.setattr(trt, "get_plugin_registry", lambda: SimpleNamespace(all_creators=[other]))
    with pytest.raises(EngineError, match="another library has registered the plugin serpent::SelectiveScan2D"):
        plugin.register(trt)


def test_the_schema_survives_serialisation(trt: Any, creator: Any, scan: Any) -> None:
    fields = scan.clone().get_fields_to_serialize()
    assert [(field.name, field.type, field.size) for field in fields] == [("schema", trt.PluginFieldType.INT32, 1)]
    assert fields[0].data[0] == native.library().schema
    assert creator.create_plugin("scan", fields, trt.TensorRTPhase.RUNTIME) is not None
    assert creator.errors == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "the plan lacks the field 'schema'"),
        ([{"value": 99}], "the plan was built with workspace schema 99, the native library has 1"),
        ([{"value": 1, "kind": "INT64"}], "field 'schema' holds 1 of type INT64; expected one INT32"),
        ([{"value": 1, "kind": "FLOAT32"}], "field 'schema' holds 1 of type FLOAT32; expected one INT32"),
        ([{"value": [1, 1]}], "field 'schema' holds 2 of type INT32; expected one INT32"),
        ([{"value": 1}, {"value": 1, "name": "other"}], "unknown field 'other'; expected 'schema' alone"),
    ],
    ids=["none", "another revision", "int64", "float", "two values", "unknown"],
)
def test_a_plan_with_other_fields_is_refused(
    trt: Any, creator: Any, fields: list[dict[str, Any]], message: str
) -> None:
    collection = trt.PluginFieldCollection([schema_field(trt, **field) for field in fields])
    assert creator.create_plugin("scan", collection, trt.TensorRTPhase.RUNTIME) is None
    (said,) = creator.errors
    assert message in said


def test_without_a_native_library_there_is_no_plugin(trt: Any, creator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> native.Library:
        raise NativeLibraryError("the native library was not found")

    monkeypatch.setattr(native, "library", missing)
    assert creator.create_plugin("scan", trt.PluginFieldCollection([]), trt.TensorRTPhase.BUILD) is None
    assert creator.errors == ["the native library was not found"]


@pytest.mark.parametrize("kind", ["FLOAT", "HALF", "BF16"])
def test_the_output_has_the_type_of_x(trt: Any, creator: Any, scan: Any, kind: str) -> None:
    kinds = [getattr(trt.DataType, name) for name in [kind, kind, *["FLOAT"] * 4]]
    assert scan.get_output_data_types(kinds) == [getattr(trt.DataType, kind)]
    assert creator.errors == []


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["FLOAT"] * 5, "has 5 inputs; expected 6: x, x_dbl, dt_weight, dt_bias, A, D_skip"),
        (["INT32", "INT32", *["FLOAT"] * 4], "input x has type INT32; expected one of FLOAT, HALF, BF16"),
        (["HALF", "FLOAT", *["FLOAT"] * 4], "input x_dbl has type FLOAT; expected HALF"),
        (["BF16", "BF16", "FLOAT", "FLOAT", "BF16", "FLOAT"], "input A has type BF16; expected FLOAT"),
    ],
)
def test_wrong_types_are_named(trt: Any, creator: Any, scan: Any, kinds: list[str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        scan.get_output_data_types([getattr(trt.DataType, kind) for kind in kinds])
    assert message in creator.errors[0]


@pytest.mark.parametrize(
    ("position", "kind", "layout", "accepted"),
    [
        (0, "HALF", "LINEAR", True),
        (0, "HALF", "HWC8", False),
        (0, "INT32", "LINEAR", False),
        (1, "HALF", "LINEAR", True),
        (1, "FLOAT", "LINEAR", False),
        (2, "FLOAT", "LINEAR", True),
        (4, "HALF", "LINEAR", False),
        (6, "HALF", "LINEAR", True),
        (6, "FLOAT", "LINEAR", False),
    ],
)
def test_formats_beside_a_half_precision_x(
    trt: Any, scan: Any, position: int, kind: str, layout: str, accepted: bool
) -> None:
    tensors = descriptions(trt, ["HALF", "HALF", *["FLOAT"] * 4, "HALF"], [*DIMS, DIMS[0]])
    tensors[position].type = getattr(trt.DataType, kind)
    tensors[position].format = getattr(trt.TensorFormat, layout)
    wrapped = [SimpleNamespace(desc=description) for description in tensors]
    assert scan.supports_format_combination(position, wrapped, 6) is accepted


def test_the_workspace_is_that_of_the_largest_shape(trt: Any, scan: Any) -> None:
    tensors = [
        SimpleNamespace(desc=description, max=sizes)
        for description, sizes in zip(
            descriptions(trt, ["FLOAT"] * 6, [(-1,) * len(d) for d in DIMS]), DIMS, strict=True
        )
    ]
    assert scan.get_workspace_size(tensors, []) == native.library().workspace_size(SHAPE)


def test_enqueue_hands_everything_to_the_native_library(trt: Any, scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    recorder = SimpleNamespace(workspace_size=lambda _: 4096, scan_cuda=lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(native, "library", lambda: recorder)
    scan.enqueue(descriptions(trt, ["FLOAT"] * 6), [], [1, 2, 3, 4, 5, 6], [7], 8, 9)
    assert calls == [(SHAPE, native.ScanPointers(1, 2, 3, 4, 5, 6, 7), 8, 4096, 9)]


def test_enqueue_without_cuda_kernels_says_so(trt: Any, creator: Any, scan: Any) -> None:
    if native.library().has_cuda:
        pytest.skip("this native library has the CUDA kernels")
    with pytest.raises(NativeLibraryError, match="CUDA"):
        scan.enqueue(descriptions(trt, ["FLOAT"] * 6), [], [16, 32, 48, 64, 80, 96], [112], 256, 9)
    (said,) = creator.errors
    assert "CUDA" in said


def test_the_parser_has_no_operator_of_this_name(trt: Any) -> None:
    # It looks up its own operators first and ignores the domain: an equal name would shadow the plugin.
    logger = make_logger(trt)
    parser = trt.OnnxParser(trt.Builder(logger).create_network(0), logger)
    assert parser.supports_operator("Conv")
    assert not parser.supports_operator(NAME)
