"""``torch.ops.serpent.selective_scan_2d``: the operator that models call and exporters translate."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from serpent.errors import SerpentError
from serpent.scan import launch
from serpent.scan.contract import check_arguments, check_device, check_gradient


@torch.library.custom_op("serpent::selective_scan_2d", mutates_args=(), tags=(torch.Tag.needs_exact_strides,))
def selective_scan_2d(
    x: Tensor, x_dbl: Tensor, dt_weight: Tensor, dt_bias: Tensor, A: Tensor, D_skip: Tensor
) -> Tensor:
    """Four-direction selective scan on the native kernels, on the CPU or a CUDA device.

    Arguments and result are those of :func:`serpent.scan.selective_scan_2d_reference`; state, dt and sums are f32 for
    f32, f16 and bf16 storage and f64 for f64 (CPU only). The arguments must be contiguous; none is copied. On the CPU
    it uses torch's thread count, on which the result does not depend. On CUDA it is enqueued on the current stream of
    x's device, may be captured into a CUDA graph, and takes N and R up to 64 (CPU: 256).

    Gradients: of every input, in reverse mode, once: no second derivative, no forward mode, no torch.func transforms.
    An expanded or otherwise strided dL/dy is copied first. States are computed again from those at the ends of
    chunks, never stored for all pixels.

    Autocast: with x in f32, f16 or bf16, x and x_dbl are cast to the autocast type of their device and y has that
    type; the weights are left as they are (f32). With x in f64 nothing is cast.

    Memory: a training step (this operator and its gradients) takes, beyond inputs, y, dL/dy and the gradients, these
    bytes a pixel; each pass gives back what it took. CUDA, for each pixel of B * H * W: forward
    D * (8 + (N + 1) / 16); backward D * (2N + R + 2) / 8 + 4 D + S * (14 N + 8 (R + 2N)), with D a multiple of 32 and
    S = 2048 / (B * H * W / 64 * ceil(N / 6)) rounded down, at least 1 and at most D / 32: small pictures take more.
    CPU, for each pixel of H * W: forward at most 256 * threads, more than one rounded up to a multiple of 4;
    backward tasks * E * (W + R + 2N + N * W / 32) with E = 4 (f64: 8), W = 128 / E and as many tasks as threads (at
    most 4 * B * ceil(D / W)), and for each picture at work E * (D + 4 * (R + 2N)) more in f16 and bf16. Small
    pictures are worked on several at a time, in 8 MiB.

    Raises:
        ArgumentError: wrong rank, shape, dtype, device or stride; sizes that the device's kernel does not take.
        NativeLibraryError: the native library is missing or has no CUDA kernels; CUDA reports an error.
        SerpentError: vmap, forward-mode or second derivatives.
    """
    if torch.autograd.forward_ad._current_level >= 0:  # the tangents would be lost without a word
        raise SerpentError("selective_scan_2d has no forward-mode derivative", hint="use reverse mode: backward()")
    return launch.scan((x, x_dbl, dt_weight, dt_bias, A, D_skip))


@torch.library.custom_op("serpent::selective_scan_2d_backward", mutates_args=(), tags=(torch.Tag.needs_exact_strides,))
def selective_scan_2d_backward(
    grad_y: Tensor, x: Tensor, x_dbl: Tensor, dt_weight: Tensor, dt_bias: Tensor, A: Tensor, D_skip: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`selective_scan_2d` from its inputs and dL/dy.

    Args:
        grad_y: (B, H, W, D), dtype and device of ``x``, contiguous, as all arguments.
        x: the inputs of the scan, from here on.
        x_dbl: as x.
        dt_weight: as x.
        dt_bias: as x.
        A: as x.
        D_skip: as x.

    Returns:
        dL/d(input) for each of the six inputs, in the shape and dtype of that input.

    Raises:
        ArgumentError: as :func:`selective_scan_2d`.
        NativeLibraryError: as :func:`selective_scan_2d`.
    """
    return launch.scan_backward(grad_y, (x, x_dbl, dt_weight, dt_bias, A, D_skip))  # type: ignore[return-value]


# Tracing checks everything but strides: a compiler may plan with other strides than those that it passes in the end,
# which are the ones of the eager run (needs_exact_strides) and are checked then.


@selective_scan_2d.register_fake
def _(*inputs: Tensor) -> Tensor:
    check_arguments(*inputs)
    check_device(inputs[0])
    return torch.empty_like(inputs[0], memory_format=torch.contiguous_format)


@selective_scan_2d_backward.register_fake
def _(grad_y: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    check_arguments(*inputs)
    check_device(inputs[0])
    check_gradient(inputs[0], grad_y)
    return tuple(torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in inputs)


def _save_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001 (torch's signature)
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    gradients = torch.ops.serpent.selective_scan_2d_backward(grad_y.contiguous(), *ctx.saved_tensors)
    return tuple(g if needed else None for g, needed in zip(gradients, ctx.needs_input_grad, strict=True))


def _refuse_second_derivative(ctx: Any, *gradients: Tensor) -> NoReturn:  # noqa: ARG001 (torch's signature)
    raise SerpentError(
        "selective_scan_2d has no second derivative", hint="serpent.scan.selective_scan_2d_reference has, slowly"
    )


def _refuse_vmap(info: Any, in_dims: Any, *inputs: Tensor) -> NoReturn:  # noqa: ARG001 (torch's signature)
    raise SerpentError(
        "selective_scan_2d does not run under torch.vmap", hint="stack pictures along B of x (B, H, W, D)"
    )


selective_scan_2d.register_autograd(_differentiate, setup_context=_save_inputs)
selective_scan_2d_backward.register_autograd(_refuse_second_derivative)
selective_scan_2d.register_vmap(_refuse_vmap)
selective_scan_2d_backward.register_vmap(_refuse_vmap)


_library = torch.library.Library("serpent", "FRAGMENT")  # what it registers lasts as long as it does


def _register_autocast(device_type: str, key: torch._C.DispatchKey) -> None:
    # torch's own register_autocast would cast the weights as well.
    def cast_and_scan(x: Tensor, x_dbl: Tensor, *weights: Tensor) -> Tensor:
        if x.dtype in (torch.float32, torch.float16, torch.bfloat16):
            dtype = torch.get_autocast_dtype(device_type)
            x, x_dbl = x.to(dtype), x_dbl.to(dtype)
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(key)):
            return torch.ops.serpent.selective_scan_2d(x, x_dbl, *weights)  # type: ignore[no-any-return]

    _library.impl("selective_scan_2d", cast_and_scan, key.name)


_register_autocast("cpu", torch._C.DispatchKey.AutocastCPU)
_register_autocast("cuda", torch._C.DispatchKey.AutocastCUDA)
