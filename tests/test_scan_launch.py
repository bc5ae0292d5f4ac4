"""What the operator hands to the CUDA functions of the native library, with host memory and a stand-in library."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from scan_cases import Arguments, Sizes, arguments
from serpent import native
from serpent.errors import NativeLibraryError
from serpent.native import ScanGradients, ScanPointers, ScanShape
from serpent.scan import launch

STREAM = 0x57
SIZES = Sizes(2, 3, 5, 7, 3, 2)


class OnGpu(Tensor):
    """A host tensor that says it is on a CUDA device."""

    is_cuda = True  # type: ignore[assignment]


class StandIn:
    """A library with CUDA functions that do their work on the host, and remember what they were given."""

    has_cuda = True

    def __init__(self) -> None:
        self._real = native.library()
        self.path = self._real.path
        self.given: list[tuple[ScanShape, int, int, int, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def scan_cuda(self, shape: ScanShape, pointers: ScanPointers, workspace: int, size: int, stream: int) -> None:
        self.given.append((shape, workspace, size, stream, Entered.device))
        self._real.scan_cpu(shape, pointers, 1)

    def scan_backward_cuda(
        self,
        shape: ScanShape,
        pointers: ScanPointers,
        gradients: ScanGradients,
        workspace: int,
        size: int,
        stream: int,
    ) -> None:
        self.given.append((shape, workspace, size, stream, Entered.device))
        self._real.scan_backward_cpu(shape, pointers, gradients, 1)


class Entered:
    """The device that the launch made current."""

    device: Any = None


@contextlib.contextmanager
def enter(device: torch.device) -> Iterator[None]:
    Entered.device = device
    yield
    Entered.device = None


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(native, "library", lambda: stand_in)
    monkeypatch.setattr(torch.cuda, "device", enter)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=STREAM, device=device))
    return stand_in


def on_gpu(inputs: Arguments) -> tuple[Tensor, ...]:
    return tuple(tensor.as_subclass(OnGpu) for tensor in inputs)


def check_memory(library: StandIn, needed: int, inputs: Arguments) -> None:
    ((shape, workspace, size, stream, current),) = library.given
    assert shape == ScanShape(2, 3, 5, 7, 3, 2, "f32")
    assert (size, stream, current) == (needed, STREAM, inputs[0].device)
    assert size > 0
    assert workspace != 0


def test_the_forward_pass_gets_workspace_stream_and_device(library: StandIn) -> None:
    inputs = arguments(SIZES, torch.float32)
    y = launch.scan(on_gpu(inputs))
    check_memory(library, library.workspace_size(library.given[0][0]), inputs)
    assert torch.equal(y, torch.ops.serpent.selective_scan_2d(*inputs))


def test_the_backward_pass_gets_workspace_stream_and_device(library: StandIn) -> None:
    inputs = arguments(SIZES, torch.float32)
    grad_y = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1))
    gradients = launch.scan_backward(grad_y, on_gpu(inputs))
    check_memory(library, library.backward_workspace_size(library.given[0][0]), inputs)
    expected = torch.ops.serpent.selective_scan_2d_backward(grad_y, *inputs)
    assert all(torch.equal(ours, truth) for ours, truth in zip(gradients, expected, strict=True))


@pytest.mark.parametrize("threads", [1, 3])
def test_on_the_cpu_both_passes_get_the_threads_of_torch(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    given = []

    class Remembering:
        def scan_cpu(self, *arguments: Any) -> None:
            given.append(arguments[-1])

        scan_backward_cpu = scan_cpu

    monkeypatch.setattr(native, "library", Remembering)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    inputs = arguments(SIZES, torch.float32)
    launch.scan(inputs)
    launch.scan_backward(inputs[0], inputs)
    assert given == [threads, threads]


def test_a_library_without_cuda_kernels_says_what_to_do(library: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "has_cuda", False)
    with pytest.raises(NativeLibraryError, match="was built without CUDA kernels") as refusal:
        launch.scan(on_gpu(arguments(SIZES, torch.float32)))
    assert refusal.value.hint is not None
    assert "serpent-restoration[cuda-build]" in refusal.value.hint
