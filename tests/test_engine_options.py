"""Options of the engine builder, over stand-ins with the signatures of TensorRT 10.x and 11.x."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serpent import native
from serpent.config import SerpentConfig
from serpent.errors import EngineError, UsageError
from serpent.native import ScanShape
from serpent.runtime.onnx_split import is_scan
from serpent.runtime.tensorrt_library import RTX, TRT
from serpent.shapes import parse_profile
from serpent_export import api, engine_child
from serpent_export.engine_options import EngineOptions, parse_bytes
from serpent_export.targets import EngineChoice
from tests.tensorrt_stubs import PLAN, DataType, MemoryPoolType, make_trt
from traced import graph

NAME = "serpent-b-fp32-schema1-0123456789abcdef"
VERSIONS = ["10.7.0", "10.16.1", "11.1.0"]


def spec(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    (tmp_path / "network.onnx").write_bytes(b"the stub parses anything")
    sides = {"batch": [1, 1, 1], "height": [64, 64, 64], "width": [64, 64, 64], "multiple": 32}
    return {
        "onnx": str(tmp_path / "network.onnx"),
        "plan": str(tmp_path / "network.plan"),
        "flavour": "trt",
        "targets": ["sm90"],
        "profile": sides,
        "expected_scans": 14,
        "name": NAME,
        "io": "f32-nchw",
        "workspace": None,
        "optimization_level": None,
        "timing_cache": None,
        "embed_plugin": None,
        **changes,
    }


def build(monkeypatch: pytest.MonkeyPatch, trt: Any, request: dict[str, Any]) -> dict[str, Any]:
    monkeypatch.setattr(engine_child, "load", lambda _flavour: trt)
    monkeypatch.setattr(engine_child, "check_installed", lambda _flavour: trt.__version__)
    monkeypatch.setattr(engine_child, "own_target", lambda asked: asked or ("sm90",))
    return engine_child.build(request, lambda _stage: None)


def asked(trt: Any, name: str) -> list[tuple[Any, ...]]:
    return [call[1:] for call in trt.calls if call[0] == name]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_builds_a_named_strongly_typed_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    trt = make_trt(version)
    result = build(monkeypatch, trt, spec(tmp_path))
    assert (tmp_path / "network.plan").read_bytes() == PLAN
    # The same flag has another number in each major version: 1 << 1 in 10.x, 1 << 0 in 11.x.
    assert asked(trt, "create_network") == [(2 if version.startswith("10.") else 1,)]
    assert asked(trt, "build") == [(NAME, None, None)]
    assert asked(trt, "clear_flag") == [(trt.BuilderFlag.TF32,)]
    assert (result["version"], result["plugin_layers"], result["plugin"]["embedded"]) == (version, 14, False)
    assert asked(trt, "set_memory_pool_limit") == asked(trt, "set_timing_cache") == []


def test_the_plan_is_said_to_be_for_the_gpu_that_built_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build(monkeypatch, make_trt("11.1.0"), spec(tmp_path, targets=[]))["targets"] == ["sm90"]


@pytest.mark.parametrize("version", VERSIONS)
def test_options_reach_the_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    trt = make_trt(version)
    cache = tmp_path / "timings"
    changes = {"workspace": 2**30, "optimization_level": 5, "timing_cache": str(cache)}
    build(monkeypatch, trt, spec(tmp_path, **changes))
    assert asked(trt, "set_memory_pool_limit") == [(MemoryPoolType.WORKSPACE, 2**30)]
    assert asked(trt, "build") == [(NAME, 5, None)]
    assert asked(trt, "set_timing_cache") == [(b"", False)]
    assert cache.read_bytes() == b"+measured"
    build(monkeypatch, trt, spec(tmp_path, **changes))
    assert cache.read_bytes() == b"+measured+measured"  # read, then written with what this build added


@pytest.mark.parametrize("content", [b"damaged", b"of another GPU"])
def test_an_unusable_timing_cache_is_refused_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    cache = tmp_path / "timings"
    cache.write_bytes(content)
    with pytest.raises(EngineError, match="timing cache .* is damaged, or of another GPU"):
        build(monkeypatch, make_trt("10.16.1"), spec(tmp_path, timing_cache=str(cache)))
    assert cache.read_bytes() == content
    assert not (tmp_path / "network.plan").exists()


def test_an_embedded_plugin_is_loaded_and_goes_into_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = make_trt("11.1.0")
    library = tmp_path / "libserpent_trt.so"
    library.write_bytes(b"code")
    result = build(monkeypatch, trt, spec(tmp_path, embed_plugin=str(library)))
    assert asked(trt, "load_library") == [(str(library),)]
    assert asked(trt, "build") == [(NAME, None, [str(library)])]
    assert trt.get_plugin_registry().all_creators == []  # the Python glue would be a second plugin of the same name
    assert result["plugin"]["embedded"] is True
    assert result["plugin"]["library"] == "libserpent_trt.so"
    assert result["plugin"]["library_sha256"] == "5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b"


def test_a_plugin_library_that_tensorrt_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "broken.so"
    library.write_bytes(b"code")
    with pytest.raises(EngineError, match=r"tensorrt 11\.1\.0 cannot load the plugin library .*broken\.so"):
        build(monkeypatch, make_trt("11.1.0"), spec(tmp_path, embed_plugin=str(library)))


def test_the_border_must_be_the_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = make_trt("11.1.0")
    with pytest.raises(EngineError, match=r"tensor image has type DataType\.FLOAT; expected UINT8 \(u8-nhwc\)"):
        build(monkeypatch, trt, spec(tmp_path, io="u8-nhwc"))
    for tensor in trt.tensors.values():
        tensor.dtype, tensor.shape = DataType.UINT8, (1, 64, 64, 3)
    build(monkeypatch, trt, spec(tmp_path, io="u8-nhwc"))


def test_a_range_of_shapes_becomes_a_profile_in_the_borders_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = {"batch": [1, 2, 4], "height": [32, 64, 96], "width": [64, 96, 128], "multiple": 32}
    trt = make_trt("10.16.1", static=False)
    build(monkeypatch, trt, spec(tmp_path, profile=profile))
    assert asked(trt, "set_shape") == [("image", [1, 3, 32, 64], [2, 3, 64, 96], [4, 3, 96, 128])]


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("4G", 2**32), ("512M", 2**29), ("3k", 3072), ("2GiB", 2**31), ("2GB", 2**31), ("7B", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "0G", "-1", "1.5G", "G", "4T", "4 G", "1iB", "much", "8589934592G"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="is no size\n  use bytes with K, M or G"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("variant", "resolution", "batch"), [("B", "64", "1"), ("B", "64x256", "1"), ("H", "64", "1:1:2")]
)
def test_the_least_workspace_is_that_of_the_graphs_largest_scan(variant: str, resolution: str, batch: str) -> None:
    config = SerpentConfig.from_variant(variant)
    sizes = parse_profile(config, resolution, batch)
    EngineOptions().check_workspace(config, sizes)
    # The graph of the largest batch, which a graph of free batches does not name.
    model = graph(variant, resolution, "fp32", batch.rpartition(":")[2])
    shapes = {info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim] for info in model.graph.value_info}
    weights = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    scans = [node.input for node in model.graph.node if is_scan(node)]
    needed = max(
        native.library().workspace_size(
            ScanShape(*shapes[names[0]], d_state=weights[names[4]][2], dt_rank=weights[names[2]][2], dtype="f16")
        )
        for names in scans
    )
    EngineOptions(workspace=needed).check_workspace(config, sizes)
    with pytest.raises(UsageError, match=rf"--workspace {needed - 1} is too little: at .* a scan needs {needed} bytes"):
        EngineOptions(workspace=needed - 1).check_workspace(config, sizes)


def test_what_a_flavour_does_not_have(tmp_path: Path) -> None:
    cached = EngineOptions(timing_cache=tmp_path / "timings")
    cached.check(TRT)
    with pytest.raises(UsageError, match="TensorRT-RTX measures nothing while it builds.*\n.*--engine trt"):
        cached.check(RTX)
    with pytest.raises(UsageError, match="no does not exist\n  mkdir -p"):
        EngineOptions(timing_cache=tmp_path / "no" / "timings").check(TRT)
    with pytest.raises(UsageError, match="is a folder; expected a file name"):
        EngineOptions(timing_cache=tmp_path).check(TRT)
    with pytest.raises(UsageError, match="--optimization-level 6 is not"):
        EngineOptions(optimization_level=6).check(RTX)
    assert EngineOptions().asked is None
    assert EngineOptions(optimization_level=0).asked == "--optimization-level"


def test_a_plugin_without_kernels_is_not_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "choose_engine", lambda *_: EngineChoice(RTX))
    monkeypatch.setattr(EngineOptions, "check", lambda *_: None)
    monkeypatch.setattr(api.native, "library", lambda: SimpleNamespace(has_cuda=False, path="libserpent.so"))
    with pytest.raises(EngineError, match="without CUDA kernels"):
        api.export(variant="B", resolution="64", options=EngineOptions(embed_plugin=True))


def test_triton_gets_the_plugin_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both bring the plugin"):
        api.export(variant="B", resolution="64", options=EngineOptions(embed_plugin=True), triton=tmp_path / "models")
