"""Tensors of other libraries in, ours out: the structure is DLPack's, nothing leaks, what does not fit is refused."""

from __future__ import annotations

import ctypes
import gc
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from serpent.errors import ArgumentError
from serpent.runtime import device_tensor
from serpent.runtime.device_tensor import DeviceTensor, stream_handle, view_of
from serpent.runtime.tensorrt_runner import PlanRunner
from serpent.shapes import Range, ShapeProfile
from standin_device import HostDevice
from standin_plan import StandInEngine, agrees, picture

VALUES = np.arange(24, dtype=np.float32).reshape(1, 3, 2, 4)


def made(device: HostDevice, values: Any = VALUES) -> DeviceTensor:
    tensor = DeviceTensor(device, values.shape, values.dtype.name)
    ctypes.memmove(tensor.address, np.ascontiguousarray(values).ctypes.data, values.nbytes)
    tensor.written_on(0)
    return tensor


class OnTheCpu:
    """Says that the memory of a stand-in device is the host's, which is true."""

    def __init__(self, tensor: DeviceTensor) -> None:
        self._tensor = tensor

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **_: Any) -> Any:
        tensor = self._tensor
        return device_tensor._capsule(tensor, tensor.address, tensor.shape, tensor.dtype, (1, 0))


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int64"])
@pytest.mark.parametrize("consumer", [np.from_dlpack, torch.from_dlpack], ids=["numpy", "torch"])
def test_other_libraries_read_our_tensors_where_they_lie(consumer: Any, dtype: str) -> None:
    device = HostDevice()
    tensor = made(device, VALUES.astype(dtype))
    theirs = consumer(OnTheCpu(tensor))
    assert tuple(theirs.shape) == VALUES.shape
    np.testing.assert_array_equal(np.asarray(theirs), VALUES.astype(dtype))
    ctypes.memset(tensor.address, 0, 1)
    assert np.asarray(theirs).flat[0] == 0  # the same memory
    del tensor
    gc.collect()
    assert device.alive["memory"]  # theirs still needs it
    del theirs
    gc.collect()
    assert not device.alive["memory"]
    assert not device.alive["event"]
    assert device_tensor._exported == {}


def test_a_capsule_that_nobody_took_frees_what_it_holds() -> None:
    device = HostDevice()
    capsule = made(device).__dlpack__(stream=-1)
    assert device.alive["memory"]
    del capsule
    gc.collect()
    assert not device.alive["memory"]
    assert device_tensor._exported == {}


def test_a_view_is_the_tensors_memory_and_lets_go_of_it() -> None:
    device = HostDevice()
    tensor = made(device)
    view = view_of(tensor, "image", device, 0)
    assert (view.address, view.shape, view.dtype) == (tensor.address, VALUES.shape, "float32")
    del view
    gc.collect()
    assert device_tensor._exported == {}


def test_the_consumers_stream_waits_for_the_producers() -> None:
    device = HostDevice()
    producer, consumer = device.create_stream(), device.create_stream()
    tensor = made(device)
    go, order = threading.Event(), []
    device.submit(producer, lambda: (go.wait(30), order.append("written"))[0])  # type: ignore[func-returns-value]
    tensor.written_on(producer)
    view_of(tensor, "image", device, consumer)
    device.submit(consumer, lambda: order.append("read"))
    go.set()
    device.synchronize(consumer)
    assert order == ["written", "read"]


class CudaArray:
    def __init__(self, address: int, **changes: Any) -> None:
        fields = {"shape": VALUES.shape, "typestr": "<f4", "data": (address, False), "strides": None, "version": 3}
        self.__cuda_array_interface__ = fields | changes


def test_the_cuda_array_interface_is_read_too_and_its_stream_waited_for() -> None:
    device = HostDevice()
    tensor = made(device)
    producer, consumer = device.create_stream(), device.create_stream()
    go, order = threading.Event(), []
    device.submit(producer, lambda: (go.wait(30), order.append("written"))[0])  # type: ignore[func-returns-value]
    view = view_of(CudaArray(tensor.address, stream=producer), "image", device, consumer)
    device.submit(consumer, lambda: order.append("read"))
    go.set()
    device.synchronize(consumer)
    assert order == ["written", "read"]
    assert (view.address, view.shape, view.dtype) == (tensor.address, VALUES.shape, "float32")
    ours = tensor.__cuda_array_interface__
    assert (ours["shape"], ours["typestr"], ours["data"], ours["stream"]) == (
        VALUES.shape,
        "<f4",
        (view.address, False),
        1,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strides": (96, 4, 12, 24)}, r"with strides \(24, 1, 3, 6\) is not C-contiguous"),
        ({"data": (12345, False)}, "lies in host memory"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    device = HostDevice()
    tensor = made(device)
    with pytest.raises(ArgumentError, match=message):
        view_of(CudaArray(tensor.address, **changes), "image", device, 0)


def test_a_dense_array_may_give_its_strides() -> None:
    device = HostDevice()
    tensor = made(device)
    assert view_of(CudaArray(tensor.address, strides=(96, 32, 16, 4)), "image", device, 0).address == tensor.address


@pytest.mark.parametrize("values", [np.zeros((1, 3, 0, 16), np.float32), np.zeros((0, 3, 8, 8), np.float32)])
def test_a_tensor_without_elements_is_dense_whatever_its_strides(values: Any) -> None:
    class Empty:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

        def __dlpack__(self, **_: Any) -> Any:
            return torch.from_numpy(values).clone().__dlpack__()

    assert view_of(Empty(), "image", HostDevice(), 0).shape == values.shape


def test_another_gpu_and_a_copy_are_refused() -> None:
    here, there = HostDevice(0), HostDevice(1)
    with pytest.raises(ArgumentError, match="image lies on cuda:1; the session runs on cuda:0"):
        view_of(made(there), "image", here, 0)
    with pytest.raises(BufferError, match="without a copy"):
        made(here).__dlpack__(copy=True)
    with pytest.raises(BufferError, match="without a copy"):
        made(here).__dlpack__(dl_device=(1, 0))


def test_a_tensor_that_its_library_does_not_hand_over_is_refused() -> None:
    class Reluctant:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

        def __dlpack__(self, **_: Any) -> Any:
            return torch.zeros(1, requires_grad=True).__dlpack__()

    with pytest.raises(ArgumentError, match=r"image cannot be handed over: .*grad"):
        view_of(Reluctant(), "image", HostDevice(), 0)


def test_streams_of_every_kind() -> None:
    assert stream_handle(None) == 0
    assert stream_handle(77) == 77
    assert stream_handle(SimpleNamespace(cuda_stream=78)) == 78
    assert stream_handle(SimpleNamespace(ptr=79)) == 79
    assert stream_handle(SimpleNamespace(__cuda_stream__=lambda: (0, 80))) == 80
    for wrong in (True, 1.5, "stream"):
        with pytest.raises(ArgumentError, match="expected a CUDA stream"):
            stream_handle(wrong)


class OfItsDevice:
    """Hands itself over as PyTorch's tensors do: while its own device is the caller's."""

    def __init__(self, tensor: DeviceTensor, device: HostDevice, index: int = 0) -> None:
        self._tensor, self._device, self._index = tensor, device, index

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self._index

    def __dlpack__(self, *, stream: int) -> Any:
        if self._index != self._device.index or not self._device.is_current():
            raise BufferError("Can't export tensors on a different CUDA device index.")
        return self._tensor.__dlpack__(stream=stream)


def test_tensors_are_handed_over_while_the_plan_s_device_is_current() -> None:
    device, side = HostDevice(), Range(16, 16, 16)
    profile = ShapeProfile(Range(1, 1, 1), side, side, 8)
    options: dict[str, Any] = {"profile": profile, "io": "f32-nchw", "contexts": 1, "cuda_graphs": False}
    plan = PlanRunner(StandInEngine(device, profile), device, name="a.plan", free_before=0, **options)
    image = picture(1)
    source, target = made(device, image), made(device, np.zeros_like(image))
    plan.run_on_device(OfItsDevice(source, device), out=OfItsDevice(target, device))
    assert not device.is_current()
    device.synchronize(0)
    restored = np.ctypeslib.as_array((ctypes.c_float * image.size).from_address(target.address)).reshape(image.shape)
    assert agrees(restored, image)
    with pytest.raises(ArgumentError, match="image lies on cuda:1; the session runs on cuda:0"):
        plan.run_on_device(OfItsDevice(source, device, index=1))
    plan.close()
