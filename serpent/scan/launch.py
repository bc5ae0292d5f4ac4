"""Torch tensors into the native kernels: pointers, memory for results and workspace, and the stream."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from serpent import native
from serpent.errors import NativeLibraryError
from serpent.scan.contract import NAMES, check_arguments, check_dense, check_device, check_gradient


def scan(inputs: tuple[Tensor, ...]) -> Tensor:
    """The y of x, x_dbl, dt_weight, dt_bias, A, D_skip on the device where they are."""
    x = inputs[0]
    shape = _shape(inputs)
    y = torch.empty_like(x)
    pointers = native.ScanPointers(*[tensor.data_ptr() for tensor in (*inputs, y)])
    if x.is_cuda:
        library = _cuda_library(x)
        _enqueue(x, library.workspace_size(shape), lambda *memory: library.scan_cuda(shape, pointers, *memory))
    else:
        native.library().scan_cpu(shape, pointers, torch.get_num_threads())
    return y


def scan_backward(grad_y: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """dL/d(input) of each of the six inputs, laid out like them."""
    x = inputs[0]
    shape = _shape(inputs)
    check_gradient(x, grad_y)
    check_dense(grad_y=grad_y)
    results = tuple(torch.empty_like(tensor) for tensor in inputs)
    pointers = native.ScanPointers(*[tensor.data_ptr() for tensor in inputs])
    gradients = native.ScanGradients(*[tensor.data_ptr() for tensor in (grad_y, *results)])
    if x.is_cuda:
        library = _cuda_library(x)
        _enqueue(
            x,
            library.backward_workspace_size(shape),
            lambda *memory: library.scan_backward_cuda(shape, pointers, gradients, *memory),
        )
    else:
        native.library().scan_backward_cpu(shape, pointers, gradients, torch.get_num_threads())
    return results


def _shape(inputs: tuple[Tensor, ...]) -> native.ScanShape:
    shape = check_arguments(*inputs)
    check_device(inputs[0])
    check_dense(**dict(zip(NAMES, inputs, strict=True)))
    return shape


def _cuda_library(x: Tensor) -> native.Library:
    library = native.library()
    if not library.has_cuda:
        raise NativeLibraryError(
            f"x is on {x.device}, but {library.path} was built without CUDA kernels",
            hint="install nvcc (pip install 'serpent-restoration[cuda-build]') and build the project again, "
            "or run on the CPU",
        )
    return library


def _enqueue(x: Tensor, workspace_bytes: int, launch: Callable[[int, int, int], None]) -> None:
    # The caching allocator may hand the workspace out again as soon as it is freed here, but only to later work of the
    # same stream. Under capture it comes from the graph's own pool.
    with torch.cuda.device(x.device):
        workspace = torch.empty(workspace_bytes, dtype=torch.uint8, device=x.device)
        launch(workspace.data_ptr(), workspace_bytes, torch.cuda.current_stream(x.device).cuda_stream)
