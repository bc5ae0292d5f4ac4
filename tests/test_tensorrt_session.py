"""A plan on this machine: every refusal, and the run itself against stand-ins for CUDA and TensorRT."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serpent import native
from serpent.config import SerpentConfig
from serpent.errors import EngineError, MissingExtraError, ModelFileError, SerpentError, UsageError
from serpent.files import sha256_file
from serpent.runtime import cuda_device, open_session, tensorrt_loading, tensorrt_machine, tensorrt_session
from serpent.runtime.tensorrt_library import RTX, Messages, installed_version, load, make_logger
from serpent.runtime.tensorrt_session import TensorRTSession
from serpent.shapes import parse_profile
from tests import nvidia_smi
from tests.cuda_stand_in import Cuda, Engine

needs_rtx = pytest.mark.skipif(installed_version(RTX) is None, reason=f"needs {RTX.title}: {RTX.install_command}")

Exporter = Callable[..., Path]
ELF_LIBRARY = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00" + bytes(44)
"""The header of a shared library for x86-64."""
RUN_ONNX = r"serpent-infer .*/network\.onnx photo\.png"


@pytest.fixture
def exported(tmp_path: Path) -> Exporter:
    """Write a plan (of nonsense), its manifest and the ONNX file beside it; keywords change the engine entry."""

    def write(*, with_onnx: bool = True, content: bytes = b"a plan" * 100, **changes: Any) -> Path:
        config = SerpentConfig.from_variant("B")
        plan = tmp_path / "network.plan"
        plan.write_bytes(content)
        if with_onnx:
            plan.with_suffix(".onnx").write_bytes(b"a network")
        engine = {"flavour": "rtx", "version": "1.7.1.116", "targets": ["sm86", "sm89"]} | changes
        manifest = {
            "format": "serpent-manifest",
            "format_version": 1,
            "config": config.to_dict(),
            "profile": parse_profile(config, "64").to_dict(),
            "task": "deblur",
            "precision": "fp16",
            "weights": "untrained",
            "files": {plan.name: {"sha256": sha256_file(plan), "engine": engine}},
        }
        plan.with_suffix(".json").write_text(json.dumps(manifest))
        return plan

    return write


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi.install(tmp_path / "bin", monkeypatch, nvidia_smi.RTX_4090)


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed, claim the version that the plans were built with."""
    monkeypatch.setattr(tensorrt_machine, "check_installed", lambda _flavour: "1.7.1.116")


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claim CUDA kernels."""
    monkeypatch.setattr(native, "library", lambda: SimpleNamespace(has_cuda=True, schema=1))


def test_without_a_gpu_one_sentence_and_the_command_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: Exporter
) -> None:
    nvidia_smi.remove(tmp_path / "bin", monkeypatch)
    with pytest.raises(EngineError, match=rf"needs an NVIDIA GPU, and nvidia-smi is not on the PATH.*\n  {RUN_ONNX}$"):
        open_session(exported())


def test_without_the_onnx_file_the_hint_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: Exporter
) -> None:
    nvidia_smi.remove(tmp_path / "bin", monkeypatch)
    plan = exported(with_onnx=False)
    with pytest.raises(EngineError, match=r"needs an NVIDIA GPU.*\n  export with --format onnx"):
        open_session(plan)


def test_a_changed_plan_is_refused_first(exported: Exporter) -> None:
    plan = exported()
    plan.write_bytes(b"another plan")
    with pytest.raises(ModelFileError, match=r"network\.plan has sha256 .* the file was changed or damaged"):
        TensorRTSession(plan)


def test_a_plan_without_manifest_is_refused(exported: Exporter) -> None:
    plan = exported()
    plan.with_suffix(".json").unlink()
    with pytest.raises(ModelFileError, match=r"the manifest .*network\.json does not exist"):
        TensorRTSession(plan)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("change", [{"flavour": "xyz"}, {"targets": None}])
def test_a_manifest_that_describes_no_engine_is_refused(exported: Exporter, change: dict[str, Any]) -> None:
    with pytest.raises(ModelFileError, match="describes its engine badly"):
        TensorRTSession(exported(**change))


@pytest.mark.usefixtures("gpu")
def test_a_missing_flavour_is_named(exported: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(
        MissingExtraError, match=rf"TensorRT is not installed\n  pip install .*\[trt\]', or: {RUN_ONNX}$"
    ):
        TensorRTSession(exported(flavour="trt"))


@pytest.mark.usefixtures("gpu", "versions")
def test_another_version_is_refused(exported: Exporter) -> None:
    with pytest.raises(
        EngineError, match=rf"built with TensorRT-RTX 1\.6\.0; installed is 1\.7\.1\.116.*\n.* or: {RUN_ONNX}$"
    ):
        TensorRTSession(exported(version="1.6.0"))


@pytest.mark.usefixtures("versions")
def test_another_gpu_is_refused(tmp_path: Path, exported: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi.install(tmp_path / "bin", monkeypatch, nvidia_smi.H100)
    with pytest.raises(EngineError, match=r"built for sm86, sm89; this machine has NVIDIA H100 80GB HBM3 \(sm90\)\n"):
        TensorRTSession(exported())


@pytest.mark.usefixtures("gpu", "versions")
def test_a_library_without_cuda_kernels_is_refused(exported: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: SimpleNamespace(has_cuda=False, path=Path("/lib/libserpent.so")))
    with pytest.raises(
        EngineError, match=rf"native library /lib/libserpent.so was built without.*\n.* or: {RUN_ONNX}$"
    ):
        TensorRTSession(exported())


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> SimpleNamespace:
    """A machine whose CUDA devices are an sm90 and an sm89, and a TensorRT that loads any plan."""
    for claim in ("gpu", "versions", "kernels"):
        request.getfixturevalue(claim)
    kind = SimpleNamespace(name="FLOAT")
    messages = Messages()
    found = SimpleNamespace(
        cuda=Cuda((9, 0), (8, 9)),
        tried=[],
        reason="",
        engine=Engine({"image": kind, "restored": kind}),
        creator=SimpleNamespace(errors=Messages()),
        logger=SimpleNamespace(messages=messages, sentence=lambda: "; ".join(messages)),
    )
    found.runtime = runtime = SimpleNamespace(
        deserialize_cuda_engine=lambda _plan: found.engine or messages.append(found.reason)
    )
    module = SimpleNamespace(DataType=SimpleNamespace(FLOAT=kind), Runtime=lambda _logger: runtime)
    monkeypatch.setattr(cuda_device, "require", lambda *_: found.cuda)
    monkeypatch.setattr(tensorrt_loading, "load", lambda _flavour: module)
    monkeypatch.setattr(tensorrt_loading, "register", lambda _module: found.creator)
    monkeypatch.setattr(tensorrt_loading, "make_logger", lambda _module: found.logger)
    monkeypatch.setattr(tensorrt_session, "try_loading", lambda file, device: found.tried.append((file.gpu, device)))
    return found


def test_a_run_gives_the_plans_output_and_frees_everything(exported: Exporter, stand_in: SimpleNamespace) -> None:
    image = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    with TensorRTSession(exported()) as session:
        assert (session.info.device, session.info.scan, session.info.precision) == ("cuda:1", "plugin", "fp16")
        for _ in range(2):
            np.testing.assert_array_equal(session.run(image), image / 2)
            assert len(stand_in.cuda.memory) == 4  # in and out, here and there, for the next run
        assert (stand_in.cuda.device, set(stand_in.cuda.used)) == (0, {1})  # the caller's; the session's
        assert len(stand_in.cuda.streams) == 1
        assert stand_in.tried == [("A GPU 01", 1)]
    assert (stand_in.cuda.streams, stand_in.cuda.events, stand_in.cuda.memory) == (set(), set(), {})
    assert stand_in.cuda.device == 0
    session.close()  # again is fine
    with pytest.raises(SerpentError, match="is closed"):
        session.run(image)


def test_pictures_of_any_size_go_through(exported: Exporter, stand_in: SimpleNamespace) -> None:
    picture = np.full((70, 40, 3), 0.5, dtype=np.float32)
    with open_session(exported()) as session:
        np.testing.assert_allclose(session(picture), 0.25, atol=1e-6)
    assert stand_in.cuda.memory == {}


def test_a_failing_run_gives_the_reason_and_frees_everything(exported: Exporter, stand_in: SimpleNamespace) -> None:
    image = np.zeros((1, 3, 64, 64), dtype=np.float32)
    session = TensorRTSession(exported())

    def fail(_stream: int) -> bool:
        stand_in.creator.errors.append("the scan failed")
        stand_in.logger.messages.append("a layer failed")
        return False

    stand_in.engine.context.execute_async_v3 = fail
    with pytest.raises(
        EngineError, match=r"failed on an image of shape \(1, 3, 64, 64\): the scan failed; a layer fai"
    ):
        session.run(image)
    assert stand_in.cuda.memory == {}
    stand_in.cuda.allocations_left = 1
    with pytest.raises(
        EngineError, match="cudaMallocHost failed: out of memory; 1 MiB were asked for, cuda:1 has 1024 MiB free"
    ):
        session.run(image)
    assert stand_in.cuda.memory == {}


def test_a_plan_that_does_not_load_is_refused(exported: Exporter, stand_in: SimpleNamespace) -> None:
    stand_in.engine, stand_in.reason = None, "the header is wrong"
    with pytest.raises(
        EngineError, match=rf"^TensorRT-RTX cannot load \S+\.plan: the header is wrong\n.* or: {RUN_ONNX}$"
    ):
        TensorRTSession(exported())
    assert stand_in.cuda.streams == set()


@pytest.mark.parametrize("written", [(1, 3, 128, 128), (4, 3, 64, 64), (1, 3, 64, -1), (1, 3, 64, 64, 2), ()])
def test_a_plan_that_would_write_past_its_result_is_stopped_before_it_runs(
    exported: Exporter, stand_in: SimpleNamespace, written: tuple[int, ...]
) -> None:
    context = stand_in.engine.context
    context.get_tensor_shape = lambda name: written if name == "restored" else context.shape
    says = re.escape(f"network.plan: the plan would write a result of shape {written} for an image of shape (1, 3, 64")
    with TensorRTSession(exported()) as session:
        for _ in range(2):  # the shape that was refused is not taken for set
            with pytest.raises(EngineError, match=says):
                session.run(np.zeros((1, 3, 64, 64), dtype=np.float32))
    assert context.runs == 0


@pytest.mark.parametrize("tensor", ["image", "restored"])
def test_a_plan_whose_tensors_are_not_dense_is_refused(
    exported: Exporter, stand_in: SimpleNamespace, tensor: str
) -> None:
    stand_in.engine.layouts[tensor] = "CHW32"  # 32 channels' memory for 3
    with pytest.raises(ModelFileError, match=rf"{tensor} float32 CHW32.*; expected image and restored, both float32"):
        TensorRTSession(exported())


def test_a_plan_with_other_tensors_is_refused(exported: Exporter, stand_in: SimpleNamespace) -> None:
    stand_in.engine = Engine({"image": SimpleNamespace(name="HALF"), "restored": SimpleNamespace(name="FLOAT")})
    with pytest.raises(ModelFileError, match="has the tensors image float16, restored float32; expected"):
        TensorRTSession(exported())


@pytest.mark.parametrize(
    ("device", "kind", "message"),
    [
        ("cpu", UsageError, "device 'cpu' cannot run .*: a plan runs on auto, cuda or cuda:N"),
        ("cuda:x", UsageError, "device 'cuda:x' cannot run"),
        (
            "cuda:0",
            EngineError,
            r"built for sm86, sm89 and cannot run on device cuda:0: CUDA sees cuda:0 \(sm90\), cud",
        ),
        ("cuda:7", EngineError, r"cannot run on device cuda:7: CUDA sees cuda:0 \(sm90\), cuda:1 \(sm89\)"),
    ],
)
@pytest.mark.usefixtures("stand_in")
def test_other_devices_are_refused(exported: Exporter, device: str, kind: type[SerpentError], message: str) -> None:
    with pytest.raises(kind, match=message):
        TensorRTSession(exported(), device)


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:1"])
@pytest.mark.usefixtures("stand_in")
def test_the_device_that_the_plan_was_built_for_is_taken(exported: Exporter, device: str) -> None:
    assert TensorRTSession(exported(), device).info.device == "cuda:1"


@needs_rtx
def test_the_stand_ins_have_the_names_of_the_real_modules() -> None:
    """The real modules have every function and member that the session uses through the stand-ins."""
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-python")
    for name in (name for name in dir(Cuda) if name.startswith("cuda")):
        assert hasattr(runtime, name), name
    for name in ("cudaMemcpyKind", "cudaDeviceAttr", "cudaError_t", "cudaStreamCaptureMode", "cudaMemoryType"):
        ours = getattr(Cuda, name)
        for member in ours.__members__ if name == "cudaError_t" else vars(ours):
            assert hasattr(getattr(runtime, name), member), member
    trt = load(RTX)
    for real, ours in ((trt.IExecutionContext, Engine({}).context), (trt.ICudaEngine, Engine({}))):
        for name in (name for name in dir(ours) if callable(getattr(ours, name)) and not name.startswith("_")):
            assert callable(getattr(real, name)), name


@needs_rtx
def test_the_real_runtime_refuses_a_damaged_plan_without_ending_the_process(
    exported: Exporter, stand_in: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = load(RTX)
    monkeypatch.setattr(tensorrt_loading, "load", lambda _flavour: trt)
    monkeypatch.setattr(tensorrt_loading, "make_logger", make_logger)
    with pytest.raises(EngineError, match="TensorRT-RTX cannot load .*its header is no plan's"):
        TensorRTSession(exported())
    assert stand_in.cuda.streams == set()


@pytest.mark.usefixtures("gpu", "versions", "kernels")
@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (
            {"name": "Other"},
            r"needs the plugin serpent::Other version 1; this package has serpent::SelectiveScan2D ver",
        ),
        ({"version": "2"}, "needs the plugin serpent::SelectiveScan2D version 2; this package has"),
        ({"namespace": "else"}, "needs the plugin else::SelectiveScan2D version 1; this package has"),
        ({"schema": 7}, "was built with workspace schema 7 of the plugin, this package has 1"),
    ],
)
def test_another_plugin_is_refused(exported: Exporter, plugin: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        TensorRTSession(exported(plugin=plugin))


@pytest.mark.parametrize(
    "carrier",
    [
        {"plugin": {"embedded": True, "schema": 7}},
        {"plugin": {"schema": 7}, "content": b"a plan" * 100 + ELF_LIBRARY + b"the rest"},
        {"plugin": {"embedded": False, "schema": 7}, "content": ELF_LIBRARY},
    ],
    ids=["as the manifest says", "of which the manifest is silent", "which the manifest denies"],
)
def test_a_plan_with_native_code_runs_only_where_that_is_allowed(
    exported: Exporter, stand_in: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, carrier: dict[str, Any]
) -> None:
    plan = exported(**carrier)
    with pytest.raises(
        UsageError,
        match=r"carries its plugin, native code.*\n.*\.plan photo\.png --allow-native-code, or.*_native_code=True",
    ):
        open_session(plan)
    # Its own plugin is the only one: ours, of the same name, stays out of the registry.
    monkeypatch.setattr(tensorrt_loading, "register", lambda _module: pytest.fail("registered"))
    with open_session(plan, allow_native_code=True) as session:
        assert session.info.device == "cuda:1"
    assert stand_in.runtime.engine_host_code_allowed is True


def test_the_session_imports_no_torch() -> None:
    code = (
        "import sys, serpent.runtime.tensorrt_session as _;"
        "print({name.partition('.')[0] for name in sys.modules} & {'torch', 'onnx', 'tensorrt_rtx', 'cuda'})"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.stdout.strip() == "set()", run.stderr
