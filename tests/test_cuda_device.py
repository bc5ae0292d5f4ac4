"""CUDA's calls, checked: the real bindings take the arguments, errors are sentences, a broken capture is ended."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from serpent.errors import EngineError
from serpent.runtime.cuda_device import Cuda, CudaDevice
from tests.cuda_stand_in import Cuda as StandIn
from tests.cuda_stand_in import Status

CALLS: dict[str, Callable[[CudaDevice], Any]] = {
    "active": lambda device: device.active().__enter__(),
    "name": lambda device: device.name(),
    "free_bytes": lambda device: device.free_bytes(),
    "free": lambda device: device.free(4096),
    "free_pinned": lambda device: device.free_pinned(4096),
    "copy_in": lambda device: device.copy_in(4096, 8192, 16, 5),
    "copy_out": lambda device: device.copy_out(4096, 8192, 16, 5),
    "create_stream": lambda device: device.create_stream(),
    "destroy_stream": lambda device: device.destroy_stream(5),
    "synchronize": lambda device: device.synchronize(5),
    "create_event": lambda device: device.create_event(),
    "destroy_event": lambda device: device.destroy_event(7),
    "record": lambda device: device.record(7, 5),
    "wait": lambda device: device.wait(5, 7),
    "synchronize_event": lambda device: device.synchronize_event(7),
    "capture": lambda device: device.capture(5, lambda: None),
    "launch": lambda device: device.launch(3, 5),
    "destroy_graph": lambda device: device.destroy_graph(3),
    "index_of": lambda device: device.index_of(4096),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_real_bindings_take_the_arguments_and_a_missing_driver_is_one_sentence(name: str) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-python")
    if runtime.cudaGetDeviceCount()[0] != runtime.cudaError_t.cudaErrorInsufficientDriver:
        pytest.skip("there is a driver, which these made-up handles must not reach")
    device = CudaDevice(Cuda(runtime, pytest.importorskip("cuda.bindings.driver")), 0)
    with pytest.raises(EngineError, match="the NVIDIA driver is too old for the CUDA runtime"):
        CALLS[name](device)


def test_every_method_of_the_interface_is_covered() -> None:
    public = {name for name in vars(CudaDevice) if not name.startswith("_")}
    assert public - set(CALLS) == {"allocate", "allocate_pinned"}


def fail(_: Any = None) -> None:
    raise EngineError("the plan failed")


@pytest.mark.parametrize("device_of_caller", [0, 1])
def test_the_callers_device_is_current_again_after_every_call(device_of_caller: int) -> None:
    runtime = StandIn((8, 9), (9, 0))
    device = CudaDevice(Cuda(runtime, runtime), 1)
    runtime.device = device_of_caller
    seen: list[int] = []
    stream, event = device.create_stream(), device.create_event()
    address, pinned = device.allocate(16), device.allocate_pinned(16)
    device.copy_in(address, pinned, 16, stream)
    device.record(event, stream)
    graph = device.capture(stream, lambda: seen.append(runtime.device))
    device.launch(graph, stream)
    with pytest.raises(EngineError, match="the plan failed"), device.active():
        fail(seen.append(runtime.device))
    device.free(address)
    assert runtime.device == device_of_caller
    assert seen == [1, 1]
    assert set(runtime.used) == {1}
    assert runtime.contexts == {1}  # none on the caller's, which would take memory there


def test_a_device_without_memory_for_a_context_is_one_sentence() -> None:
    runtime, device = opened()
    runtime.full_device = 0
    with pytest.raises(EngineError, match=r"cuDevicePrimaryCtxRetain failed: out of memory\n  serpent-doctor"):
        device.create_stream()
    assert runtime.lent == []


def opened() -> tuple[StandIn, CudaDevice]:
    runtime = StandIn((8, 9))
    return runtime, CudaDevice(Cuda(runtime, runtime), 0)


def test_memory_events_and_what_an_address_belongs_to() -> None:
    runtime, device = opened()
    address = device.allocate(16)
    assert (device.index_of(address), device.index_of(address + 1)) == (0, None)
    assert (device.free_bytes(), device.name()) == (2**30, "A GPU 00")
    stream, event = device.create_stream(), device.create_event()
    device.record(event, stream)
    device.wait(stream, event)
    device.synchronize_event(event)
    device.free(address)
    device.destroy_event(event)
    device.destroy_stream(stream)
    assert (runtime.memory, runtime.streams, runtime.events) == ({}, set(), set())


def test_the_name_is_asked_for_without_a_context_on_the_device() -> None:
    runtime, device = opened()
    assert device.name() == "A GPU 00"
    assert runtime.contexts == set()


@pytest.mark.parametrize("allocate", ["allocate", "allocate_pinned"])
def test_memory_that_is_not_there_is_told_with_sizes(allocate: str) -> None:
    runtime, device = opened()
    runtime.allocations_left = 0
    with pytest.raises(
        EngineError, match=r"out of memory; 3 MiB were asked for, cuda:0 has 1024 MiB free\n.*fewer cont"
    ):
        getattr(device, allocate)(3 * 2**20)


def test_a_capture_becomes_a_graph() -> None:
    runtime, device = opened()
    stream = device.create_stream()
    graph = device.capture(stream, lambda: runtime.captures.append(("work", stream)))
    device.launch(graph, stream)
    device.destroy_graph(graph)
    assert [name for name, _ in runtime.captures] == ["begin", "work", "end", "destroy", "launch", "destroy"]


@pytest.mark.parametrize(
    ("ended", "calls"),
    [((Status.cudaSuccess, 55), ["begin", "destroy"]), ((Status.cudaErrorMemoryAllocation, None), ["begin"])],
    ids=["with a graph of the calls until then", "with none"],
)
def test_a_capture_that_fails_is_ended_and_leaves_no_graph(
    monkeypatch: pytest.MonkeyPatch, ended: tuple[Status, int | None], calls: list[str]
) -> None:
    runtime, device = opened()
    stream = device.create_stream()
    streams: list[int] = []
    monkeypatch.setattr(runtime, "cudaStreamEndCapture", lambda given: streams.append(given) or ended)
    with pytest.raises(EngineError, match="the plan failed"):
        device.capture(stream, fail)
    assert [name for name, _ in runtime.captures] == calls
    assert streams == [stream]


def test_any_other_status_is_named() -> None:
    runtime = SimpleNamespace(
        cudaError_t=Status,
        cudaGetDeviceCount=lambda: (Status.cudaErrorMemoryAllocation, None),
        cudaGetErrorString=lambda _status: (Status.cudaSuccess, b"out of memory"),
    )
    with pytest.raises(EngineError, match=r"cudaGetDeviceCount failed: out of memory\n  serpent-doctor"):
        Cuda(runtime, None).count()
