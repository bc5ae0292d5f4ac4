"""How scans run: the same bits each time, in CUDA graphs, on several streams at once, without a fault."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gpu_cases import STORAGE, VARIANT_SIZES, by_device, forced, made, network_sizes, scan, variants
from scan_cases import Sizes

SANITIZER_LIMIT_S = 90.0
DTYPES = pytest.mark.parametrize("dtype", STORAGE.values(), ids=STORAGE)
backward = torch.ops.serpent.selective_scan_2d_backward


def both_passes(grad_y: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """y and the six gradients."""
    return scan(*inputs), *backward(grad_y, *inputs)


def drawn(sizes: Sizes, dtype: torch.dtype, device: torch.device, seed: int = 0) -> tuple[Tensor, ...]:
    """dL/dy and the inputs of a scan."""
    inputs = made(sizes, dtype, device, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1000)
    return torch.randn(inputs[0].shape, generator=generator).to(dtype).to(device), *inputs


def equal(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@DTYPES
@pytest.mark.parametrize("scale", range(4))
def test_a_hundred_repeats_are_equal_bit_by_bit(device: torch.device, scale: int, dtype: torch.dtype) -> None:
    arguments = drawn(network_sizes("H", scale, by_device(device, 256, 32)), dtype, device)
    first = both_passes(*arguments)
    assert all(bool(tensor.isfinite().all()) for tensor in first)
    for _ in range(by_device(device, 100, 3)):
        assert equal(both_passes(*arguments), first)


@pytest.mark.parametrize("sizes", VARIANT_SIZES, ids=lambda sizes: f"N{sizes.d_state}")
def test_repeats_of_every_variant_are_equal_bit_by_bit(device: torch.device, sizes: Sizes) -> None:
    inputs = made(sizes, torch.float16, device)
    repeats = by_device(device, 20, 2)
    runs = {name: [forced(name, inputs) for _ in range(repeats)] for name in variants(device)}
    assert any(results[0] is not None for results in runs.values())
    for name, results in runs.items():
        for y in results:
            assert (y is None) == (results[0] is None), name
            assert y is None or torch.equal(y, results[0]), name


def concurrently(device: torch.device, calls: list[Callable[[], tuple[Tensor, ...]]]) -> list[tuple[Tensor, ...]]:
    """Each call on a stream of its own, or on the CPU on a thread of its own."""
    if device.type == "cpu":
        with ThreadPoolExecutor(len(calls)) as pool:
            return [future.result() for future in [pool.submit(call) for call in calls]]
    results = []
    for call in calls:
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            results.append(call())
    torch.cuda.synchronize(device)
    return results


@DTYPES
def test_eight_streams_at_once(device: torch.device, dtype: torch.dtype) -> None:
    side = by_device(device, 96, 12)
    problems = [drawn(Sizes(1, side, side + 3, 64, 6, 2), dtype, device, seed) for seed in range(8)]
    alone = [both_passes(*arguments) for arguments in problems]
    for _ in range(by_device(device, 10, 2)):
        together = concurrently(device, [lambda given=given: both_passes(*given) for given in problems])
        assert all(equal(ours, theirs) for ours, theirs in zip(together, alone, strict=True))


@pytest.mark.require("cuda")
@DTYPES
@pytest.mark.parametrize("scale", range(4))
def test_a_captured_graph_replays_with_other_values(gpu: torch.device, scale: int, dtype: torch.dtype) -> None:
    # Capture refuses whatever synchronises, and what allocates other than from torch's pool.
    sizes = network_sizes("H", scale, 128)
    static = drawn(sizes, dtype, gpu)
    both_passes(*static)  # kernels are loaded at their first launch
    torch.cuda.synchronize(gpu)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = both_passes(*static)
    for seed in (1, 2, 3):
        fresh = drawn(sizes, dtype, gpu, seed)
        for target, source in zip(static, fresh, strict=True):
            target.copy_(source)
        graph.replay()
        assert equal(captured, both_passes(*fresh))


@pytest.mark.require("cuda")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_compute_sanitizer_finds_nothing(gpu: torch.device, tool: str) -> None:
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not on the PATH; it comes with the CUDA toolkit")
    names = variants(gpu)
    program = Path(__file__).with_name("sanitized_scans.py")
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, str(program), "cuda", *names]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SANITIZER_LIMIT_S, check=False)
    if "Device not supported" in run.stdout:
        pytest.skip("compute-sanitizer does not support this device")
    assert run.returncode == 0, run.stdout + run.stderr
    assert set(run.stdout.split()) >= {"agree:", "default", *names}


def test_the_program_for_the_sanitizer_runs_without_it() -> None:
    """Its own copy of memory, arguments and comparison, on the CPU."""
    program = Path(__file__).with_name("sanitized_scans.py")
    run = subprocess.run([sys.executable, str(program), "cpu", "portable"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.split() == ["agree:", "default", "portable"]
