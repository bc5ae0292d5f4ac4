"""Bytes that one run takes, from the tensors of the network that live at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from serpent.config import NUM_DIRECTIONS, SerpentConfig

_F32 = 4
_SCAN_TILE_BYTES = 256
"""Of one pixel: the f32 sums of a thread's tile of channels, where y has 16 bits (``plugins/src/cpu/scan_cpu.cpp``)."""

_HEAP = {
    "torch": ((0.65, 0), (0.0, 224 << 20)),
    "onnxruntime": ((2.0, 0), (0.25, 40 << 20), (0.0, 120 << 20)),
}
"""What glibc's heap holds beside tensors of t bytes: the least of the lines slope * t + bytes.

Freed blocks of up to 32 MiB stay on the heap, where the next tensor does not always fit into the holes; larger ones are
mapped and given back whole. Measured on x86-64 with glibc 2.36 and one thread, B and H from 128x128 to 1792x2304 in
PyTorch 2.13 (0.3 to 1.1 of the tensors, at most 300 MB), and B from 256x256 to 1792x2304 in ONNX Runtime 1.31, whose
session gives the heap back between segments (:data:`serpent.runtime.memory.HELD_FREE`): 21 MiB beside tensors of 9,
41 to 51 beside 36, 50 to 71 beside 81, 60 to 98 beside 144, 87 to 113 beside 251, 73 to 159 from 389 on.
"""


def run_bytes(
    config: SerpentConfig,
    batch: int,
    height: int,
    width: int,
    *,
    itemsize: int,
    runtime: Literal["torch", "onnxruntime"],
    threads: int = 1,
    heap: bool = True,
) -> int:
    """Most bytes that one run holds at a time, weights and the image in f32 not among them.

    Args:
        config: the network.
        batch: pictures of the run.
        height: of each, in pixels.
        width: of each, in pixels.
        itemsize: bytes of a number inside the network.
        runtime: what runs it; the two drop their tensors at different moments.
        threads: of the scan.
        heap: add what glibc's heap holds beside the tensors; False on a GPU.
    """
    steps = _torch_steps if runtime == "torch" else _onnx_steps
    patches = batch * height * width // config.patch_size**2
    most, skips = 0, 0.0
    for scale in range(config.num_scales + 1):
        pixels = patches >> (2 * scale)
        channels = config.channels(scale)
        numbers = max(steps(config, channels))
        sums = _SCAN_TILE_BYTES * threads if itemsize == 2 else 0
        most = max(most, int(skips + pixels * (itemsize * numbers + sums)))
        skips += pixels * channels * itemsize
    # At the end: the head's pixels, in order, and added to the image.
    image = batch * height * width * config.in_channels
    most = max(most, image * (2 * itemsize + 2 * _F32))
    return most + (min(int(slope * most) + fixed for slope, fixed in _HEAP[runtime]) if heap else 0)


def function_scan_bytes(config: SerpentConfig, batch: int, height: int, width: int) -> int:
    """As :func:`run_bytes`, of ONNX Runtime with the scan as the file's own function, in any precision.

    The widest moment is the end of the loop over the pixels at the first scale: eight f32 tensors of the four
    directions' D channels, one of them as a tensor for each pixel. Measured with ONNX Runtime 1.31 from 4,096 to 77,376
    pixels of that scale, for B, L and H: 0.95 to 1.05 of this, but 46 MiB for 41 of the fewest pixels
    in fp16.
    """
    patches = batch * height * width // config.patch_size**2
    return (9 << 20) + 8 * NUM_DIRECTIONS * config.ssm_expand * config.channels(0) * _F32 * patches


def _torch_steps(config: SerpentConfig, c: int) -> Iterator[int]:
    """Numbers of a pixel that live at the widest moments of a block (``serpent/model/blocks.py``).

    Always: the inputs of this block and of the stack, and the norm's result.
    """
    inner, columns = config.ssm_expand * c, _columns(config, c)
    yield 3 * c + 2 * inner + inner + inner  # in_proj's result, the convolution's input in its own order, its result
    yield 3 * c + inner + inner + columns + inner  # gate, x, x_dbl, y
    yield 3 * c + 3 * inner  # gate, y, its norm
    yield 3 * c + config.mlp_width(c) + c
    yield 6 * c  # skip, features, both in a row, their mix


def _onnx_steps(config: SerpentConfig, c: int) -> Iterator[int]:
    """As for torch, of the segment between two scans, whose inputs (y, gate, features) live until it is done."""
    inner, columns, hidden = config.ssm_expand * c, _columns(config, c), config.mlp_width(c)
    # The norm of y and its product with the gate are still there when the MLP has its hidden values before and after
    # GELU: seen step by step in ONNX Runtime 1.31.
    yield 2 * inner + c + 2 * inner + c + 2 * hidden
    yield 2 * inner + c + 2 * inner + c + 4 * inner  # in_proj's result, whole and split
    yield 4 * inner + columns + c


def _columns(config: SerpentConfig, c: int) -> int:
    return NUM_DIRECTIONS * (config.dt_rank(c) + 2 * config.state_size(c))
