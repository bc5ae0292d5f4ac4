"""ONNX files on a GPU, over a stand-in: ONNX Runtime's device memory is host memory, the CUDA kernels the CPU's."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from serpent import native
from serpent.errors import EngineError, NativeLibraryError, SerpentError, UsageError
from serpent.native import ScanPointers, ScanShape
from serpent.runtime import onnx_cuda
from serpent.runtime.onnx_file import serialize
from serpent.runtime.onnx_session import OnnxSession
from serpent_export.canonical import add_metadata
from standin_device import HostDevice
from traced import graph, network, profile


class StandIn:
    """The names of ONNX Runtime that the session uses, with its CPU provider behind them; notes what it was asked."""

    def __init__(self) -> None:
        self.providers: list[Any] = []
        self.options: list[Any] = []
        self.placed: list[tuple[str, int]] = []
        self.outputs: list[tuple[str, str, int]] = []
        self.failing, self.passing = "", 0
        self.full = False
        self.used = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        self.made: list[weakref.ref[Any]] = []

    __version__ = onnxruntime.__version__
    SessionOptions = onnxruntime.SessionOptions

    @property
    def OrtValue(self) -> Any:  # noqa: N802
        real = onnxruntime.OrtValue

        def place(make: Any, *arguments: Any) -> Any:
            *values, kind, index = arguments
            if self.full:
                raise RuntimeError("no memory")
            self.placed.append((kind, index))
            value = make(*values)
            self.made.append(weakref.ref(value))
            return value

        return SimpleNamespace(
            ortvalue_from_numpy=lambda *a: place(real.ortvalue_from_numpy, *a),
            ortvalue_from_shape_and_type=lambda *a: place(real.ortvalue_from_shape_and_type, *a),
        )

    def RunOptions(self) -> Any:  # noqa: N802
        entries: dict[str, str] = {}
        self.options.append(entries)
        return SimpleNamespace(add_run_config_entry=entries.__setitem__)

    def InferenceSession(self, model: bytes, options: Any, providers: list[Any]) -> Any:  # noqa: N802
        self.providers.extend(providers)
        real = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

        def bind() -> Any:
            binding = real.io_binding()

            def bind_output(name: str, kind: str, index: int) -> None:
                self.outputs.append((name, kind, index))
                binding.bind_output(name, "cpu")

            return SimpleNamespace(
                real=binding,
                bind_ortvalue_input=binding.bind_ortvalue_input,
                bind_output=bind_output,
                get_outputs=binding.get_outputs,
            )

        def run(binding: Any, _options: Any) -> None:
            if self.failing and self.passing == 0:
                raise RuntimeError(self.failing)
            self.passing -= 1
            real.run_with_iobinding(binding.real)

        return SimpleNamespace(io_binding=bind, run_with_iobinding=run, get_providers=lambda: self.used)

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    model = graph()
    fields = {"task": "deblur", "precision": "fp32", "weights": "untrained"}
    sizes = {"config": json.dumps(network().config.to_dict()), "profile": json.dumps(profile().to_dict())}
    add_metadata(model, fields | sizes)
    path = tmp_path / "serpent-b-64-fp32.onnx"
    path.write_bytes(serialize(model))
    return path


@pytest.fixture
def device() -> HostDevice:
    return HostDevice(index=1)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, device: HostDevice) -> StandIn:
    """ONNX Runtime with a GPU, and a native library whose CUDA kernels are the CPU's."""
    found = StandIn()
    real = native.library()

    def scan_cuda(shape: ScanShape, pointers: ScanPointers, workspace: int, size: int, stream: int) -> None:
        assert stream in device.alive["stream"]
        assert device.is_current()
        assert workspace != 0
        assert size == real.workspace_size(shape)
        real.scan_cpu(shape, pointers, 1)

    library = SimpleNamespace(has_cuda=True, path=real.path, workspace_size=real.workspace_size, scan_cuda=scan_cuda)
    library.scan_cpu = real.scan_cpu
    monkeypatch.setattr(onnx_cuda, "ort", found)
    monkeypatch.setattr(native, "library", lambda: library)
    monkeypatch.setattr(onnx_cuda, "load_cuda", lambda *_: SimpleNamespace(count=lambda: 2))
    monkeypatch.setattr(onnx_cuda, "CudaDevice", lambda _cuda, _index: device)
    return found


def test_the_gpu_session_gives_what_the_cpu_session_gives(file: Path, stand_in: StandIn, device: HostDevice) -> None:
    image = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    with OnnxSession(file, "cuda:1") as session:
        assert (session.info.device, session.info.scan) == ("cuda:1", "native")
        stream = next(iter(device.alive["stream"]))
        restored = session.run(image)
        assert np.array_equal(session.run(image), restored)
        assert session.times.total > 0
    assert not any(device.alive.values())
    with OnnxSession(file, "cpu", threads=1) as session:
        assert np.array_equal(session.run(image), restored)
    # Everything lies on that GPU, runs on that stream in f32 proper, and nobody waits between the steps.
    options = {"device_id": "1", "user_compute_stream": str(stream), "use_tf32": "0"}
    assert stand_in.providers == [("CUDAExecutionProvider", options)] * 15
    assert set(stand_in.placed) == {("cuda", 1)}
    assert {(kind, index) for _, kind, index in stand_in.outputs} == {("cuda", 1)}
    assert stand_in.options == [{"disable_synchronize_execution_providers": "1"}] * 30
    with pytest.raises(SerpentError, match="closed\n  open it again"):
        session.run(image)


@pytest.mark.parametrize("passing", [15, 7, 0], ids=["a whole run", "a run that fails midway", "at its start"])
def test_what_the_stream_may_still_use_is_freed_when_it_is_done(
    file: Path, stand_in: StandIn, device: HostDevice, monkeypatch: pytest.MonkeyPatch, passing: int
) -> None:
    image = np.zeros((1, 3, 64, 64), np.float32)
    held: list[list[bool]] = []
    synchronize = device.synchronize

    def wait(stream: int) -> None:
        held.append([made() is not None for made in stand_in.made])
        synchronize(stream)

    with OnnxSession(file, "cuda") as session:
        stand_in.made.clear()  # the weights, which stay
        stand_in.failing, stand_in.passing = "no memory", passing
        monkeypatch.setattr(device, "synchronize", wait)
        try:
            session.run(image)
        except EngineError:
            assert passing < 15
        # The image, and of each scan that was enqueued its result and its workspace.
        assert held == [[True] * (1 + 2 * min(passing, 14))]
        assert not any(made() for made in stand_in.made)


def test_a_failing_run_is_our_error(file: Path, stand_in: StandIn) -> None:
    with OnnxSession(file, "cuda") as session:
        stand_in.failing = "no memory"
        with pytest.raises(EngineError, match="failed on the GPU with an image of 1x3x64x64: no memory"):
            session.run(np.zeros((1, 3, 64, 64), np.float32))


def test_no_memory_for_the_weights_is_our_error(file: Path, stand_in: StandIn, device: HostDevice) -> None:
    stand_in.full = True
    with pytest.raises(EngineError, match="failed on the GPU while the file was opened: no memory"):
        OnnxSession(file, "cuda")
    assert not any(device.alive.values())


def test_a_cuda_provider_that_did_not_start_is_no_silent_cpu_session(
    file: Path, stand_in: StandIn, device: HostDevice
) -> None:
    stand_in.used = ["CPUExecutionProvider"]  # what ONNX Runtime does without cuDNN
    with pytest.raises(EngineError, match=r"cannot start its CUDA provider on cuda:1; .*cuDNN.*\n.*--device cpu"):
        OnnxSession(file, "cuda:1")
    assert not any(device.alive.values())


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("device_name", "options", "message"),
    [
        ("cuda:7", {}, "'cuda:7': CUDA sees 2 GPUs, numbered from 0"),
        ("gpu", {}, "device 'gpu' cannot run an ONNX file; expected auto, cpu, cuda or cuda:N"),
        ("cuda:x", {}, "device 'cuda:x' cannot run"),
        ("cuda", {"scan": "function"}, "scan 'function' was asked for on cuda"),
    ],
)
def test_what_there_is_not_is_refused(file: Path, device_name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        OnnxSession(file, device_name, **options)


def test_an_installation_without_cuda_is_told_what_is_missing(
    file: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "library", lambda: SimpleNamespace(has_cuda=False, path=Path("libserpent.so")))
    with pytest.raises(NativeLibraryError, match=r"libserpent\.so was built without CUDA kernels"):
        OnnxSession(file, "cuda")
    monkeypatch.setattr(stand_in, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UsageError, match=r"has no CUDA provider\n.*onnx-gpu"):
        OnnxSession(file, "cuda")


def test_the_stand_in_has_the_names_of_the_real_module() -> None:
    for name in ("OrtValue", "RunOptions", "SessionOptions", "InferenceSession", "get_available_providers"):
        assert hasattr(onnxruntime, name)
    for name in ("io_binding", "run_with_iobinding", "get_providers"):
        assert hasattr(onnxruntime.InferenceSession, name)
    for name in ("bind_ortvalue_input", "bind_output", "get_outputs"):
        assert hasattr(onnxruntime.IOBinding, name)
