"""Memory of a training step beyond inputs, outputs and gradients, against what the operator's docstring states."""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serpent import native
from serpent.native import ScanShape

# Threads' stacks, and what allocators keep: the rest of the process does not grow with the picture.
SLACK = 4 << 20

CASES = list(itertools.product((8, 40), ("float32", "bfloat16", "float64"), (1, 2)))  # D, storage type, threads
HEIGHT, WIDTH, N, R = 500, 601, 2, 1

STEPS = """
import json, sys, torch, serpent.scan
height, width, N, R, cases = json.loads(sys.argv[1])
scan = torch.ops.serpent.selective_scan_2d

def leaves(height, width, D, dtype):
    weights = torch.float64 if dtype == torch.float64 else torch.float32
    make = lambda *shape, dtype=weights: torch.full(shape, 0.1, dtype=dtype)
    inputs = (make(1, height, width, D, dtype=dtype), make(1, height, width, 4 * (R + 2 * N), dtype=dtype),
              make(4, D, R), make(4, D), -make(4, D, N), make(4, D))
    return [tensor.requires_grad_() for tensor in inputs]

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))

def measured(step):
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # from here on VmHWM is the peak
    before = status("VmRSS")
    result = step()
    kept = sum(tensor.nbytes for tensor in result)
    return status("VmHWM") - before - kept, result

def step(D, dtype, threads):
    torch.set_num_threads(threads)
    dtype = getattr(torch, dtype)
    small = leaves(8, 8, D, dtype)
    torch.autograd.grad(scan(*small), small, torch.ones_like(small[0]))  # loads what loads at first use
    inputs = leaves(height, width, D, dtype)
    grad_y = torch.full_like(inputs[0], 0.1)
    forward, (y,) = measured(lambda: [scan(*inputs)])
    backward, _ = measured(lambda: torch.autograd.grad(y, inputs, grad_y))
    return forward, backward

print(json.dumps([step(*case) for case in cases]))
"""


@functools.cache
def measured() -> dict[tuple[int, str, int], tuple[int, int]]:
    """Bytes beyond inputs, outputs and gradients, forward and backward, of each case, in a process of their own."""
    command = [sys.executable, "-c", STEPS, json.dumps([HEIGHT, WIDTH, N, R, CASES])]
    # So that glibc gives every freed array back, and no step lives on memory of the one before.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    return dict(zip(CASES, json.loads(run.stdout), strict=True))


def stated(D: int, dtype: str, threads: int) -> tuple[float, float]:
    """Bytes a pixel on the CPU, forward and backward, as the docstring of the operator gives them."""
    S = 8 if dtype == "float64" else 4
    W = 128 // S
    forward = 256 * (4 * math.ceil(threads / 4) if threads > 1 else 1)
    tasks = min(threads, 4 * math.ceil(D / W))
    sums = S * (D + 4 * (R + 2 * N)) if dtype == "bfloat16" else 0
    return forward, tasks * S * (W + R + 2 * N + N * W / 32) + sums


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_cpu_needs_what_the_docstring_states(case: tuple[int, str, int]) -> None:
    forward_limit, backward_limit = (per_pixel * HEIGHT * WIDTH for per_pixel in stated(*case))
    forward, backward = measured()[case]
    assert min(forward_limit, backward_limit) > 8 * SLACK  # else this says nothing
    assert forward <= forward_limit + SLACK  # how much depends on the instruction set: a tile may need none
    assert 0.8 * backward_limit <= backward <= backward_limit + SLACK


@pytest.mark.parametrize(
    ("side", "D_N_R"),
    [
        *((1024, sizes) for sizes in ((64, 6, 2), (128, 11, 4), (256, 22, 8), (512, 43, 16))),
        *((128, sizes) for sizes in ((64, 6, 2), (256, 22, 8))),
        *((64, sizes) for sizes in ((128, 11, 4), (512, 43, 16))),
    ],
    ids=str,
)
def test_the_cuda_workspaces_are_what_the_docstring_states(side: int, D_N_R: tuple[int, int, int]) -> None:
    D, N, R = D_N_R
    shape = ScanShape(1, side, side, D, N, R, "bf16")
    pixels = side * side
    splits = min(max(2048 // (pixels // 64 * math.ceil(N / 6)), 1), D // 32)
    forward = native.library().workspace_size(shape) / pixels
    backward = native.library().backward_workspace_size(shape) / pixels
    # Parts are aligned to 256 bytes, which a pixel does not notice.
    assert forward == pytest.approx(D * (8 + (N + 1) / 16), rel=1e-3)
    assert backward == pytest.approx(D * (2 * N + R + 2) / 8 + 4 * D + splits * (14 * N + 8 * (R + 2 * N)), rel=1e-3)
