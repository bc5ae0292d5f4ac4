"""Building plans with TensorRT-RTX, without a GPU: what comes out, and what bad input gets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serpent.config import SerpentConfig
from serpent.errors import (
    EngineError,
    MissingExtraError,
    ModelFileError,
    NativeLibraryError,
    SerpentError,
    UsageError,
)
from serpent.files import sha256_file
from serpent.identity import NetworkName
from serpent.native import library
from serpent.runtime.native_code import carries_native_code
from serpent.runtime.plugin_library import plugin_library
from serpent.runtime.tensorrt_library import RTX, installed_version
from serpent.shapes import Range, ShapeProfile, parse_profile
from serpent_export import engine
from serpent_export.engine import EngineResult, build_engine
from serpent_export.engine_options import EngineOptions
from serpent_export.targets import DEFAULT_TARGETS

pytest.importorskip("onnx", reason="the sample networks are made with onnx")

from tests.onnx_samples import SCAN_ATTRIBUTES, scan_network

needs_rtx = pytest.mark.skipif(installed_version(RTX) is None, reason=f"needs {RTX.title}: {RTX.install_command}")

CONFIG = SerpentConfig.from_variant("B")
STATIC = parse_profile(CONFIG, "64")


def build(onnx_path: Path, plan_path: Path | None = None, **changes: Any) -> EngineResult:
    options: dict[str, Any] = {
        "flavour": RTX,
        "targets": DEFAULT_TARGETS,
        "profile": STATIC,
        "expected_scans": 14,
    }
    return build_engine(onnx_path, plan_path or onnx_path.with_suffix(".plan"), **(options | changes))


def assert_nothing_left(folder: Path, *kept: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


@needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_equal_files_in_two_folders_give_equal_plans(tmp_path: Path, precision: str) -> None:
    plans = []
    for name in ("one", "a folder of another name"):
        folder = tmp_path / name
        folder.mkdir()
        result = build(scan_network(folder / "network.onnx", precision=precision))
        assert result.plugin_layers == 14
        assert_nothing_left(folder, "network.onnx", "network.plan")
        plans.append((folder / "network.plan").read_bytes())
    assert plans[0] == plans[1]
    assert len(plans[0]) > 100_000
    assert not carries_native_code(tmp_path / "one" / "network.plan")
    assert str(tmp_path).encode() not in plans[0]


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("target", ["sm75", "sm80", "sm86", "sm89", "sm120", "sm121"])
def test_every_target_alone(tmp_path: Path, precision: str, target: str) -> None:
    onnx_path = scan_network(tmp_path / "network.onnx", precision=precision)
    if target == "sm75" and precision != "fp16":
        with pytest.raises(EngineError, match=r"(?s)cannot build.*sm75.*--precision fp16"):
            build(onnx_path, targets=(target,))
        assert_nothing_left(tmp_path, "network.onnx")
        return
    plans = set()
    for _ in range(2):
        assert build(onnx_path, targets=(target,)).plugin_layers == 14
        plans.add((tmp_path / "network.plan").read_bytes())
    assert len(plans) == 1


@needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_range_of_shapes(tmp_path: Path, precision: str) -> None:
    onnx_path = scan_network(tmp_path / "network.onnx", precision=precision, sizes=("b", "h", "w"))
    ranged = parse_profile(CONFIG, "64:128:256", "1:1:4")
    stages: list[str] = []
    result = build(onnx_path, profile=ranged, on_stage=stages.append)
    first = (tmp_path / "network.plan").read_bytes()
    build(onnx_path, profile=ranged)
    assert (tmp_path / "network.plan").read_bytes() == first
    build(onnx_path, profile=parse_profile(CONFIG, "64:128:512", "1:1:4"))
    assert (tmp_path / "network.plan").read_bytes() != first  # the range is in the plan
    assert stages == [
        "loading TensorRT-RTX",
        "parsing the ONNX file",
        "building the plan for sm86, sm89, sm120",
        "writing the plan",
    ]
    assert result.to_manifest() == {
        "flavour": "rtx",
        "version": installed_version(RTX),
        "cuda": "13",
        "network": "serpent",
        "targets": ["sm86", "sm89", "sm120"],
        "layers": result.layers,
        "plugin_layers": 14,
        "plugin": {
            "name": "SelectiveScan2D",
            "version": "1",
            "namespace": "serpent",
            "schema": library().schema,
            "library": library().path.name,
            "library_sha256": sha256_file(library().path),
            "embedded": False,
        },
        "profiles": [ranged.to_dict()],
        "options": {"workspace": None, "optimization_level": None},
    }
    assert result.layers > 14
    assert result.seconds > 0


@needs_rtx
@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (
            {"attributes": SCAN_ATTRIBUTES | {"plugin_version": "2"}},
            r"at node scan_0 and 13 more: .*Plugin not found.*\n.*SelectiveScan2D, version 1, namespace serpent",
        ),
        ({"operator": "SelectiveScan"}, "at node scan_0 and 13 more: .*Plugin not found"),
        ({"scan_precision": "fp16"}, "at node scan_0: SelectiveScan2D: input dt_weight has type HALF; expected FLOAT"),
        ({"inputs": 5}, "at node scan_0: SelectiveScan2D has 5 inputs; expected 6"),
        ({"scans": 13}, "has 13 scans that became plugin layers; expected 14"),
        ({"state": 300}, r"cannot build .*\b300\b"),
        ({"sizes": (1, 32, 64)}, r"image has shape \[1, 3, 32, 64\]; expected .* \[1, 3, 64, 64\]"),
    ],
    ids=["version", "operator", "types", "inputs", "count", "state size", "shape"],
)
def test_a_foreign_network_is_refused(tmp_path: Path, sample: dict[str, Any], message: str) -> None:
    onnx_path = scan_network(tmp_path / "network.onnx", **sample)
    with pytest.raises(EngineError, match=message):
        build(onnx_path)
    assert_nothing_left(tmp_path, "network.onnx")


@needs_rtx
@pytest.mark.parametrize("target", ["sm90", "none", "current"])
def test_a_target_that_tensorrt_rtx_has_not_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(EngineError, match=rf"TensorRT-RTX 1\..* does not build for {target}"):
        build(scan_network(tmp_path / "network.onnx"), targets=("sm86", target))
    assert_nothing_left(tmp_path, "network.onnx")


@needs_rtx
@pytest.mark.parametrize("content", [b"", b"no ONNX file at all" * 100], ids=["empty", "garbage"])
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, content: bytes) -> None:
    onnx_path = tmp_path / "network.onnx"
    onnx_path.write_bytes(content)
    with pytest.raises(EngineError, match=r"network\.onnx (cannot be parsed|has 0 scans)"):
        build(onnx_path)
    assert_nothing_left(tmp_path, "network.onnx")


@needs_rtx
def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    onnx_path = scan_network(tmp_path / "network.onnx")
    onnx_path.write_bytes(onnx_path.read_bytes()[:-1000])
    with pytest.raises(EngineError, match=r"network\.onnx cannot be parsed: .*Failed to parse the ONNX model"):
        build(onnx_path)


def test_without_tensorrt_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingExtraError, match=r"TensorRT-RTX is not installed\n.*restoration\[rtx\]"):
        build(scan_network(tmp_path / "network.onnx"))
    assert_nothing_left(tmp_path, "network.onnx")


@needs_rtx
def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"absent\.onnx does not exist"):
        build(tmp_path / "absent.onnx")


@needs_rtx
def test_a_profile_without_an_upper_end_is_refused(tmp_path: Path) -> None:
    side = Range(64, 64, None)
    onnx_path = scan_network(tmp_path / "network.onnx", sizes=("b", "h", "w"))
    with pytest.raises(EngineError, match="has no largest size"):
        build(onnx_path, profile=ShapeProfile(Range(1, 1, 1), side, side, 32))


@needs_rtx
def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    # Not even root can create files in /proc; a folder without write permission would not stop root.
    with pytest.raises(SerpentError, match="cannot write into /proc"):
        build(scan_network(tmp_path / "network.onnx"), Path("/proc/network.plan"))


@needs_rtx
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGABRT)", "was ended by signal SIGABRT"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "was ended by signal SIGKILL (the machine may have run out of memory)",
        ),
        ("import sys; sys.exit('out of luck')", "failed with exit code 1: out of luck"),
        ("pass", "failed with exit code 0"),
    ],
    ids=["abort", "kill", "exit", "silence"],
)
def test_the_death_of_the_build_process_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    monkeypatch.setattr(engine, "_child_command", lambda: [sys.executable, "-c", code])
    onnx_path = scan_network(tmp_path / "network.onnx")
    with pytest.raises(EngineError) as caught:
        build(onnx_path)
    assert caught.value.message == f"the process that builds the plan {message}"
    assert_nothing_left(tmp_path, "network.onnx")


@needs_rtx
def test_an_error_of_the_caller_ends_the_build_process(tmp_path: Path) -> None:
    def stop(_stage: str) -> None:
        raise KeyboardInterrupt

    onnx_path = scan_network(tmp_path / "network.onnx")
    with pytest.raises(KeyboardInterrupt):
        build(onnx_path, on_stage=stop)
    assert_nothing_left(tmp_path, "network.onnx")


def test_the_build_process_imports_neither_torch_nor_onnx() -> None:
    code = (
        "import sys, serpent_export.engine_child, serpent_export.engine, serpent_export.targets;"
        "print({name.partition('.')[0] for name in sys.modules} & {'torch', 'onnx', 'onnxruntime', 'tensorrt_rtx'})"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.stdout.strip() == "set()", run.stderr


@needs_rtx
def test_the_current_folder_cannot_shadow_the_build_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx_path = scan_network(tmp_path / "network.onnx")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert build(Path("../network.onnx"), Path("network.plan")).plugin_layers == 14
    assert (elsewhere / "network.plan").is_file()
    assert onnx_path.is_file()


@needs_rtx
def test_the_plan_keeps_its_networks_name(tmp_path: Path) -> None:
    name = NetworkName("B", "fp32", library().schema, "0123456789abcdef")
    result = build(scan_network(tmp_path / "network.onnx"), name=str(name))
    assert result.network == str(name)
    assert NetworkName.find((tmp_path / "network.plan").read_bytes()) == name


@needs_rtx
def test_tensorrt_rtx_takes_no_timing_cache(tmp_path: Path) -> None:
    onnx_path = scan_network(tmp_path / "network.onnx")
    with pytest.raises(UsageError, match="TensorRT-RTX measures nothing while it builds"):
        build(onnx_path, options=EngineOptions(timing_cache=tmp_path / "timings"))
    build(onnx_path, options=EngineOptions(workspace=2**30, optimization_level=0))
    assert_nothing_left(tmp_path, "network.onnx", "network.plan")


@needs_rtx
def test_an_embedded_plugin_lies_in_the_plan(tmp_path: Path) -> None:
    try:
        embedded = plugin_library()
    except NativeLibraryError as error:
        pytest.skip(f"the C++ plugin library is not built here: {error.message}")
    onnx_path = scan_network(tmp_path / "network.onnx")
    plain = build(onnx_path, tmp_path / "plain.plan")
    result = build(onnx_path, tmp_path / "carrying.plan", options=EngineOptions(embed_plugin=True))
    assert not plain.plugin.embedded
    assert result.plugin.embedded
    assert result.plugin.library_sha256 == sha256_file(embedded)
    assert result.plugin_layers == 14
    assert embedded.read_bytes() in (tmp_path / "carrying.plan").read_bytes()
    assert embedded.read_bytes()[:4096] not in (tmp_path / "plain.plan").read_bytes()
    assert carries_native_code(tmp_path / "carrying.plan")
    assert not carries_native_code(tmp_path / "plain.plan")
