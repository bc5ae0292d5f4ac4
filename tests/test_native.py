"""The native library through ctypes and numpy: same numbers as torch, sizes of the workspace, refusals."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from scan_cases import DTYPES, NAMES, Sizes, arguments
from serpent import native
from serpent.errors import ArgumentError, NativeLibraryError, OutOfMemoryError
from serpent.native import ScanPointers, ScanShape
from serpent.scan import selective_scan_2d

BASE = Sizes(batch=2, channels=17)
SHAPE = ScanShape(batch=2, height=16, width=20, channels=3, d_state=5, dt_rank=2, dtype="f32")
NOWHERE = ScanPointers(*[64] * 7)  # not NULL; never followed


def arrays(dtype: str = "f32") -> dict[str, Any]:
    tensors = arguments(BASE, DTYPES[dtype])
    found = [
        t.view(torch.int16).numpy().view(ml_dtypes.bfloat16) if t.dtype == torch.bfloat16 else t.numpy()
        for t in tensors
    ]
    return dict(zip(NAMES, found, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_and_torch_give_the_same_bits(dtype: str) -> None:
    inputs = arrays(dtype)
    y = native.selective_scan_2d(**inputs)
    expected = selective_scan_2d(*arguments(BASE, DTYPES[dtype]))
    assert y.dtype == inputs["x"].dtype
    assert y.shape == tuple(expected.shape)
    assert y.tobytes() == expected.view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("x", lambda a: a.transpose(0, 2, 1, 3), r"x with strides \(.*\) is not C-contiguous"),
        ("A", lambda a: a[:, ::2], r"A with strides \(.*\) is not C-contiguous"),
        ("x", lambda a: a[0], r"x, A, dt_weight have ranks 3, 3, 3; expected 4, 3, 3"),
        ("x", lambda a: a.astype(np.int32), r"x has dtype int32; expected one of float32, float64, float16, bfloat16"),
        ("x", lambda a: a.astype(">f4"), r"x has dtype >f4; .*this machine's byte order"),
        ("A", lambda a: a.astype(">f4"), r"A is >f4\(4, 17, 6\); expected float32\(4, 17, 6\)"),
        ("x_dbl", lambda a: a.astype(np.float16), r"x_dbl is float16\(2, 5, 9, 56\); expected float32\(2, 5, 9, 56\)"),
        ("dt_bias", lambda a: a.astype(np.float64), r"dt_bias is float64\(4, 17\); expected float32\(4, 17\)"),
        ("dt_weight", lambda a: a[:3], r"dt_weight is float32\(3, 17, 2\); expected float32\(4, 17, 2\)"),
        ("D_skip", lambda a: a[0], r"D_skip is float32\(17,\); expected float32\(4, 17\)"),
    ],
)
def test_wrong_arrays_are_named(name: str, spoil: Any, message: str) -> None:
    inputs = arrays()
    inputs[name] = spoil(inputs[name])
    with pytest.raises(ArgumentError, match=message):
        native.selective_scan_2d(**inputs)


@pytest.mark.parametrize("threads", [0, -1])
def test_the_number_of_threads_is_checked(threads: int) -> None:
    with pytest.raises(ArgumentError, match=f"num_threads is {threads}; expected >= 1"):
        native.selective_scan_2d(**arrays(), threads=threads)


def test_workspace_by_hand() -> None:
    # 16 * 20 = 320 pixels are 2 chunks of at most 256; 2 pictures * 4 directions * 2 chunks * 3 channels = 48 rows.
    # States 48 * 5 * 4 B = 960, aligned to 256: 1024. Sums of dt 48 * 4 B = 192: 256.
    # Two images of 2 * 320 * 3 * 4 B = 7680, which is 30 * 256: 15360.
    assert native.library().workspace_size(SHAPE) == 1024 + 256 + 15360


@pytest.mark.parametrize("field", ["batch", "height", "width", "channels", "d_state", "dt_rank"])
def test_workspace_never_shrinks_as_a_size_grows(field: str) -> None:
    sizes = [1, 2, 3, 15, 16, 17, 63, 64]
    if field not in ("d_state", "dt_rank"):
        sizes += [65, 255, 256, 257, 1000, 2**20, 2**30, 2**40]
    changes: list[dict[str, Any]] = [{field: size} for size in sizes]
    shapes = [dataclasses.replace(SHAPE, **change) for change in changes]
    needed = [native.library().workspace_size(shape) for shape in shapes]
    assert needed == sorted(needed)
    assert (needed[-1] > needed[0]) == (field != "dt_rank")


def test_the_largest_shape_that_is_accepted_has_a_workspace_that_did_not_overflow() -> None:
    needed = []
    for exponent in range(20, 63):
        shape = ScanShape(1, 1, 1, 2**exponent, 64, 1, "f32")
        try:
            needed.append(native.library().workspace_size(shape))
        except ArgumentError:
            break
        # One chunk of 64 states for each channel in each of 4 directions, f32, is the least there must be.
        assert needed[-1] >= 2**exponent * 4 * 64 * 4
    assert 20 < len(needed) < 43  # some are accepted, and not all


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch": -1}, "batch is -1; expected >= 0"),
        ({"height": 0}, "height is 0; expected >= 1"),
        ({"width": -3}, "width is -3; expected >= 1"),
        ({"channels": 0}, "channels is 0; expected >= 1"),
        ({"d_state": 0}, "d_state is 0; expected >= 1 and <= {most}"),
        ({"d_state": 257}, "d_state is 257; expected >= 1 and <= {most}"),
        ({"dt_rank": 0}, "dt_rank is 0; expected >= 1 and <= {most}"),
        ({"dt_rank": 257}, "dt_rank is 257; expected >= 1 and <= {most}"),
        ({"dtype": "int8"}, "dtype is 'int8'; expected one of f32, f64, f16, bf16"),
        ({"height": 2**31, "width": 2**31}, "exceeds what 64-bit offsets address"),
        ({"batch": 2**62}, "exceeds what 64-bit offsets address"),
        ({"channels": 2**58, "d_state": 64}, "exceeds what 64-bit offsets address"),
        ({"width": 2**63}, "9223372036854775808, which is no 64-bit integer"),
        ({"width": 2**64 + 1}, "18446744073709551617, which is no 64-bit integer"),
    ],
)
def test_sizes_that_cannot_be_are_named(fields: dict[str, Any], message: str) -> None:
    shape = dataclasses.replace(SHAPE, **fields)
    with pytest.raises(ArgumentError, match=message.format(most=64)):  # of the CUDA kernels
        native.library().workspace_size(shape)
    with pytest.raises(ArgumentError, match=message.format(most=256)):
        native.library().scan_cpu(shape, NOWHERE, 1)


@pytest.mark.parametrize("number", [-1, 4])
def test_a_dtype_number_that_is_none_is_named(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(native.DTYPES, "f32", number)
    with pytest.raises(ArgumentError, match=f"dtype is {number}; expected >= 0 and <= 3"):
        native.library().workspace_size(SHAPE)


def test_an_empty_batch_needs_no_workspace_and_no_pointers() -> None:
    empty = dataclasses.replace(SHAPE, batch=0)
    nothing = ScanPointers(*[0] * 7)
    assert native.library().workspace_size(empty) == 0
    native.library().scan_cpu(empty, nothing, 1)
    with pytest.raises(ArgumentError, match="x is NULL"):
        native.library().scan_cpu(SHAPE, nothing, 1)


def test_memory_that_cannot_be_had_is_an_error() -> None:
    # Sums in f32 of an f16 picture: beyond a 47-bit address space.
    huge = dataclasses.replace(SHAPE, height=2**22, width=2**21, dtype="f16")
    with pytest.raises(OutOfMemoryError, match="out of memory"):
        native.library().scan_cpu(huge, NOWHERE, 1)


def test_cuda_without_kernels_fails_in_one_sentence() -> None:
    if native.library().has_cuda:
        pytest.skip("this library has the CUDA kernels")
    needed = native.library().workspace_size(SHAPE)
    with pytest.raises(NativeLibraryError) as refusal:
        native.library().scan_cuda(SHAPE, NOWHERE, 256, needed, 0)
    assert refusal.value.message == "this native library was built without CUDA kernels"


@pytest.mark.parametrize(
    ("shape", "workspace", "missing", "message"),
    [
        (SHAPE, 256, 1, "workspace has 16639 bytes; this shape needs 16640"),
        (SHAPE, 0, 0, "workspace has 0 bytes; this shape needs 16640"),
        (dataclasses.replace(SHAPE, dtype="f64"), 256, 0, "dtype is f64; the CUDA scan takes f32, f16 and bf16"),
        (dataclasses.replace(SHAPE, height=0), 256, 0, "height is 0; expected >= 1"),
    ],
    ids=["small", "null", "f64", "shape"],
)
def test_cuda_arguments_are_checked_without_a_gpu(shape: ScanShape, workspace: int, missing: int, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        native.library().scan_cuda(shape, NOWHERE, workspace, 16640 - missing, 0)


def test_another_abi_is_refused_in_one_sentence(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform == "win32":
        pytest.skip("no C compiler to make a foreign library with")
    source, stub = tmp_path / "stub.c", tmp_path / "stub.so"
    source.write_text("int serpent_abi_version(void) { return 99; }")
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", stub], check=True)
    with pytest.raises(NativeLibraryError) as refusal:
        native.Library(stub)
    assert refusal.value.message == f"{stub} has ABI 99, this package needs {native.ABI_VERSION}"
    assert refusal.value.hint is not None
    assert "reinstall" in refusal.value.hint
