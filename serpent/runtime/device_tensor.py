"""GPU tensors of other libraries as addresses, and ours as theirs, through DLPack and the CUDA array interface.

Nothing is copied, and no library of tensors is needed: DLPack is one C structure in a Python capsule.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np

from serpent.errors import ArgumentError
from serpent.runtime.tensorrt_engine import Device, Shape

CUDA, CUDA_MANAGED = 2, 13
"""DLPack's device types of GPU memory."""

_KINDS = {"i": 0, "u": 1, "f": 2, "b": 6}
_DEFAULT_STREAM = 1
"""DLPack's and the CUDA array interface's name of stream 0, which would be ambiguous there."""


class _DLDevice(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("index", ctypes.c_int32)]


class _DLDataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _DLDevice),
        ("ndim", ctypes.c_int32),
        ("dtype", _DLDataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _DLManagedTensor(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_DLManagedTensor))
_DLManagedTensor._fields_ = [("tensor", _DLTensor), ("manager", ctypes.c_void_p), ("deleter", _Deleter)]

_CapsuleDestructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_api = ctypes.pythonapi
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _CapsuleDestructor)(
    ("PyCapsule_New", _api)
)
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
# These two see a capsule that is being destroyed, which no Python reference may reach any more.
_is_capsule = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
_raw_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_CAPSULE = b"dltensor"


@dataclass(frozen=True)
class DeviceView:
    """Dense device memory of somebody else, readable while ``owner`` lives."""

    address: int
    shape: Shape
    dtype: str
    owner: object


def view_of(tensor: Any, name: str, device: Device, stream: int) -> DeviceView:
    """The memory of a GPU tensor, once ``stream`` has waited for whatever still writes it; ``device`` is current.

    Args:
        tensor: has ``__dlpack__`` and ``__dlpack_device__``, or ``__cuda_array_interface__``.
        name: what messages call it.
        device: the device that it must lie on.
        stream: where it will be used.

    Raises:
        ArgumentError: no such object, not on ``device``, or not C-contiguous.
    """
    if hasattr(tensor, "__dlpack__") and hasattr(tensor, "__dlpack_device__"):
        view, strides = _from_dlpack(tensor, name, device, stream)
    elif hasattr(tensor, "__cuda_array_interface__"):
        view, strides = _from_cuda_array(tensor, name, device, stream)
    else:
        raise ArgumentError(
            f"{name} is a {type(tensor).__name__}; expected a GPU tensor that offers DLPack or __cuda_array_interface__"
        )
    if strides is not None and not _is_dense(view.shape, strides):
        raise ArgumentError(f"{name} of shape {view.shape} with strides {strides} is not C-contiguous")
    return view


def _check_index(index: int, name: str, device: Device) -> None:
    if index != device.index:
        raise ArgumentError(f"{name} lies on cuda:{index}; the session runs on cuda:{device.index}")


def _from_dlpack(tensor: Any, name: str, device: Device, stream: int) -> tuple[DeviceView, Shape | None]:
    kind, index = map(int, tensor.__dlpack_device__())
    if kind not in (CUDA, CUDA_MANAGED):
        raise ArgumentError(
            f"{name} lies in host memory (DLPack device type {kind}); expected a GPU tensor",
            hint="call the session itself with numpy pictures: session(images)",
        )
    _check_index(index, name, device)  # before PyTorch, which hands over tensors of the current device alone, says less
    try:
        capsule = tensor.__dlpack__(stream=stream or _DEFAULT_STREAM)
    except (BufferError, RuntimeError) as error:  # a tensor that requires a gradient, for example
        raise ArgumentError(f"{name} cannot be handed over: {' '.join(str(error).split())}") from None
    managed = ctypes.cast(_pointer_of(capsule, _CAPSULE), ctypes.POINTER(_DLManagedTensor)).contents
    raw = managed.tensor
    kinds = {code: letter for letter, code in _KINDS.items()}
    code, bits, lanes = raw.dtype.code, raw.dtype.bits, raw.dtype.lanes
    known = code in kinds and lanes == 1 and bits in (8, 16, 32, 64) and not (kinds[code] == "f" and bits == 8)
    dtype = np.dtype(f"{kinds[code]}{bits // 8}").name if known else f"DLPack type {code} of {bits} bits x {lanes}"
    shape = tuple(raw.shape[axis] for axis in range(raw.ndim))
    strides = tuple(raw.strides[axis] for axis in range(raw.ndim)) if raw.strides else None
    address = (raw.data or 0) + raw.byte_offset
    # The capsule was not consumed: when it goes, it tells the owner that nobody looks any more.
    return DeviceView(address, shape, dtype, capsule), strides


def _from_cuda_array(tensor: Any, name: str, device: Device, stream: int) -> tuple[DeviceView, Shape | None]:
    fields = tensor.__cuda_array_interface__
    dtype = np.dtype(fields["typestr"])
    address, shape = int(fields["data"][0]), tuple(fields["shape"])
    index = device.index_of(address)
    if index is None:
        raise ArgumentError(f"{name} lies in host memory; expected a GPU tensor")
    _check_index(index, name, device)
    producer = fields.get("stream")
    if producer is not None and producer != (stream or _DEFAULT_STREAM):
        event = device.create_event()
        try:
            device.record(event, 0 if producer == _DEFAULT_STREAM else producer)
            device.wait(stream, event)
        finally:
            device.destroy_event(event)
    strides = fields.get("strides")
    elements = None if strides is None else tuple(step // dtype.itemsize for step in strides)
    return DeviceView(address, shape, dtype.name, tensor), elements


def _is_dense(shape: Shape, strides: Shape) -> bool:
    if 0 in shape:
        return True  # of no element; libraries give such strides as they like
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


class DeviceTensor:
    """A result on the GPU. ``torch.from_dlpack``, ``cupy.from_dlpack`` and the like take it without a copy.

    Its memory is freed when it and all that was made from it are gone.

    Attributes:
        shape: of the tensor.
        dtype: numpy name of its type.
        address: of its first element.
    """

    def __init__(self, device: Device, shape: Shape, dtype: str) -> None:
        self.shape, self.dtype = shape, dtype
        self._device = device
        self._stream = 0
        self._event = device.create_event()
        weakref.finalize(self, device.destroy_event, self._event).atexit = False
        self.address = device.allocate(max(math.prod(shape), 1) * np.dtype(dtype).itemsize)
        # At exit the driver frees everything, and may be gone before this would run.
        weakref.finalize(self, device.free, self.address).atexit = False

    def written_on(self, stream: int) -> None:
        """Note that what ``stream`` does until here gives the tensor its values."""
        self._stream = stream
        self._device.record(self._event, stream)

    def synchronize(self) -> None:
        """Wait until the values are there."""
        self._device.synchronize_event(self._event)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self._device.index

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A capsule for the consumer's stream; see the array API standard."""
        del max_version  # the capsule without a version is understood everywhere
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("this tensor is handed over where it lies, without a copy")
        if stream != -1:  # -1: the consumer sees to the order itself
            consumer = 0 if stream in (None, _DEFAULT_STREAM) else stream
            self._device.wait(consumer, self._event)
        return _capsule(self, self.address, self.shape, self.dtype, self.__dlpack_device__())

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": np.dtype(self.dtype).str,
            "data": (self.address, False),
            "strides": None,
            "stream": self._stream or _DEFAULT_STREAM,
            "version": 3,
        }


_exported: dict[int, tuple[object, ...]] = {}
"""What capsules still need, by the address of their structure."""


def _capsule(owner: object, address: int, shape: Shape, dtype: str, device: tuple[int, int]) -> Any:
    kind = np.dtype(dtype)
    sizes = (ctypes.c_int64 * len(shape))(*shape)
    tensor = _DLTensor(
        data=address,
        device=_DLDevice(*device),
        ndim=len(shape),
        dtype=_DLDataType(_KINDS[kind.kind], 8 * kind.itemsize, 1),
        shape=sizes,
        strides=None,
        byte_offset=0,
    )
    managed = _DLManagedTensor(tensor, None, _deleter)
    key = ctypes.addressof(managed)
    _exported[key] = (managed, sizes, owner)
    return _new_capsule(key, _CAPSULE, _destructor)


def _release(managed: Any) -> None:
    _exported.pop(ctypes.addressof(managed.contents), None)


def _destroy(capsule: int) -> None:
    # A consumer renames the capsule and calls the deleter itself.
    if _is_capsule(capsule, _CAPSULE):
        _exported.pop(_raw_pointer_of(capsule, _CAPSULE), None)


# Here, not in a call: a callback must outlive every capsule.
_deleter = _Deleter(_release)
_destructor = _CapsuleDestructor(_destroy)


def stream_handle(stream: Any) -> int:
    """The address of a CUDA stream: an integer, or an object of torch, CuPy or cuda.core; None is the default stream.

    Raises:
        ArgumentError: none of these.
    """
    if stream is None:
        return 0
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    for attribute in ("cuda_stream", "ptr"):
        if hasattr(stream, attribute):
            return int(getattr(stream, attribute))
    if isinstance(stream, bool) or not isinstance(stream, int):
        raise ArgumentError(f"stream is {stream!r}; expected a CUDA stream or its address")
    return stream
