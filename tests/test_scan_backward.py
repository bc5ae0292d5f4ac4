"""The native backward pass on the CPU against PyTorch's autograd through the sequential reference."""

from __future__ import annotations

import dataclasses
import functools
import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from scan_cases import DTYPES, NAMES, Arguments, Sizes, arguments, converted, relative
from serpent import native
from serpent.errors import ArgumentError, NativeLibraryError, OutOfMemoryError
from serpent.native import ScanGradients, ScanPointers, ScanShape
from serpent.scan import selective_scan_2d_reference

CASES = [
    pytest.param(Sizes(1, 1, 1, 1, 1, 1), id="one-pixel"),
    pytest.param(Sizes(1, 1, 33, 20, 2, 2), id="one-row"),
    pytest.param(Sizes(1, 33, 1, 20, 2, 2), id="one-column"),
    pytest.param(Sizes(), id="base"),
    pytest.param(Sizes(2, 7, 13, 37, 5, 3), id="ragged-channels"),
    pytest.param(Sizes(3, 9, 4, 65, 7, 1), id="three-pictures"),
    pytest.param(Sizes(1, 8, 9, 64, 6, 2), id="whole-tiles"),
    pytest.param(Sizes(1, 4, 11, 20, 43, 17), id="odd-state-and-rank"),
    pytest.param(Sizes(1, 3, 4, 40, 256, 256), id="limits"),
]
SLOW = pytest.mark.parametrize("slow_decay", [False, True], ids=["usual", "slow-decay"])
Gradients = tuple[Tensor, ...]


@functools.cache
def problem(sizes: Sizes, dtype: torch.dtype, slow_decay: bool = False) -> tuple[Arguments, Tensor]:
    """Arguments of a scan and a dL/dy; with slow decays all positive, so that nothing hides what adds up."""
    inputs = arguments(sizes, dtype, slow_decay=slow_decay)
    grad_y = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1))
    return inputs, (grad_y.abs() if slow_decay else grad_y).to(dtype)


def shape_of(inputs: Arguments) -> ScanShape:
    x, _, dt_weight, _, A, _ = inputs
    name = next(name for name, dtype in DTYPES.items() if dtype == x.dtype)
    batch, height, width, channels = x.shape
    return ScanShape(batch, height, width, channels, A.shape[2], dt_weight.shape[2], name)


def backward(inputs: Arguments, grad_y: Tensor, threads: int = 1) -> Gradients:
    """dL/d(input) for each of the six inputs, from the native library."""
    gradients = tuple(torch.full_like(tensor, math.nan) for tensor in inputs)  # so that what is left out shows
    native.library().scan_backward_cpu(
        shape_of(inputs),
        ScanPointers(*[tensor.data_ptr() for tensor in inputs]),
        ScanGradients(*[tensor.data_ptr() for tensor in (grad_y, *gradients)]),
        threads,
    )
    return gradients


@functools.cache
def autograd(sizes: Sizes, stored: torch.dtype, dtype: torch.dtype, slow_decay: bool = False) -> Gradients:
    """The same from the reference in ``dtype``, for the numbers that storage in ``stored`` leaves."""
    inputs, grad_y = problem(sizes, stored, slow_decay)
    leaves = [tensor.requires_grad_() for tensor in converted(inputs, dtype)]
    return torch.autograd.grad(selective_scan_2d_reference(*leaves), leaves, grad_y.to(dtype))


def assert_as_good_as_autograd(sizes: Sizes, dtype: torch.dtype, slow_decay: bool) -> None:
    """Each gradient's error is at most twice that of autograd in f32, rounded to the gradient's type."""
    ours = backward(*problem(sizes, dtype, slow_decay))
    exact = autograd(sizes, dtype, torch.float64, slow_decay)
    peer = autograd(sizes, dtype, torch.float32, slow_decay)
    for name, gradient, truth, other in zip(NAMES, ours, exact, peer, strict=True):
        if not truth.any():  # dL/dA of a single pixel
            assert not gradient.any()
            continue
        # A sum of few terms may come out exact by luck: one rounding is granted in any case.
        allowed = 2 * max(relative(other.to(gradient.dtype) - truth, truth), torch.finfo(gradient.dtype).eps)
        assert relative(gradient - truth, truth) <= allowed, name


@SLOW
@pytest.mark.parametrize("sizes", CASES)
def test_f64_agrees_with_autograd(sizes: Sizes, slow_decay: bool) -> None:
    ours = backward(*problem(sizes, torch.float64, slow_decay))
    exact = autograd(sizes, torch.float64, torch.float64, slow_decay)
    for name, gradient, truth in zip(NAMES, ours, exact, strict=True):
        assert float((gradient - truth).norm()) <= 1e-12 * float(truth.norm()), name


@SLOW
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("sizes", CASES)
def test_f32_sums_are_as_good_as_those_of_autograd(sizes: Sizes, dtype: str, slow_decay: bool) -> None:
    assert_as_good_as_autograd(sizes, DTYPES[dtype], slow_decay)


@SLOW
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_every_instruction_set(isa: str, dtype: str, slow_decay: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERPENT_ISA", isa)
    sizes = Sizes(2, 7, 13, 37, 5, 3)
    try:
        ours = backward(*problem(sizes, DTYPES[dtype], slow_decay))
    except (ArgumentError, NativeLibraryError) as refusal:  # not in this build, not on this machine
        pytest.skip(refusal.message)
    if dtype != "f64":
        assert_as_good_as_autograd(sizes, DTYPES[dtype], slow_decay)
        return
    exact = autograd(sizes, torch.float64, torch.float64, slow_decay)
    for gradient, truth in zip(ours, exact, strict=True):
        assert float((gradient - truth).norm()) <= 1e-12 * float(truth.norm())


LARGE = Sizes(2, 120, 136, 70, 3, 2)  # several rounds of tasks, ragged tiles, chunks and merging pieces


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_change_no_bit(dtype: str) -> None:
    for sizes in (Sizes(3, 9, 4, 65, 7, 1), LARGE):
        inputs, grad_y = problem(sizes, DTYPES[dtype])
        alone = backward(inputs, grad_y)
        for threads in (2, 3, 7, 64):
            for name, one, many in zip(NAMES, alone, backward(inputs, grad_y, threads), strict=True):
                assert torch.equal(one, many), f"{name} with {threads} threads"


def test_large_pictures_against_differences_of_the_forward_pass() -> None:
    """Along a random line through all inputs, dL/ds by the gradients and by central differences, in f64."""
    inputs, grad_y = problem(LARGE, torch.float64)
    generator = torch.Generator().manual_seed(2)
    lines = [torch.randn(tensor.shape, generator=generator, dtype=torch.float64) * 0.01 for tensor in inputs]

    def loss(step: float) -> float:
        moved = [tensor + step * line for tensor, line in zip(inputs, lines, strict=True)]
        y = torch.empty_like(grad_y)
        native.library().scan_cpu(shape_of(inputs), ScanPointers(*[t.data_ptr() for t in (*moved, y)]), 2)
        return float((y * grad_y).sum())

    # Fourth order: the error of a step of 1e-2 along lines of length 1e-2 is of the order 1e-16 of the slope.
    step = 1e-2
    expected = (8 * (loss(step) - loss(-step)) - (loss(2 * step) - loss(-2 * step))) / (12 * step)
    slopes = [float((g * line).sum()) for g, line in zip(backward(inputs, grad_y), lines, strict=True)]
    assert abs(sum(slopes) - expected) <= 1e-8 * max(abs(slope) for slope in slopes)


@SLOW
def test_weights_summed_over_many_pixels_keep_their_digits(slow_decay: bool) -> None:
    inputs, grad_y = problem(Sizes(1, 512, 512, 4, 2, 1), torch.float32, slow_decay)
    ours = backward(inputs, grad_y, 2)
    exact = backward(converted(inputs, torch.float64), grad_y.double(), 2)
    for name, gradient, truth in zip(NAMES, ours, exact, strict=True):
        # A slow decay makes h almost independent of dt: what a longer step adds, the stronger decay takes away. The
        # sum that is left of such terms has fewer digits than they have.
        if not (slow_decay and name.startswith("dt_")):
            assert relative(gradient - truth, truth) <= 2e-6, name


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf], ids=["nan", "-nan", "inf", "-inf"])
@pytest.mark.parametrize("name", ["x", "dt_r", "B", "C", "grad_y", "A", "dt_bias"])
def test_what_is_not_finite_reaches_what_it_must_and_no_more(name: str, value: float, dtype: str) -> None:
    if (name, value) == ("A", math.inf):
        pytest.skip("A is negative by contract")
    sizes = Sizes(2, 5, 8, 37, 3, 2)  # with lanes past D
    sound, grad_y = problem(sizes, DTYPES[dtype])
    inputs = x, x_dbl, _, dt_bias, A, _ = tuple(tensor.clone() for tensor in sound)
    grad_y = grad_y.clone()
    column = {"dt_r": 8, "B": 10, "C": 14}  # of direction 1, which has R + 2N = 8 of them
    if name in column:
        x_dbl[0, 2, 3, column[name]] = value
    else:
        {"x": x[0, 2, 3], "grad_y": grad_y[0, 2, 3], "A": A[1, :, 1], "dt_bias": dt_bias[1]}[name][4] = value
    leaves = [tensor.double().requires_grad_() for tensor in inputs]
    expected = torch.autograd.grad(selective_scan_2d_reference(*leaves), leaves, grad_y.double())
    spreads = (name, value) != ("dt_bias", -math.inf)  # which is a dt of 0
    assert spreads != all(bool(gradient.isfinite().all()) for gradient in expected)
    for which, ours, theirs in zip(NAMES, backward(inputs, grad_y), expected, strict=True):
        assert torch.equal(ours.isfinite(), theirs.isfinite()), which


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_empty_batch_has_zero_gradients_of_the_weights(dtype: str) -> None:
    inputs, grad_y = problem(Sizes(batch=0, channels=17), DTYPES[dtype])
    for gradient in backward(inputs, grad_y)[2:]:
        assert gradient.numel()
        assert not gradient.any()


SHAPE = ScanShape(1, 2, 2, 3, 2, 1, "f32")
NOWHERE = ScanPointers(*[64] * 7)  # not NULL; never followed
NOWHERE_TOO = ScanGradients(*[64] * 7)
WEIGHTS = ("grad_dt_weight", "grad_dt_bias", "grad_A", "grad_D_skip")


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_are_missing_are_named(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{name} is NULL"):
        native.library().scan_backward_cpu(SHAPE, dataclasses.replace(NOWHERE, **{name: 0}), NOWHERE_TOO, 1)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ScanGradients)])
def test_gradients_that_are_missing_are_named(name: str) -> None:
    holed = dataclasses.replace(NOWHERE_TOO, **{name: 0})
    with pytest.raises(ArgumentError, match=f"^{name} is NULL"):
        native.library().scan_backward_cpu(SHAPE, NOWHERE, holed, 1)
    if name in WEIGHTS:
        with pytest.raises(ArgumentError, match=f"^{name} is NULL"):
            native.library().scan_backward_cpu(dataclasses.replace(SHAPE, batch=0), NOWHERE, holed, 1)


@pytest.mark.parametrize(
    ("fields", "threads", "message"),
    [
        ({"d_state": 257}, 1, "d_state is 257; expected >= 1 and <= 256"),
        ({"height": 0}, 1, "height is 0; expected >= 1"),
        ({"dtype": "int8"}, 1, "dtype is 'int8'; expected one of f32, f64, f16, bf16"),
        ({}, 0, "num_threads is 0; expected >= 1"),
    ],
)
def test_sizes_that_cannot_be_are_named(fields: dict[str, int], threads: int, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        native.library().scan_backward_cpu(dataclasses.replace(SHAPE, **fields), NOWHERE, NOWHERE_TOO, threads)


@pytest.mark.parametrize("fields", [{"height": 2**20, "width": 2**20}, {"batch": 0, "channels": 2**50}])
def test_memory_that_cannot_be_had_is_an_error(fields: dict[str, int]) -> None:
    with pytest.raises(OutOfMemoryError, match="out of memory"):
        native.library().scan_backward_cpu(dataclasses.replace(SHAPE, **fields), NOWHERE, NOWHERE_TOO, 1)


def test_an_unknown_instruction_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERPENT_ISA", "sse9")
    with pytest.raises(ArgumentError, match="SERPENT_ISA=sse9"):
        native.library().scan_backward_cpu(SHAPE, NOWHERE, NOWHERE_TOO, 1)


def test_cuda_without_kernels_fails_in_one_sentence() -> None:
    library = native.library()
    if library.has_cuda:
        pytest.skip("this library has the CUDA kernels")
    needed = library.backward_workspace_size(SHAPE)
    with pytest.raises(NativeLibraryError) as refusal:
        library.scan_backward_cuda(SHAPE, NOWHERE, NOWHERE_TOO, 256, needed, 0)
    assert refusal.value.message == "this native library was built without CUDA kernels"


def test_the_binding_needs_no_numpy() -> None:
    code = "import sys; sys.modules['numpy'] = None; from serpent import native; print(native.library().abi_version)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{native.ABI_VERSION}\n", "")
