"""Loading a plan: tried once by a process of its own, whose death is an error; what TensorRT says is passed on."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serpent.errors import EngineError
from serpent.files import sha256_file
from serpent.runtime import tensorrt_cache, tensorrt_loading
from serpent.runtime.gpu import find_gpus
from serpent.runtime.tensorrt_adapter import TensorRTContext, TensorRTEngine
from serpent.runtime.tensorrt_library import RTX, Messages, installed_version
from serpent.runtime.tensorrt_loading import PlanFile, try_loading
from tests import nvidia_smi

needs_rtx = pytest.mark.skipif(installed_version(RTX) is None, reason=f"needs {RTX.title}: {RTX.install_command}")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def file(tmp_path: Path) -> PlanFile:
    path = tmp_path / "a.plan"
    path.write_bytes(b"a plan")
    return PlanFile(path, "00" * 32, RTX, "1.7.1.116", "A GPU 00")


def child_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, does: str) -> Path:
    """Let the trial run this program instead; returns the file in which it counts its starts."""
    starts = tmp_path / "starts"
    program = tmp_path / "trial_program.py"
    program.write_text(f"import json, os, sys, time\nopen({str(starts)!r}, 'a').write('x')\n{does}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(tensorrt_loading, "__name__", "trial_program")
    return starts


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL], ids=lambda number: number.name)
def test_a_plan_that_ends_its_process_is_an_error(
    file: PlanFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    starts = child_that(monkeypatch, tmp_path, f"os.kill(os.getpid(), {int(number)})")
    for _ in range(2):  # and is not remembered as good
        with pytest.raises(
            EngineError,
            match=rf"^the process that tried it was ended by .* {number.name}$",
        ):
            try_loading(file, 0)
    assert starts.read_text() == "xx"


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("print(json.dumps({'reason': 'the header is wrong'}))", "^the header is wrong$"),
        ("sys.exit('no room')", "failed with exit code 1: no room"),
        ("pass", "failed with exit code 0: it said nothing"),
        ("time.sleep(60)", "had not ended after 1 s"),
    ],
)
def test_other_failures_of_a_trial_are_errors_too(
    file: PlanFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, message: str
) -> None:
    child_that(monkeypatch, tmp_path, does)
    monkeypatch.setattr(tensorrt_loading, "_TRIAL_LIMIT_S", 1.0)
    with pytest.raises(EngineError, match=message):
        try_loading(file, 0)


def test_a_trial_passes_on_what_is_missing_and_what_helps(
    file: PlanFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed TensorRT whose libraries are not there is known when it is loaded, in the child."""
    (tmp_path / f"{RTX.module}.py").write_text("raise ImportError('libcudart.so.13: cannot open')")
    package = tmp_path / "tensorrt_rtx_cu13-1.7.1.116.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorrt-rtx-cu13\nVersion: 1.7.1.116\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineError, match=r"is installed but cannot be loaded: libcudart.*\n  pip install"):
        try_loading(file, None)


@pytest.mark.parametrize("lacks", ["executable", "temporary folder"])
def test_a_trial_that_cannot_begin_is_an_error(
    file: PlanFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    if lacks == "executable":  # of a Python inside another program
        monkeypatch.setattr(sys, "executable", "")
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(EngineError, match=r"^the process that tries it, .*, cannot be started: "):
        try_loading(file, 0)


def test_a_plan_that_loaded_is_not_tried_again(file: PlanFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = child_that(monkeypatch, tmp_path, "print('noise'); print(json.dumps({'reason': ''}))")
    for _ in range(3):
        try_loading(file, 0)
    assert starts.read_text() == "x"
    try_loading(replace(file, sha256="11" * 32), 0)
    try_loading(replace(file, version="1.8.0"), 0)
    try_loading(replace(file, gpu="Another GPU 00"), 0)
    assert starts.read_text() == "xxxx"
    monkeypatch.setattr(tensorrt_loading, "_driver", lambda: "another driver")
    try_loading(file, 0)
    assert starts.read_text() == "xxxxx"


def test_what_was_compiled_is_kept_by_plan_version_gpu_and_driver(
    file: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_loading, "load", lambda _flavour: module())
    monkeypatch.setattr(tensorrt_loading, "register", lambda _module: SimpleNamespace(errors=Messages()))
    monkeypatch.setattr(tensorrt_loading, "make_logger", lambda _module: SimpleNamespace(messages=Messages()))
    file = replace(file, sha256=sha256_file(file.path))
    for opened in (file, file, replace(file, version="1.8.0"), replace(file, gpu="Another GPU 00")):
        tensorrt_loading.load_engine(opened, cuda_graphs=False).save_cache()
    monkeypatch.setattr(tensorrt_loading, "_driver", lambda: "another driver")
    tensorrt_loading.load_engine(file, cuda_graphs=False).save_cache()
    kept = [entry for entry in tensorrt_cache.cache_folder().glob("runtime-*") if entry.suffix != ".lock"]
    assert len(kept) == 4


def test_the_driver_is_known_where_the_system_has_no_file_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this system has that file")
    nvidia_smi.install(tmp_path / "bin", monkeypatch, nvidia_smi.RTX_4090)
    assert tensorrt_loading._driver() == find_gpus()[0].driver_version


@needs_rtx
def test_the_real_child_answers_on_a_machine_without_a_gpu_or_with_one(file: PlanFile) -> None:
    with pytest.raises(EngineError, match=r"^(the NVIDIA driver is too old|cudaSetDevice|its header)"):
        try_loading(file, 0)


def module(**changes: Any) -> Any:
    """TensorRT-RTX as far as an engine needs it."""
    names = ("VERSION_MISMATCH", "UNSUPPORTED_CC", "OLD_CUDA_DRIVER", "OLD_CUDA_RUNTIME", "INSUFFICIENT_GPU_MEMORY")
    findings = {name: 1 << index for index, name in enumerate((*names, "MALFORMED_ENGINE", "CUDA_ERROR"))}
    made = SimpleNamespace(
        EngineValidity=SimpleNamespace(VALID=0, SUBOPTIMAL=1, INVALID=2),
        EngineInvalidityDiagnostics=SimpleNamespace(__members__=findings),
        CudaGraphStrategy=SimpleNamespace(DISABLED="off", WHOLE_GRAPH_CAPTURE="on"),
        verdict=(0, 0),
        cache=Cache(),
        config=None,
    )
    made.engine = SimpleNamespace(
        create_runtime_config=lambda: _config(made),
        create_execution_context=lambda config: SimpleNamespace(config=config),
        device_memory_size_v2=5,
    )
    made.Runtime = lambda _logger: SimpleNamespace(
        engine_header_size=4,
        get_engine_validity=lambda header: made.verdict if header == b"a pl" else (2, 32),
        deserialize_cuda_engine=lambda _plan: made.engine,
    )
    vars(made).update(changes)
    return made


class Cache:
    def __init__(self) -> None:
        self.content: bytes | None = b"compiled"
        self.accepts = True
        self.given: list[bytes] = []

    def deserialize(self, content: bytes) -> bool:
        self.given.append(content)
        return self.accepts

    def serialize(self) -> bytes | None:
        return self.content


def _config(made: Any) -> Any:
    made.config = SimpleNamespace(
        create_runtime_cache=lambda: made.cache, set_runtime_cache=lambda cache: setattr(made, "set", cache)
    )
    return made.config


def load(trt: Any, **options: Any) -> TensorRTEngine:
    logger = SimpleNamespace(messages=Messages())
    return TensorRTEngine(trt, "TensorRT-RTX", b"a plan", plugin_errors=Messages(), logger=logger, **options)


@pytest.mark.parametrize(
    ("finding", "says"),
    [
        (1, "it was built with another version of TensorRT-RTX"),
        (2, "it was not built for this GPU's compute capability"),
        (4, "the NVIDIA driver is older than it needs"),
        (8, "the installed CUDA runtime is older than it needs"),
        (16, "the GPU has too little memory for it"),
        (32, "its header is no plan's: the file is damaged or something else"),
        (1 | 4, "it was built with another version of TensorRT-RTX; the NVIDIA driver is older than it needs"),
    ],
)
def test_each_finding_of_the_header_check_is_one_sentence(finding: int, says: str) -> None:
    with pytest.raises(EngineError) as caught:
        load(module(verdict=(2, finding)))
    assert str(caught.value) == says


@pytest.mark.parametrize("verdict", [(0, 0), (1, 2), (2, 64), (2, 0)])
def test_a_header_without_a_finding_of_its_own_is_left_to_loading(verdict: tuple[int, int]) -> None:
    assert load(module(verdict=verdict)).context_bytes == 5


@pytest.mark.parametrize(("asked", "strategy"), [(False, "off"), (True, "on")])
def test_cuda_graphs_are_tensorrt_rtxs_own_setting_and_off_unless_asked_for(asked: bool, strategy: str) -> None:
    trt = module()
    engine = load(trt, cuda_graphs=asked)
    assert engine.captures_itself
    assert trt.config.cuda_graph_strategy == strategy
    context = engine.create_context()
    assert context._context.config is trt.config  # type: ignore[attr-defined]


def test_what_was_compiled_is_kept_and_used_again() -> None:
    first = module()
    engine = load(first, cache_entry="runtime-x")
    assert (first.cache.given, first.set) == ([], first.cache)
    engine.save_cache()
    assert tensorrt_cache.load("runtime-x") == b"compiled"
    again = module()
    engine = load(again, cache_entry="runtime-x")
    assert again.cache.given == [b"compiled"]
    again.cache.content = b"compiled more"
    engine.save_cache()
    engine.close()
    engine.save_cache()  # nothing left to keep
    assert tensorrt_cache.load("runtime-x") == b"compiled more"


def test_where_tensorrt_gives_nothing_to_keep_what_was_kept_stays() -> None:
    tensorrt_cache.store("runtime-x", b"compiled before")
    trt = module()
    trt.cache.content = None
    load(trt, cache_entry="runtime-x").save_cache()
    assert tensorrt_cache.load("runtime-x") == b"compiled before"


def test_a_cache_that_tensorrt_refuses_is_replaced() -> None:
    tensorrt_cache.store("runtime-x", b"of another driver")
    trt = module()
    trt.cache.accepts = False
    load(trt, cache_entry="runtime-x").save_cache()
    assert tensorrt_cache.load("runtime-x") == b"compiled"


def test_tensorrt_without_these_settings_is_given_none_of_them() -> None:
    trt = module()
    del trt.CudaGraphStrategy
    trt.engine.create_execution_context = lambda *given: SimpleNamespace(given=given)
    engine = load(trt, cuda_graphs=True)
    assert not engine.captures_itself
    assert engine.create_context()._context.given == ()  # type: ignore[attr-defined]
    engine.save_cache()


def test_a_context_is_for_one_thread_at_a_time_and_not_for_afterwards() -> None:
    raw = SimpleNamespace(
        set_tensor_address=lambda *_: True, set_input_shape=lambda *_: True, get_tensor_shape=lambda _: (1, 3, 8, 8)
    )
    context = TensorRTContext(raw, lambda: "")

    def enter_again(_stream: int) -> bool:
        with pytest.raises(EngineError, match="two threads use one execution context"):
            context.set_shape((1, 3, 8, 8))
        return True

    raw.execute_async_v3 = enter_again
    context.enqueue(1, 2, 3)
    context.set_shape((1, 3, 8, 8))
    context.close()
    with pytest.raises(EngineError, match="closed"):
        context.enqueue(1, 2, 3)


@pytest.mark.parametrize("said", ["", "the scan failed"])
def test_a_failed_run_or_a_plugins_complaint_is_an_error(said: str) -> None:
    raw = SimpleNamespace(
        set_tensor_address=lambda *_: True,
        set_input_shape=lambda *_: True,
        get_tensor_shape=lambda _: (1, 3, 8, 8),
        execute_async_v3=lambda _: bool(said),
    )
    words = iter(["", said])
    context = TensorRTContext(raw, lambda: next(words))
    context.set_shape((1, 3, 8, 8))
    with pytest.raises(EngineError, match=rf"failed on an image of shape \(1, 3, 8, 8\): {said or 'no reason'}"):
        context.enqueue(1, 2, 3)


def test_messages_belong_to_the_thread_that_they_came_in() -> None:
    messages = Messages()
    messages.append("ours")
    other = threading.Thread(target=lambda: messages.append("theirs"))
    other.start()
    other.join()
    assert list(messages) == ["ours", "theirs"]
    assert messages.take() == ["ours"]
    assert messages == ["theirs"]
    assert messages.take() == []
