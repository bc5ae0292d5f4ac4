"""Shared libraries inside of plans: found wherever they lie, and nothing else taken for one."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest

from serpent.native import library
from serpent.runtime.native_code import carries_native_code

DYNAMIC, EXECUTABLE = 3, 2
X86_64, AARCH64, CUDA, X86 = 62, 183, 190, 3


def elf(machine: int = X86_64, kind: int = DYNAMIC, bits: int = 64) -> bytes:
    return b"\x7fELF" + bytes([bits // 32, 1, 1, 0, *bytes(8)]) + struct.pack("<HH", kind, machine)


def pe(machine: int = 0x8664, flags: int = 0x2022, optional: int = 0x20B) -> bytes:
    return b"MZ" + bytes(62) + b"PE\0\0" + struct.pack("<HHIIIHHH", machine, 6, 1, 0, 0, 240, flags, optional)


@pytest.mark.parametrize("where", [0, 1, 4095, 100_000])
@pytest.mark.parametrize("header", [elf(), elf(AARCH64), pe(), pe(0xAA64)], ids=["elf", "elf arm", "pe", "pe arm"])
def test_a_library_is_found_wherever_it_lies(tmp_path: Path, header: bytes, where: int) -> None:
    plan = tmp_path / "a.plan"
    plan.write_bytes(bytes(where) + header)
    assert carries_native_code(plan)
    plan.write_bytes(bytes(where) + header[:-1])  # cut off: what loads it needs the header
    assert not carries_native_code(plan)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x7fELF", b"PE\0\0", elf(CUDA), elf(X86), elf(kind=EXECUTABLE), elf(bits=32), pe(0x14C), pe(flags=0x22)],
    ids=["empty", "elf magic", "pe magic", "code for a gpu", "x86", "executable", "32 bits", "pe x86", "exe"],
)
def test_what_no_host_loads_is_none(tmp_path: Path, content: bytes) -> None:
    plan = tmp_path / "a.plan"
    plan.write_bytes(content)
    assert not carries_native_code(plan)


def test_a_real_library_behind_code_for_gpus_is_found(tmp_path: Path) -> None:
    plan = tmp_path / "a.plan"
    plan.write_bytes(elf(CUDA) * 50 + library().path.read_bytes())
    assert carries_native_code(plan)


def test_a_large_plan_is_read_in_less_than_a_second(tmp_path: Path) -> None:
    plan = tmp_path / "a.plan"
    plan.write_bytes(np.random.default_rng(0).bytes(100 * 2**20))
    start = time.process_time()
    assert not carries_native_code(plan)
    assert time.process_time() - start < 1
