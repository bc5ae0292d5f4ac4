"""The native library ``libserpent`` through ctypes: no torch, and numpy only inside :func:`selective_scan_2d`.

Found, in this order: the file named by the environment variable ``SERPENT_LIBRARY``; the one installed
beside this package (wheel and editable installs); a plain CMake build in ``build/`` of a source checkout.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import os
import sys
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serpent.config import NUM_DIRECTIONS
from serpent.errors import ArgumentError, NativeLibraryError, OutOfMemoryError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ABI_VERSION = 2

DTYPES = {"f32": 0, "f64": 1, "f16": 2, "bf16": 3}
"""Storage types of the scan, as ``serpent_dtype`` numbers them."""

_STATUS = {1: "invalid argument", 2: "unsupported", 3: "out of memory", 4: "internal error", 5: "CUDA error"}
_INVALID_ARGUMENT = 1
_OUT_OF_MEMORY = 3
_NUMPY_NAMES = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16"}


class _Shape(ctypes.Structure):
    _fields_ = [
        ("batch", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("d_state", ctypes.c_int64),
        ("dt_rank", ctypes.c_int64),
        ("dtype", ctypes.c_int32),
    ]


class _Tensors(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("x", "x_dbl", "dt_weight", "dt_bias", "A", "D_skip", "y")]


class _Gradients(ctypes.Structure):
    _fields_ = [
        (f"grad_{name}", ctypes.c_void_p) for name in ("y", "x", "x_dbl", "dt_weight", "dt_bias", "A", "D_skip")
    ]


class _Error(ctypes.Structure):
    _fields_ = [("message", ctypes.c_char * 256)]


@dataclass(frozen=True)
class ScanShape:
    """Sizes of one scan: B, H, W, D, N, R and the storage type (a key of :data:`DTYPES`)."""

    batch: int
    height: int
    width: int
    channels: int
    d_state: int
    dt_rank: int
    dtype: str

    def _as_c(self) -> _Shape:
        if self.dtype not in DTYPES:
            raise ArgumentError(f"dtype is {self.dtype!r}; expected one of {', '.join(DTYPES)}")
        sizes = (self.batch, self.height, self.width, self.channels, self.d_state, self.dt_rank)
        for size in sizes:
            if not -(2**63) <= size < 2**63:  # ctypes would keep the low bits
                raise ArgumentError(f"{self} has the size {size}, which is no 64-bit integer")
        return _Shape(*sizes, DTYPES[self.dtype])


@dataclass(frozen=True)
class ScanPointers:
    """Addresses of dense arrays laid out as ``serpent/scan.h`` says (host or device, by function).

    A backward pass does not look at ``y``, which may then be left out.
    """

    x: int
    x_dbl: int
    dt_weight: int
    dt_bias: int
    A: int
    D_skip: int
    y: int = 0

    def _as_c(self) -> _Tensors:
        return _Tensors(*astuple(self))


@dataclass(frozen=True)
class ScanGradients:
    """Addresses of dL/dy, which is read, and of dL/d(input), which are overwritten.

    Each array has the layout and type of the array of its name; none may overlap another.
    """

    grad_y: int
    grad_x: int
    grad_x_dbl: int
    grad_dt_weight: int
    grad_dt_bias: int
    grad_A: int
    grad_D_skip: int

    def _as_c(self) -> _Gradients:
        return _Gradients(*astuple(self))


class Library:
    """A loaded native library whose ABI has been checked.

    Raises:
        NativeLibraryError: the file cannot be loaded or has another ABI.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._c: Any = ctypes.CDLL(str(path))
            self._c.serpent_abi_version.restype = ctypes.c_int32
            self.abi_version = int(self._c.serpent_abi_version())
        except (OSError, AttributeError) as error:
            raise NativeLibraryError(f"{path} is not a usable native library: {error}", hint=_REINSTALL) from None
        if self.abi_version != ABI_VERSION:
            raise NativeLibraryError(
                f"{path} has ABI {self.abi_version}, this package needs {ABI_VERSION}", hint=_REINSTALL
            )
        self._c.serpent_scan_schema.restype = ctypes.c_int32
        self._c.serpent_has_cuda.restype = ctypes.c_int32

    @property
    def schema(self) -> int:
        """Revision of the workspace-size function, as plans record it."""
        return int(self._c.serpent_scan_schema())

    @property
    def has_cuda(self) -> bool:
        """Whether the CUDA kernels are in this build (asks no device)."""
        return bool(self._c.serpent_has_cuda())

    def workspace_size(self, shape: ScanShape) -> int:
        """Bytes of device workspace for one scan of ``shape``; host-only arithmetic, no GPU needed.

        Raises:
            ArgumentError: a size is out of range.
        """
        return self._size("serpent_scan_workspace_size", shape)

    def backward_workspace_size(self, shape: ScanShape) -> int:
        """Bytes of device workspace for one backward pass of ``shape``; host-only arithmetic, no GPU needed.

        Raises:
            ArgumentError: a size is out of range.
        """
        return self._size("serpent_scan_backward_workspace_size", shape)

    def scan_cpu(self, shape: ScanShape, pointers: ScanPointers, threads: int) -> None:
        """Run one scan on host memory with ``threads`` threads; the result does not depend on them.

        Raises:
            ArgumentError: a size or pointer is out of range.
            OutOfMemoryError: its buffers do not fit into memory.
        """
        c_shape, c_tensors = shape._as_c(), pointers._as_c()
        self._call("serpent_scan_cpu", ctypes.byref(c_shape), ctypes.byref(c_tensors), ctypes.c_int32(threads))

    def scan_backward_cpu(
        self, shape: ScanShape, pointers: ScanPointers, gradients: ScanGradients, threads: int
    ) -> None:
        """Write the gradients of one scan on host memory; the result does not depend on ``threads``.

        An empty batch needs no pointers but those of the four weights' gradients, which are set to zero.

        Raises:
            ArgumentError: a size or pointer is out of range.
            OutOfMemoryError: its buffers do not fit into memory.
        """
        self._call(
            "serpent_scan_backward_cpu",
            ctypes.byref(shape._as_c()),
            ctypes.byref(pointers._as_c()),
            ctypes.byref(gradients._as_c()),
            ctypes.c_int32(threads),
        )

    def scan_cuda(
        self, shape: ScanShape, pointers: ScanPointers, workspace: int, workspace_bytes: int, stream: int
    ) -> None:
        """Enqueue one scan on a CUDA stream; all addresses are device addresses.

        Raises:
            ArgumentError: a size or pointer is out of range.
            NativeLibraryError: the library has no CUDA kernels, or CUDA reports an error.
        """
        self._call(
            "serpent_scan_cuda",
            ctypes.byref(shape._as_c()),
            ctypes.byref(pointers._as_c()),
            ctypes.c_void_p(workspace),
            ctypes.c_uint64(workspace_bytes),
            ctypes.c_void_p(stream),
        )

    def scan_backward_cuda(
        self,
        shape: ScanShape,
        pointers: ScanPointers,
        gradients: ScanGradients,
        workspace: int,
        workspace_bytes: int,
        stream: int,
    ) -> None:
        """Enqueue the backward pass of one scan on a CUDA stream; all addresses are device addresses.

        Raises:
            ArgumentError: a size or pointer is out of range.
            NativeLibraryError: the library has no CUDA kernels, or CUDA reports an error.
        """
        self._call(
            "serpent_scan_backward_cuda",
            ctypes.byref(shape._as_c()),
            ctypes.byref(pointers._as_c()),
            ctypes.byref(gradients._as_c()),
            ctypes.c_void_p(workspace),
            ctypes.c_uint64(workspace_bytes),
            ctypes.c_void_p(stream),
        )

    def _size(self, name: str, shape: ScanShape) -> int:
        size = ctypes.c_uint64()
        self._call(name, ctypes.byref(shape._as_c()), ctypes.byref(size))
        return size.value

    def _call(self, name: str, *arguments: Any) -> None:
        error = _Error()
        status = int(getattr(self._c, name)(*arguments, ctypes.byref(error)))
        if status == 0:
            return
        message = error.message.decode("utf-8", "replace") or _STATUS.get(status, f"status {status}")
        if status == _INVALID_ARGUMENT:
            raise ArgumentError(message)
        if status == _OUT_OF_MEMORY:
            raise OutOfMemoryError(message, hint="take smaller pictures, crops or tiles (--tile 512)")
        raise NativeLibraryError(message)


_REINSTALL = "reinstall the project (pip install .), or point SERPENT_LIBRARY at a matching libserpent"


def library_file_name() -> str:
    """The native library's file name on this platform."""
    return {"win32": "serpent.dll", "darwin": "libserpent.dylib"}.get(sys.platform, "libserpent.so")


def installed_files(name: str) -> list[Path]:
    """Files of that name in the installed distribution; an editable one keeps what was compiled away from here."""
    try:
        files = importlib.metadata.files("serpent-restoration") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())) for file in files if file.name == name]


def find_library() -> Path:
    """Path of the native library that :func:`library` would load.

    Raises:
        NativeLibraryError: there is none; the message lists where it was sought.
    """
    override = os.environ.get("SERPENT_LIBRARY")
    if override:
        if Path(override).is_file():
            return Path(override).absolute()  # a name without a slash would be sought in the system's folders
        raise NativeLibraryError(f"SERPENT_LIBRARY is {override!r}, which is no file", hint="unset it or correct it")
    package, name = Path(__file__).resolve().parent, library_file_name()
    candidates = [package / "lib" / name, *installed_files(name), package.parent / "build" / "plugins" / name]
    for path in candidates:
        if path.is_file():
            return path
    sought = ", ".join(str(path) for path in candidates)
    raise NativeLibraryError(f"the native library was not found; sought {sought}", hint=_REINSTALL)


@functools.cache
def library() -> Library:
    """The process's native library, loaded once.

    Raises:
        NativeLibraryError: not found, not loadable, or of another ABI.
    """
    return Library(find_library())


def default_threads() -> int:
    """CPU threads this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def selective_scan_2d(
    x: NDArray[Any],
    x_dbl: NDArray[Any],
    dt_weight: NDArray[Any],
    dt_bias: NDArray[Any],
    A: NDArray[Any],
    D_skip: NDArray[Any],
    *,
    threads: int | None = None,
) -> NDArray[Any]:
    """Four-direction selective scan of numpy arrays on the CPU (formula: ``serpent/scan.h``).

    Args:
        x: (B, H, W, D), float32, float64, float16 or ml_dtypes bfloat16.
        x_dbl: (B, H, W, 4 * (R + 2N)), dtype of ``x``.
        dt_weight: (4, D, R); float64 for float64 ``x``, else float32, as the next three.
        dt_bias: (4, D).
        A: (4, D, N), negative decay rates.
        D_skip: (4, D).
        threads: CPU threads, all available ones by default.

    Returns:
        y (B, H, W, D), dtype of ``x``.

    Raises:
        ArgumentError: wrong rank, shape, dtype or layout.
    """
    import numpy as np

    named = {"x": x, "x_dbl": x_dbl, "dt_weight": dt_weight, "dt_bias": dt_bias, "A": A, "D_skip": D_skip}
    for name, array in named.items():
        if not array.flags.c_contiguous:
            raise ArgumentError(f"{name} with strides {array.strides} is not C-contiguous")
    if x.ndim != 4 or A.ndim != 3 or dt_weight.ndim != 3:
        raise ArgumentError(f"x, A, dt_weight have ranks {x.ndim}, {A.ndim}, {dt_weight.ndim}; expected 4, 3, 3")
    dtype = _NUMPY_NAMES.get(x.dtype.name) if x.dtype.isnative else None
    if dtype is None:
        raise ArgumentError(
            f"x has dtype {x.dtype}; expected one of {', '.join(_NUMPY_NAMES)}, in this machine's byte order"
        )
    scan_dtype = np.dtype(np.float64 if dtype == "f64" else np.float32)
    batch, height, width, channels = x.shape
    d_state, dt_rank = A.shape[2], dt_weight.shape[2]
    expected = {
        "x_dbl": ((batch, height, width, NUM_DIRECTIONS * (dt_rank + 2 * d_state)), x.dtype),
        "dt_weight": ((NUM_DIRECTIONS, channels, dt_rank), scan_dtype),
        "dt_bias": ((NUM_DIRECTIONS, channels), scan_dtype),
        "A": ((NUM_DIRECTIONS, channels, d_state), scan_dtype),
        "D_skip": ((NUM_DIRECTIONS, channels), scan_dtype),
    }
    for name, (shape, kind) in expected.items():
        if named[name].shape != shape or named[name].dtype != kind:
            got = f"{named[name].dtype}{named[name].shape}"
            raise ArgumentError(f"{name} is {got}; expected {kind}{shape} beside x {x.dtype}{x.shape}")
    y = np.empty_like(x)
    pointers = ScanPointers(*[array.ctypes.data for array in (*named.values(), y)])
    sizes = ScanShape(batch, height, width, channels, d_state, dt_rank, dtype)
    library().scan_cpu(sizes, pointers, default_threads() if threads is None else threads)
    return y
