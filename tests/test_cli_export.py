"""``serpent-export``: what reaches the exporter, and what is shown of its result."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import serpent_export
from serpent_cli.main import run_export
from serpent_export.engine_options import EngineOptions


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for the exporter; the list collects the arguments of its calls."""
    calls: list[dict[str, Any]] = []
    onnx = SimpleNamespace(
        path=Path("out/serpent-h-512-fp32.onnx"),
        kind="onnx",
        precision="fp32",
        bytes=19_437_000,
        sha256="ab" * 32,
        targets=(),
        seconds=61.0,
    )
    plan = SimpleNamespace(
        path=Path("out/serpent-h-512-fp32.plan"),
        kind="plan",
        precision="fp32",
        bytes=24_600_000,
        sha256="cd" * 32,
        targets=("sm86", "sm89"),
        seconds=2.0,
    )
    parity = SimpleNamespace(
        max_error=1.5e-6, eager_max_error=1.4e-6, limit=4e-6, psnr_db=121.25, cases=[], statement="within its limit"
    )

    def export(**arguments: Any) -> SimpleNamespace:
        arguments.pop("on_stage")("checking")
        calls.append(arguments)
        return SimpleNamespace(
            files=[onnx, plan],
            manifest_path=Path("out/serpent-h-512-fp32.json"),
            parity=parity,
            notes=["weights: untrained"],
            weights="untrained",
            seconds=63.5,
            kept_in_f32=("linear_67",),
        )

    module = ModuleType("serpent_export")
    module.export = export
    module.__path__ = serpent_export.__path__  # its submodules stay what they are
    monkeypatch.setitem(sys.modules, "serpent_export", module)
    for name in ("torch", "onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    return calls


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["serpent-export", *arguments])
    with pytest.raises(SystemExit) as leaving:
        run_export()
    return int(leaving.value.code or 0)


def test_defaults(exported: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--variant", "h") == 0
    assert exported == [
        {
            "variant": "H",
            "weights": None,
            "untrained": False,
            "task": None,
            "resolution": "512",
            "batch": "1",
            "precision": "fp32",
            "io": "f32-nchw",
            "inline_scan": False,
            "certify_full_size": False,
            "formats": "all",
            "out": Path(),
            "engine": "auto",
            "targets": None,
            "options": EngineOptions(),
            "ort_trt": False,
            "triton": None,
            "require_weights": False,
            "overwrite": False,
        }
    ]


def test_the_table_has_one_unwrapped_row_per_file_then_the_notes(
    exported: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--variant", "H", "--targets", "sm86,sm89") == 0
    header, onnx, plan, note, manifest = capsys.readouterr().out.splitlines()
    assert header.split() == ["file", "size", "precision", "parity", "targets", "time"]
    assert onnx.split("  ")[0] == "serpent-h-512-fp32.onnx"
    assert "19.4 MB" in onnx
    assert "max|d| 1.50e-06, PSNR 121.2 dB, limit 4.00e-06" in onnx
    assert plan.split() == ["serpent-h-512-fp32.plan", "24.6", "MB", "fp32", "-", "sm86,sm89", "2.0", "s"]
    assert note == "weights: untrained"
    assert manifest.startswith("out/serpent-h-512-fp32.json: manifest")
    assert exported[0]["targets"] == "sm86,sm89"


def test_a_checkpoint_has_a_variant_of_its_own(exported: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--variant", "custom", "--weights", "mine.safetensors") == 0
    assert exported[0]["variant"] == "CUSTOM"
    assert run(monkeypatch, "--variant", "custom") == 2


@pytest.mark.parametrize("variant", [False, True])
@pytest.mark.usefixtures("exported")
def test_a_plan_alone_shows_the_parity_of_its_graph(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variant: bool
) -> None:
    module = sys.modules["serpent_export"]
    whole = module.export

    def plan_alone(**arguments: Any) -> SimpleNamespace:
        result: SimpleNamespace = whole(**arguments)
        onnx = result.files.pop(0)
        if variant:
            result.files.append(SimpleNamespace(**vars(onnx) | {"kind": "ort-trt.onnx"}))
        return result

    monkeypatch.setattr(module, "export", plan_alone)
    assert run(monkeypatch, "--variant", "H", "--format", "plan") == 0
    plan, *_, parity, _, _ = capsys.readouterr().out.splitlines()[1:]
    assert plan.startswith("serpent-h-512-fp32.plan")
    assert parity == (
        "parity of the ONNX graph that the plan was built from: max|d| 1.50e-06, PSNR 121.2 dB, limit 4.00e-06"
    )


@pytest.mark.usefixtures("exported")
def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--variant", "H", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [entry["kind"] for entry in report["files"]] == ["onnx", "plan"]
    assert report["parity"]["limit"] == 4e-6
    assert report["notes"] == ["weights: untrained"]
    assert report["kept_in_f32"] == ["linear_67"]


def test_options_of_the_builder_and_the_border(exported: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = ("--variant", "B", "--profile", "32x32:64x96:128x256", "--io", "u8-nhwc")
    builder = ("--workspace", "4G", "--optimization-level", "5", "--timing-cache", "t.bin", "--embed-plugin")
    assert run(monkeypatch, *sizes, *builder) == 0
    [call] = exported
    assert (call["resolution"], call["io"], call["inline_scan"]) == ("32x32:64x96:128x256", "u8-nhwc", False)
    assert call["options"] == EngineOptions(2**32, 5, Path("t.bin"), embed_plugin=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--variant", "X"), "unknown variant 'X'; known variants are B, L, H"),
        ((), "Missing option '--variant'"),
        (("--variant", "H", "--res", "100"), "nearest: 96 or 104"),
        (("--variant", "B", "--res", "100"), "nearest: 96 or 128"),
        (("--variant", "B", "--res", "0"), "not positive"),
        (("--variant", "B", "--res", "-32"), "not positive"),
        (("--variant", "B", "--res", "big"), "the size 'big' is not understood"),
        (("--variant", "B", "--batch", "8:1:1"), "not ordered"),
        (("--variant", "B", "--precision", "fp8"), "'fp8' is not one of"),
        (("--variant", "B", "--io", "u16-nhwc"), "'u16-nhwc' is not one of"),
        (("--variant", "B", "--workspace", "much"), "--workspace 'much' is no size"),
        (("--variant", "B", "--optimization-level", "6"), "6 is not in the range 0<=x<=5"),
        (("--variant", "B", "--profile", "64x64:32x96:128x128"), "not ordered"),
        (("--variant", "B", "--profile", "64x64:96"), "is not understood"),
        (("--variant", "B", "--profile", "64:96:128", "--res", "64"), "--res 64 and --profile 64:96:128 both say"),
        (("--variant", "B", "--nonsense"), "serpent-export --help"),
    ],
)
def test_wrong_usage_is_answered_before_the_exporter_runs(
    exported: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    assert run(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.out == ""
    assert exported == []


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run(monkeypatch, "--variant", "B") == 1
    assert capsys.readouterr().err == (
        "error: serpent-export needs torch, which is not installed\n  pip install 'serpent-restoration[torch]'\n"
    )
