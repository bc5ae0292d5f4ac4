"""``serpent-inspect``: what it says of each kind of file, and what it notices."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file

from exported import Exported
from serpent.errors import CheckpointError, ModelFileError, UsageError
from serpent.files import sha256_file
from serpent.identity import NetworkName
from serpent.runtime import inspect_file
from serpent.runtime.native_code import carries_native_code
from serpent.runtime.tensorrt_library import RTX, installed_version
from serpent.runtime.verification import verify_file
from serpent_cli.main import run_inspect
from serpent_export.ort_trt import for_ort_trt

needs_rtx = pytest.mark.skipif(installed_version(RTX) is None, reason=f"needs {RTX.title}: {RTX.install_command}")


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Exported:
    """The exported files and the checkpoint, free to be damaged."""
    shutil.copytree(exported.folder, tmp_path / "files")
    checkpoint = Path(shutil.copy(exported.checkpoint, tmp_path))
    onnx_path, plan, manifest = (tmp_path / "files" / path.name for path in exported[2:5])
    return exported._replace(
        folder=tmp_path / "files", checkpoint=checkpoint, onnx=onnx_path, plan=plan, manifest=manifest
    )


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["serpent-inspect", *map(str, arguments)])
    with pytest.raises(SystemExit) as leaving:
        run_inspect()
    return int(leaving.value.code or 0)


def change(manifest: Path, key: str, value: Any) -> None:
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(fields | {key: value}))


def test_an_onnx_file(exported: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(monkeypatch, exported.onnx, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    manifest = json.loads(exported.manifest.read_text())
    assert report["sha256"] == sha256_file(exported.onnx)
    for key in ("graph_sha256", "weights_sha256", "variant", "precision", "profile", "config", "task", "name", "io"):
        assert report[key] == manifest[key], key
    assert (report["scans"], report["differences"]) == (14, [])
    assert command(monkeypatch, exported.onnx) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"agrees with {exported.manifest}"


@needs_rtx
def test_a_plan_with_its_manifest(exported: Exported) -> None:
    found = inspect_file(exported.plan)
    manifest = json.loads(exported.manifest.read_text())
    assert found.differences == ()
    assert found.facts["engine"] == manifest["files"][exported.plan.name]["engine"]
    assert found.facts["engine"]["network"] == found.facts["name"] == manifest["name"]
    assert found.facts["engine"]["plugin"]["library_sha256"]
    assert "TensorRT-RTX" in found.facts["header"]


@needs_rtx
def test_an_exported_plan_carries_no_native_code(exported: Exported) -> None:
    assert not carries_native_code(exported.plan)


@needs_rtx
@pytest.mark.parametrize("embedded", [False, True])
def test_native_code_that_the_manifest_does_not_name(copied: Exported, embedded: bool) -> None:
    header = b"\x7fELF\x02" + bytes(11) + b"\x03\x00\x3e\x00"  # a shared library for x86-64
    copied.plan.write_bytes(copied.plan.read_bytes() + header)
    fields = json.loads(copied.manifest.read_text())
    entry = fields["files"][copied.plan.name]
    entry["sha256"], entry["engine"]["plugin"]["embedded"] = sha256_file(copied.plan), embedded
    copied.manifest.write_text(json.dumps(fields))
    named = () if embedded else ("the plan carries native code; the manifest names no embedded plugin",)
    assert inspect_file(copied.plan).differences == named


@needs_rtx
def test_a_plan_of_a_custom_network(copied: Exported) -> None:
    fields = json.loads(copied.manifest.read_text())
    engine = fields["files"][copied.plan.name]["engine"]
    custom = engine["network"].replace("serpent-b-", "serpent-u-")  # of equal length: the plan stays a plan
    copied.plan.write_bytes(copied.plan.read_bytes().replace(engine["network"].encode(), custom.encode()))
    engine["network"], fields["variant"] = custom, "u"
    fields["files"][copied.plan.name]["sha256"] = sha256_file(copied.plan)
    copied.manifest.write_text(json.dumps(fields))
    assert inspect_file(copied.plan).differences == ()


@needs_rtx
def test_a_bare_plan_is_recognised(
    copied: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads(copied.manifest.read_text())
    copied.manifest.unlink()
    facts = inspect_file(copied.plan).facts
    assert (facts["variant"], facts["precision"]) == ("B", "fp32")
    assert facts["weights_sha256"] == f"{manifest['weights_sha256'][:16]}..."
    assert command(monkeypatch, copied.plan) == 0
    assert "no manifest lies beside it; nothing vouches for its bytes\n" in capsys.readouterr().out


@needs_rtx
def test_a_plan_of_another_network_under_this_manifest(copied: Exported) -> None:
    content = copied.plan.read_bytes()
    own = str(NetworkName.find(content)).encode()
    other = own.replace(b"-b-fp32-", b"-b-bf16-")
    copied.plan.write_bytes(content.replace(own, other))
    differences = "\n".join(inspect_file(copied.plan).differences)
    assert "sha256 is" in differences
    assert "precision is bf16; the manifest says fp32" in differences
    assert f"name is {other.decode()}; the manifest says {own.decode()}" in differences


@needs_rtx
def test_a_plan_whose_header_is_damaged(copied: Exported) -> None:
    content = bytearray(copied.plan.read_bytes())
    content[:4] = b"XXXX"
    copied.plan.write_bytes(content)
    assert any("the header is malformed, says TensorRT-RTX" in text for text in inspect_file(copied.plan).differences)


def test_a_changed_file_is_a_difference(
    copied: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(copied.onnx.read_bytes())
    content[len(content) // 2] ^= 1
    copied.onnx.write_bytes(content)
    assert command(monkeypatch, copied.onnx) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("differs: ")]
    assert any(line.startswith("differs: sha256 is") for line in lines)
    assert any("the file's metadata says" in line for line in lines)
    copied.manifest.unlink()  # its own digest still tells
    assert command(monkeypatch, copied.onnx) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("precision", "fp16"),
        ("weights_sha256", "0" * 64),
        ("graph_sha256", "0" * 64),
        ("task", "deblur"),
        ("io", "u8-nhwc"),
        ("files", {"other.onnx": {"sha256": "00"}}),
    ],
)
def test_a_manifest_that_says_something_else(copied: Exported, key: str, value: Any) -> None:
    change(copied.manifest, key, value)
    [difference] = inspect_file(copied.onnx).differences
    assert key in difference or "lists other.onnx" in difference


@pytest.mark.parametrize("run", [inspect_file, verify_file])
@pytest.mark.parametrize("kind", ["onnx", "plan"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "does not exist"),
        ("folder", "is a folder"),
        ("pipe", "is no regular file"),
        ("empty", r"is empty \(0 bytes\)"),
        ("other", r"other.json lists \S+\.onnx, "),
        ("unreadable", "the manifest .*unreadable.json cannot be read: Is a directory"),
    ],
)
def test_no_file_to_examine(copied: Exported, run: Any, kind: str, name: str, message: str) -> None:
    """The file itself is looked at before its manifest is missed, and every message has a next step."""
    file = copied.folder / f"{name}.{kind}"
    if name == "folder":
        file.mkdir()
    elif name == "pipe":
        os.mkfifo(file)
    elif name == "empty":
        file.touch()
    elif name == "other":
        shutil.copy(copied.onnx, file)
        shutil.copy(copied.manifest, file.with_suffix(".json"))
        if run is inspect_file:
            assert any("the manifest lists" in text for text in run(file).differences)
            return
    elif name == "unreadable":
        shutil.copy(copied.onnx, file)
        file.with_suffix(".json").mkdir()
    with pytest.raises(ModelFileError, match=message) as failure:
        run(file)
    assert failure.value.hint


@pytest.mark.parametrize("damage", [[], 5, None, {"schema": 2}])
@pytest.mark.parametrize("key", ["plugin", "flavour"])
@needs_rtx
def test_a_manifest_with_a_damaged_engine(copied: Exported, key: str, damage: Any) -> None:
    fields = json.loads(copied.manifest.read_text())
    fields["files"][copied.plan.name]["engine"][key] = damage
    copied.manifest.write_text(json.dumps(fields))
    differences = inspect_file(copied.plan).differences
    assert [text.partition(";")[0] for text in differences] == (["schema is 1"] if key == "plugin" else [])


@pytest.mark.parametrize("text", ["[" * 200_000, "[]", '{"format": "serpent-manifest"}'])
def test_a_manifest_that_is_none(copied: Exported, text: str) -> None:
    copied.manifest.write_text(text)
    with pytest.raises(ModelFileError):
        inspect_file(copied.onnx)


def test_a_manifest_without_the_digest_of_the_graph(copied: Exported) -> None:
    fields = json.loads(copied.manifest.read_text())
    del fields["graph_sha256"]
    copied.manifest.write_text(json.dumps(fields))
    (difference,) = inspect_file(copied.onnx).differences
    assert difference.endswith("the manifest says None")


def test_a_graph_without_an_opset(copied: Exported) -> None:
    model = onnx.load_model(copied.onnx)
    del model.opset_import[:]
    onnx.save_model(model, copied.onnx)
    assert any(text.startswith("graph_sha256 is ") for text in inspect_file(copied.onnx).differences)


def test_the_variant_for_the_tensorrt_provider(copied: Exported) -> None:
    variant = copied.onnx.with_suffix(".ort-trt.onnx")
    onnx.save_model(for_ort_trt(onnx.load_model(copied.onnx)), variant)
    fields = json.loads(copied.manifest.read_text())
    fields["files"][variant.name] = {"kind": "ort-trt.onnx", "sha256": sha256_file(variant)}
    copied.manifest.write_text(json.dumps(fields))
    found = inspect_file(variant)
    assert (found.manifest, found.differences) == (copied.manifest, ())
    assert (found.facts["format"], found.facts["scans"]) == ("serpent-ort-trt-1", 14)
    with pytest.raises(ModelFileError, match="nothing else runs it") as refusal:
        verify_file(variant)
    assert refusal.value.hint == f"name the usual file, for example {copied.onnx}"

    model = onnx.load_model(variant)
    model.graph.node[0].doc_string = "changed"
    onnx.save_model(model, variant)
    assert [text.split(" is ")[0] for text in inspect_file(variant).differences] == ["sha256", "graph_sha256"]


@pytest.mark.parametrize("config", ["[]", "5", "null", "[" * 200_000])
def test_a_checkpoint_whose_configuration_is_none(tmp_path: Path, config: str) -> None:
    file = tmp_path / "a.safetensors"
    save_file({"a": np.zeros(3, np.float32)}, file, {"config": config, "weights_digest": "x"})
    with pytest.raises(CheckpointError, match="no Serpent checkpoint"):
        inspect_file(file)


def test_a_checkpoint(copied: Exported) -> None:
    found = inspect_file(copied.checkpoint)
    manifest = json.loads(copied.manifest.read_text())
    assert found.facts["weights_sha256"] == manifest["weights_sha256"]
    assert (found.facts["variant"], found.facts["task"], found.differences) == ("B", "denoise", ())
    content = bytearray(copied.checkpoint.read_bytes())
    content[-1] ^= 0x40
    copied.checkpoint.write_bytes(content)
    assert "the file's metadata says" in inspect_file(copied.checkpoint).differences[0]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.plan", b"vtrt" * 1000, ModelFileError),
        ("a.plan", b"", ModelFileError),
        ("a.onnx", b"<html>", ModelFileError),
        ("a.onnx", b"", ModelFileError),
        ("a.safetensors", b"\x00" * 16, CheckpointError),
        ("a.safetensors", b"", ModelFileError),
        ("a.png", b"", UsageError),
        ("missing/a.onnx", None, ModelFileError),
    ],
)
def test_foreign_files(tmp_path: Path, name: str, content: bytes | None, error: type[Exception]) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error):
        inspect_file(tmp_path / name)
