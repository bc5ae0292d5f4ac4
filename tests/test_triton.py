"""Triton repositories: configurations that Triton's own protobuf accepts, the right files, texts that name them."""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import text_format

from serpent.config import SerpentConfig
from serpent.errors import ModelFileError, NativeLibraryError, SerpentError, UsageError
from serpent.files import sha256_file
from serpent.manifest import load_manifest
from serpent.runtime.border import BORDERS
from serpent.shapes import Range, ShapeProfile
from serpent_export import triton
from serpent_export.triton import check_target, model_config, write_repository

if TYPE_CHECKING:
    from exported import Exported

FIXED = ShapeProfile(Range(1, 1, 1), Range(64, 64, 64), Range(96, 96, 96), 32)
FREE = ShapeProfile(Range(1, 2, 4), Range(64, 128, 256), Range(64, 128, 256), 32)
TRT_ENGINE = {"flavour": "trt", "version": "10.16.0.72", "targets": ["sm90"]}


@pytest.fixture(scope="module")
def config_class() -> Any:
    """``ModelConfig`` of the published protobuf; its package is not imported, since that needs gRPC."""
    try:
        files = importlib.metadata.files("tritonclient") or []
    except importlib.metadata.PackageNotFoundError:
        # Its other requirements hold back ml_dtypes and protobuf, so constraints.txt cannot have it.
        pytest.skip("needs Triton's protobuf: pip install --no-deps tritonclient==2.73.0")
    (file,) = [file for file in files if file.match("tritonclient/grpc/model_config_pb2.py")]
    spec = importlib.util.spec_from_file_location("model_config_pb2", Path(str(file.locate())))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ModelConfig


def write_export(
    folder: Path, profile: ShapeProfile = FREE, engine: dict[str, Any] | None = TRT_ENGINE, **more: Any
) -> Path:
    """Files as an export leaves them, with nonsense in them; returns the manifest."""
    folder.mkdir(exist_ok=True)
    entries: dict[str, Any] = {}
    for suffix in ("onnx", "plan", "ort-trt.onnx"):
        file = folder / f"network.{suffix}"
        file.write_bytes(f"a {suffix}".encode())
        entries[file.name] = {"kind": suffix, "sha256": sha256_file(file)}
    if engine is None:
        (folder / "network.plan").unlink()
        del entries["network.plan"]
    else:
        entries["network.plan"]["engine"] = engine
    fields = {
        "format": "serpent-manifest",
        "format_version": 1,
        "config": SerpentConfig.from_variant("B").to_dict(),
        "profile": profile.to_dict(),
        "task": "deblur",
        "precision": "fp16",
        "weights": "untrained",
        "files": entries,
    } | more
    manifest = folder / "network.json"
    manifest.write_text(json.dumps(fields))
    return manifest


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = tmp_path / "built"
    built.mkdir()
    for name in ("libserpent_trt.so", "libserpent_trt_autoreg10.so"):
        (built / name).write_bytes(name.encode())
    monkeypatch.setattr(triton, "plugin_library", lambda: built / "libserpent_trt.so")
    monkeypatch.setattr(triton, "autoreg_library", lambda major: built / f"libserpent_trt_autoreg{major}.so")


@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize("io", BORDERS)
@pytest.mark.parametrize("profile", [FIXED, FREE], ids=["fixed", "free"])
def test_configurations_are_those_of_the_published_protobuf(
    tmp_path: Path, config_class: Any, profile: ShapeProfile, io: str, backend: str
) -> None:
    manifest = load_manifest(write_export(tmp_path, profile, io=io))
    config = text_format.Parse(model_config("network-x", backend, "model.plan", manifest), config_class())
    assert (config.name, config.backend, config.default_model_filename) == ("network-x", backend, "model.plan")
    assert config.max_batch_size == 0
    kind = {"f32-nchw": "TYPE_FP32", "f16-nchw": "TYPE_FP16", "u8-nhwc": "TYPE_UINT8"}[io]
    free = [1, 64, 96] if profile is FIXED else [-1, -1, -1]
    dims = [*free, 3] if io == "u8-nhwc" else [free[0], 3, *free[1:]]
    types = config_class.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_name
    for tensor, name in ((config.input[0], "image"), (config.output[0], "restored")):
        assert (tensor.name, list(tensor.dims)) == (name, dims)
        assert tensor.data_type == types[kind].number
    (warm,) = config.model_warmup
    optimum = [1, 64, 96] if profile is FIXED else [2, 128, 128]
    assert warm.batch_size == 1
    assert list(warm.inputs["image"].dims) == ([*optimum, 3] if io == "u8-nhwc" else [optimum[0], 3, *optimum[1:]])
    assert warm.inputs["image"].zero_data
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, group_kind(config, "KIND_GPU"))]


@pytest.mark.usefixtures("libraries")
def test_bf16_comes_as_a_plan_alone(tmp_path: Path) -> None:
    made = write_repository(tmp_path / "triton", write_export(tmp_path / "out", precision="bf16"))
    assert made.models == ("network-tensorrt",)
    assert "network.onnx is left out of the Triton repository: ONNX Runtime has no bf16 kernels" in made.notes[0]
    with pytest.raises(UsageError, match="describes no file that Triton runs"):
        write_repository(tmp_path / "none", write_export(tmp_path / "onnx", engine=None, precision="bf16"))
    assert not (tmp_path / "none").exists()


def group_kind(config: Any, name: str) -> int:
    return int(type(config.instance_group[0]).DESCRIPTOR.enum_types_by_name["Kind"].values_by_name[name].number)


def test_the_protobuf_refuses_a_field_that_it_does_not_have(tmp_path: Path, config_class: Any) -> None:
    manifest = load_manifest(write_export(tmp_path))
    with pytest.raises(text_format.ParseError):
        text_format.Parse(model_config("x", "tensorrt", "m", manifest) + "plugin: 1", config_class())


@pytest.mark.usefixtures("libraries")
def test_a_repository_has_the_plan_the_onnx_file_and_the_plugin(tmp_path: Path) -> None:
    made = write_repository(tmp_path / "triton", write_export(tmp_path / "files"))
    assert made.notes == ()
    files = {path.relative_to(made.folder).as_posix(): path for path in made.folder.rglob("*") if path.is_file()}
    assert set(files) == {
        "README.md",
        "start.sh",
        "model_repository/network-tensorrt/config.pbtxt",
        "model_repository/network-tensorrt/1/model.plan",
        "model_repository/network-onnx/config.pbtxt",
        "model_repository/network-onnx/1/model.onnx",
        "plugins/libserpent_trt.so",
        "plugins/libserpent_trt_autoreg10.so",
    }
    assert files["model_repository/network-tensorrt/1/model.plan"].read_bytes() == b"a plan"
    script, text = files["start.sh"].read_text(), files["README.md"].read_text()
    assert '--backend-config=tensorrt,plugins="/serpent/plugins/libserpent_trt_autoreg10.so"' in script
    assert "10.16.0.72" in text
    for name, path in files.items():
        if name not in ("README.md", "start.sh"):
            assert f"| {name} | {sha256_file(path)} |" in text
    assert os.access(files["start.sh"], os.X_OK)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["built", "files", "triton"]


@pytest.mark.usefixtures("libraries")
def test_the_start_script_gives_docker_the_image_and_the_flag(tmp_path: Path) -> None:
    made = write_repository(tmp_path / "triton", write_export(tmp_path / "files"))
    fake = tmp_path / "bin" / "docker"
    fake.parent.mkdir()
    # As docker: what the packages of the image say, or the arguments.
    fake.write_text('#!/bin/sh\ncase "$*" in *dpkg-query*) echo "$FAKE_TENSORRT" ;; *) printf "%s\\n" "$@" ;; esac\n')
    fake.chmod(0o755)

    def start(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{fake.parent}:/usr/bin:/bin", "FAKE_TENSORRT": "10.16.0.72-1+cuda13.2", **variables}
        return subprocess.run([made.folder / "start.sh", *arguments], env=environment, capture_output=True, text=True)

    run = start("an-image")
    assert (run.returncode, run.stderr) == (0, "")
    assert start(TRITON_IMAGE="an-image").stdout == run.stdout
    assert start("an-image", TRITON_IMAGE="other").stdout == run.stdout
    arguments = run.stdout.splitlines()
    assert arguments[arguments.index("an-image") + 1] == "tritonserver"
    assert f"{made.folder}:/serpent:ro" in arguments
    assert arguments[arguments.index("-e") + 1] == "NVIDIA_TF32_OVERRIDE=0"
    assert "--backend-config=tensorrt,plugins=/serpent/plugins/libserpent_trt_autoreg10.so" in arguments
    missing = start()
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "no image is given; the plan needs one with TensorRT 10.16.0.72\n  ./start.sh IMAGE" in missing.stderr
    for other in ("10.16.0.7-1+cuda13.2", "10.16.0.720-1", "10.9.0.34-1+cuda12.8"):
        refused = start("an-image", FAKE_TENSORRT=other)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"an-image has TensorRT {other}; the plan needs 10.16.0.72\n" in refused.stderr
    unknown = start("an-image", FAKE_TENSORRT="")  # said, and left to the user
    assert (unknown.returncode, unknown.stdout) == (0, run.stdout)
    assert "an-image do not name its TensorRT; the plan needs 10.16.0.72" in unknown.stderr


def test_a_repository_without_a_plan_takes_any_image(tmp_path: Path) -> None:
    script = write_repository(tmp_path / "triton", write_export(tmp_path / "files", engine=None)).folder / "start.sh"
    run = subprocess.run([script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert run.returncode == 2
    assert "no image is given; any one with ONNX Runtime will do\n" in run.stderr
    assert "dpkg-query" not in script.read_text()


def test_what_triton_does_not_run_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rtx = write_export(tmp_path / "rtx", engine={"flavour": "rtx", "version": "1.7.1.116", "targets": ["sm89"]})
    made = write_repository(tmp_path / "a", rtx)
    assert made.models == ("network-onnx",)
    (note,) = made.notes
    assert "network.plan is left out of the Triton repository: Triton runs plans of TensorRT alone" in note
    assert "plugins" not in (made.folder / "start.sh").read_text()

    def missing(*_: object) -> Path:
        raise NativeLibraryError("it does not exist", hint="build it")

    monkeypatch.setattr(triton, "autoreg_library", missing)
    (note,) = write_repository(tmp_path / "b", write_export(tmp_path / "trt")).notes
    assert note == "the Triton repository lacks the plugin for TensorRT 10: it does not exist; build it"
    onnx_alone = write_repository(tmp_path / "c", write_export(tmp_path / "onnx", engine=None))
    assert (onnx_alone.models, onnx_alone.notes) == (("network-onnx",), ())


def test_a_taken_folder_and_changed_files_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = write_export(tmp_path / "files", engine=None)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    for overwrite in (False, True):  # what is no repository is never replaced
        with pytest.raises(UsageError, match="is not empty"):
            write_repository(taken, manifest, overwrite=overwrite)
    target = tmp_path / "triton"
    write_repository(target, manifest)
    with pytest.raises(UsageError, match="is not empty"):
        write_repository(target, manifest)
    (target / "start.sh").write_text("old")
    write_repository(target, manifest, overwrite=True)
    assert (target / "start.sh").read_text() != "old"
    with pytest.raises(UsageError, match="does not exist"):
        write_repository(tmp_path / "no" / "triton", manifest)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UsageError, match="cannot be replaced from within"):
        write_repository(Path(), manifest)
    (tmp_path / "empty").rmdir()
    (tmp_path / "files" / "network.onnx").unlink()
    with pytest.raises(ModelFileError, match=r"network\.onnx does not exist"):
        write_repository(tmp_path / "other", manifest)
    (tmp_path / "files" / "network.onnx").write_bytes(b"changed")
    with pytest.raises(ModelFileError, match="changed or damaged"):
        write_repository(tmp_path / "other", manifest)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["files", "taken", "triton"]


@pytest.mark.parametrize(
    "name", ["mine.txt", "model_repository/other/config.pbtxt", "model_repository/mine/1/model.onnx"]
)
@pytest.mark.parametrize("earlier", [True, False])
def test_files_that_no_earlier_repository_wrote_are_never_replaced(tmp_path: Path, name: str, earlier: bool) -> None:
    manifest = write_export(tmp_path / "files", engine=None)
    target = tmp_path / "triton"
    if earlier:
        write_repository(target, manifest)
    else:
        target.mkdir()
        (target / "README.md").write_text("# My models\n")
    mine = target / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(UsageError, match=f"{name if earlier else 'README.md'} in it is of no earlier repository"):
        write_repository(target, manifest, overwrite=True)
    assert mine.read_text() == "mine"


def test_a_parent_that_takes_no_folder_is_refused_before_the_export() -> None:
    with pytest.raises(SerpentError, match="(?s)cannot write into /proc: .*--triton DIR"):
        check_target(Path("/proc/triton"), overwrite=False)


def test_a_swap_that_fails_leaves_the_earlier_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = write_export(tmp_path / "files", engine=None)
    target = tmp_path / "triton"
    write_repository(target, manifest)
    (target / "start.sh").write_text("earlier")
    replace = Path.replace

    def fails_for_the_new(path: Path, to: Path) -> Path:
        if path.name == "new":
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(path, to)

    monkeypatch.setattr(Path, "replace", fails_for_the_new)
    with pytest.raises(SerpentError, match="No space left on device"):
        write_repository(target, manifest, overwrite=True)
    assert (target / "start.sh").read_text() == "earlier"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["files", "triton"]


def test_a_real_export_becomes_a_repository(tmp_path: Path, exported: Exported) -> None:
    made = write_repository(tmp_path / "triton", exported.manifest)
    (model,) = made.models
    stored = made.folder / "model_repository" / model / "1" / "model.onnx"
    assert stored.read_bytes() == exported.onnx.read_bytes()
