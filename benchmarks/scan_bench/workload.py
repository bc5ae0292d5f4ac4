"""What the rows of one boundary and shape work on: buffer sets, the exact result, and the bound of each row's error."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast
from unittest import mock

import torch
from torch import Tensor
from torch.nn.functional import linear

from scan_bench.problem import Boundary, Decay, Error, Inputs, Shape, error_of, make_inputs, scan_bound
from scan_bench.scalar import exact_scan
from serpent import native
from serpent.config import SerpentConfig
from serpent.model import Serpent, set_precision
from serpent.model.blocks import VSSBlock
from serpent.scan import BACKENDS

PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
MOST_SETS = 256
BACKEND = "benchmark"  # the name under which a block finds the row that is timed


@dataclass(frozen=True)
class Workload:
    """Inputs of one boundary in several copies, which together exceed the last cache.

    Attributes:
        boundary: where the clock starts and stops.
        shape: the sizes.
        dtype_name: storage type.
        inputs: the first copy, x_proj and the scan's weights.
        xs: x (B, H, W, D), for a VSS block its input (B, H, W, D / 2), one for each set.
        x_dbls: (B, H, W, 4 * (R + 2N)) of each set; empty but for the scan core.
        results: y (B, H, W, D) of each set, for rows that write into given memory; empty but for the scan core.
        block: of the boundary "VSS block".
    """

    boundary: Boundary
    shape: Shape
    dtype_name: str
    inputs: Inputs
    xs: list[Tensor]
    x_dbls: list[Tensor]
    results: list[Tensor]
    block: VSSBlock | None

    @property
    def dtype(self) -> torch.dtype:
        return self.inputs.x.dtype

    @property
    def device(self) -> torch.device:
        return self.inputs.x.device

    @property
    def sets(self) -> int:
        return len(self.xs)

    @property
    def result_bytes(self) -> int:
        return self.xs[0].nbytes

    def arguments(self, index: int) -> tuple[Tensor, ...]:
        """The scan's six arguments of one set (scan core only)."""
        return self.xs[index], self.x_dbls[index], *self.inputs.weights.all()

    def call(self, scan: Callable[..., Tensor]) -> Callable[[int], Tensor]:
        """What is timed when ``scan`` computes the scan of this boundary."""
        if self.boundary == "scan core":
            return lambda index: scan(*self.arguments(index))
        if self.boundary == "SS2D":
            x_proj, weights = self.inputs.x_proj, self.inputs.weights.all()
            return lambda index: scan(self.xs[index], linear(self.xs[index], x_proj), *weights)
        assert self.block is not None
        return _block_call(self.block, scan, self.xs)

    def in_one_row(self) -> Workload:
        """The same memory as a picture of one row (scan core only)."""
        shape = self.shape.in_one_row()

        def lines(tensors: list[Tensor]) -> list[Tensor]:
            return [tensor.reshape(shape.batch, 1, shape.tokens, -1) for tensor in tensors]

        return replace(self, shape=shape, xs=lines(self.xs), x_dbls=lines(self.x_dbls), results=lines(self.results))


def _block_call(block: VSSBlock, scan: Callable[..., Tensor], xs: list[Tensor]) -> Callable[[int], Tensor]:
    def call(index: int) -> Tensor:
        with mock.patch.dict(BACKENDS, {BACKEND: scan}):
            result: Tensor = block(xs[index])
            return result

    return call


def make_workload(
    boundary: Boundary, shape: Shape, dtype_name: str, dtype: torch.dtype, device: torch.device, decay: Decay
) -> Workload:
    """Buffers for one boundary; a VSS block only where :func:`why_no_block` has no objection."""
    inputs = make_inputs(shape, dtype, device, decay)
    itemsize = inputs.x.element_size()
    # Between two uses of a set the others pass through the cache.
    sets = min(MOST_SETS, 1 + math.ceil(last_cache_bytes(device) / shape.minimal_bytes(boundary, itemsize)))
    if boundary == "VSS block":
        block = _make_block(shape, dtype, device)
        x = inputs.x[..., : shape.channels // 2].contiguous()
        return Workload(boundary, shape, dtype_name, inputs, _copies(x, sets), [], [], block)
    xs = _copies(inputs.x, sets)
    if boundary == "SS2D":
        return Workload(boundary, shape, dtype_name, inputs, xs, [], [], None)
    x_dbls = _copies(linear(inputs.x, inputs.x_proj), sets)
    return Workload(boundary, shape, dtype_name, inputs, xs, x_dbls, [torch.zeros_like(x) for x in xs], None)


def _copies(tensor: Tensor, sets: int) -> list[Tensor]:
    return [tensor, *(tensor.clone() for _ in range(sets - 1))]


def why_no_block(shape: Shape) -> str:
    """Why no VSS block has this scan, or ""."""
    config = _block_config(shape)
    c = shape.channels // config.ssm_expand
    if config.ssm_expand * c == shape.channels and c > 0 and config.dt_rank(c) == shape.dt_rank:
        return ""
    return f"no VSS block has D {shape.channels} with R {shape.dt_rank}"


def _block_config(shape: Shape) -> SerpentConfig:
    return SerpentConfig(patch_size=1, d_state=shape.d_state)


def _make_block(shape: Shape, dtype: torch.dtype, device: torch.device) -> VSSBlock:
    config = _block_config(shape)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        block = VSSBlock(shape.channels // config.ssm_expand, config).eval().requires_grad_(False)
    block.ssm.scan_backend = BACKEND
    set_precision(cast(Serpent, block), PRECISIONS[dtype])  # it takes any module that holds scans
    return block.to(device)


@dataclass(frozen=True)
class Truth:
    """The exact result in f64 on the CPU, what it holds besides the result proper, and the bounds of the errors."""

    result: Tensor
    base: Tensor | float
    ours: Error
    peers: Error

    def error(self, result: Tensor) -> Error:
        """How far off ``result`` is."""
        return error_of(result, self.result, self.base)

    def bound(self, *, peer: bool) -> Error:
        """How far off it may be."""
        return self.peers if peer else self.ours


def exact(work: Workload) -> Truth:
    """The result of ``work`` from the scalar loop in f64, which shares no code with any kernel.

    A scan's x_dbl is what torch computes in the storage type. A block's bound adds to that of its scan twice the error
    of the same block in the same precision around an exact scan.
    """
    threads = native.default_threads()
    ours, peers = scan_bound(work.dtype, peer=False), scan_bound(work.dtype, peer=True)

    def scan(*arguments: Tensor) -> Tensor:
        return exact_scan(*arguments, threads=threads)

    if work.block is None:
        x = work.xs[0]
        x_dbl = work.x_dbls[0] if work.x_dbls else linear(x, work.inputs.x_proj)
        return Truth(scan(x, x_dbl, *work.inputs.weights.all()), 0.0, ours, peers)
    block, x = copy.deepcopy(work.block).cpu().double(), work.xs[0].cpu().double()
    truth = _block_call(block, scan, [x])(0)
    rounded = work.call(lambda *arguments: scan(*arguments).to(work.device, work.dtype))(0)
    floor = error_of(rounded, truth, x)

    def above(bound: Error) -> Error:
        return Error(2 * floor.relative_l2 + bound.relative_l2, 2 * floor.worst_channel + bound.worst_channel)

    return Truth(truth, x, above(ours), above(peers))


def last_cache_bytes(device: torch.device) -> int:
    """Size of the cache before the memory: L2 of a GPU, the largest of a CPU (64 MiB where Linux does not say)."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    return max(_cache_sizes(), default=64 << 20)


def _cache_sizes() -> list[int]:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    files = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    texts = [file.read_text().strip() for file in files]
    return [int(text[:-1]) * units[text[-1]] for text in texts if text[-1:] in units]
