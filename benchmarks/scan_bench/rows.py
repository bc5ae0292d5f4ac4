"""What is timed: the kernels of this project by variant, and its peers. All take the operator's six tensors."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scan_bench import scalar
from scan_bench.workload import Workload
from serpent import native
from serpent.errors import ArgumentError, MissingExtraError, NativeLibraryError, SerpentError
from serpent.scan import (
    selective_scan_2d,
    selective_scan_2d_chunked,
    selective_scan_2d_mamba,
    selective_scan_2d_reference,
)
from serpent.scan.mamba import require_mamba

ROWS = {
    "serpent": "the native kernel, per variant",
    "scalar": "one scalar loop over the states per token and channel (C++, -O3 -march=native)",
    "reference": "the sequential scan in torch",
    "chunked": "the chunked scan in torch, eager",
    "compiled": "the chunked scan through torch.compile",
    "mamba": "mamba-ssm: one grouped call between materialised cross-scan and merge",
}
INSTRUCTION_SETS = ("portable", "avx2", "avx512")
LONGEST_SEQUENTIAL = 4096

Core = Callable[[Workload], Callable[[int], Tensor]]


@dataclass(frozen=True)
class Row:
    """One way to compute a scan.

    Attributes:
        key: its name, a key of :data:`ROWS`.
        variant: instruction set or CUDA variant that is forced; "" is the library's own choice.
        scan: the operator's six tensors to y.
        core: makes calls that write into given results, where the row can; else ``scan`` is called.
        environment: variables that hold during its calls.
        peer: whether it is somebody else's.
        in_one_row: whether it scans the tokens as a picture of one row.
        absent: why it cannot run in this process, or "".
    """

    key: str
    scan: Callable[..., Tensor]
    variant: str = ""
    core: Core | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    peer: bool = True
    in_one_row: bool = False
    absent: str = ""

    def why_not(self, work: Workload) -> str:
        """Why it cannot run this, or ""."""
        if self.key == "scalar" and work.dtype != torch.float32:
            return "the scalar loop is f32 only"
        if self.key == "reference" and work.shape.tokens > LONGEST_SEQUENTIAL:
            return f"sequential: {work.shape.tokens} steps; run only up to {LONGEST_SEQUENTIAL}"
        return self.absent

    @contextmanager
    def settings(self, threads: int) -> Iterator[None]:
        """What holds during its calls: the forced variant and the CPU threads (0: as they are)."""
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        if threads > 0 and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def rows_for(device: torch.device, wanted: list[str]) -> list[Row]:
    """The rows of ``wanted`` on a kind of device; scalar first, next to the kernels that it is compared with."""
    rows = []
    if "scalar" in wanted and device.type == "cpu":
        with_threads = lambda *arguments: scalar.scan(*arguments, threads=torch.get_num_threads())  # noqa: E731
        rows.append(Row("scalar", with_threads, core=_scalar_core))
    if "serpent" in wanted:
        rows += _cuda_rows() if device.type == "cuda" else _cpu_rows()
    if "reference" in wanted:
        rows.append(Row("reference", selective_scan_2d_reference))
    if "chunked" in wanted:
        rows.append(Row("chunked", selective_scan_2d_chunked))
    if "compiled" in wanted:
        rows.append(Row("compiled", torch.compile(selective_scan_2d_chunked, dynamic=False)))
    if "mamba" in wanted:
        rows.append(Row("mamba", selective_scan_2d_mamba, absent=_why_no_mamba(device)))
    return rows


def available_instruction_sets() -> dict[str, str]:
    """Why each instruction set cannot be used here, or ""; slowest first."""
    reasons = {}
    arguments = tuple(torch.zeros(size) for size in ((1, 1, 1, 1), (1, 1, 1, 12), (4, 1, 1), (4, 1), (4, 1, 1), (4, 1)))
    for name in INSTRUCTION_SETS:
        row = Row("serpent", selective_scan_2d, environment={"SERPENT_ISA": name})
        with row.settings(0):
            try:
                row.scan(*arguments)
            except (ArgumentError, NativeLibraryError) as error:
                reasons[name] = error.message
            else:
                reasons[name] = ""
    return reasons


def best_isa(rows: list[Row]) -> str:
    """The instruction set that the library itself would choose on this CPU; "" where none of its rows is there."""
    return next((row.variant for row in rows if row.in_one_row), "")


def _cpu_rows() -> list[Row]:
    reasons = available_instruction_sets()
    ours = functools.partial(Row, "serpent", selective_scan_2d, core=_native_core, peer=False)
    rows = [ours(name, environment={"SERPENT_ISA": name}, absent=reason) for name, reason in reasons.items()]
    fastest = [row for row in rows if not row.absent][-1]
    return [*rows, ours(fastest.variant, environment=fastest.environment, in_one_row=True)]


def _cuda_rows() -> list[Row]:
    ours = functools.partial(Row, "serpent", selective_scan_2d, core=_native_core, peer=False)
    return [ours(), *(ours(name, environment={"SERPENT_CUDA_VARIANT": name}) for name in cuda_variants())]


def cuda_variants() -> list[str]:
    """The names that SERPENT_CUDA_VARIANT may have: the library lists them when it refuses another.

    Raises:
        SerpentError: it answered something else.
    """
    sizes = ((1, 1, 1, 1), (1, 1, 1, 12), (4, 1, 1), (4, 1), (4, 1, 1), (4, 1))
    row = Row("serpent", selective_scan_2d, environment={"SERPENT_CUDA_VARIANT": "?"})
    with row.settings(0):
        try:
            row.scan(*(torch.zeros(size, device="cuda") for size in sizes))
        except ArgumentError as error:
            return parse_variants(error.message)
    raise SerpentError("the library accepted the CUDA variant '?'", hint="see plugins/src/cuda/variants.cpp")


def parse_variants(message: str) -> list[str]:
    """The names in the library's refusal of an unknown CUDA variant.

    Raises:
        SerpentError: it lists none.
    """
    listed = re.search(r"may be ([\w-]+(?:, [\w-]+)*)", message)
    if listed is None:
        raise SerpentError(f"no CUDA variants are listed in: {message}", hint="see plugins/src/cuda/variants.cpp")
    return listed.group(1).split(", ")


def _why_no_mamba(device: torch.device) -> str:
    try:
        require_mamba()
    except MissingExtraError:
        return "mamba-ssm is not installed"
    except SerpentError as error:
        return error.message
    return "" if device.type == "cuda" else "mamba-ssm runs on CUDA only"


def _native_core(work: Workload) -> Callable[[int], Tensor]:
    """The C function itself, without the operator's checks and allocations."""
    library, shape, results = native.library(), work.shape.native(work.dtype_name), work.results
    pointers = [
        native.ScanPointers(*(tensor.data_ptr() for tensor in (*work.arguments(i), results[i])))
        for i in range(work.sets)
    ]
    if work.device.type == "cpu":

        def on_cpu(index: int) -> Tensor:
            library.scan_cpu(shape, pointers[index], torch.get_num_threads())
            return results[index]

        return on_cpu
    size = library.workspace_size(shape)
    workspace = torch.empty(size, dtype=torch.uint8, device=work.device)

    def on_cuda(index: int) -> Tensor:
        stream = torch.cuda.current_stream().cuda_stream
        library.scan_cuda(shape, pointers[index], workspace.data_ptr(), size, stream)
        return results[index]

    return on_cuda


def _scalar_core(work: Workload) -> Callable[[int], Tensor]:
    def call(index: int) -> Tensor:
        scalar.scan_into(work.results[index], work.arguments(index), torch.get_num_threads())
        return work.results[index]

    return call
