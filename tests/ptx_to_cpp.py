"""Translates the PTX in an archive of kernels into C++ that runs on CPU threads.

    python3 ptx_to_cpp.py CUOBJDUMP ARCHIVE OUTPUT.cpp...

One statement of C++ for each instruction of PTX, in the same order; what an instruction does stands in
plugins/tests/ptx/instructions.h, under the instruction's name. Registers are unsigned integers of their width, as on
the GPU. An instruction or an operand that neither file knows is an error, never left out. Source: PTX ISA 9.0, sections
4 (syntax) and 9 (instructions).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

WIDTHS = {
    "pred": "bool",
    **{f"{kind}{width}": f"uint{width}_t" for kind in "bf" for width in (16, 32, 64)},
}
TYPES = {
    "pred": "bool",
    "f16": "F16",
    "bf16": "BF16",
    "f32": "float",
    "f64": "double",
    **{
        f"{kind}{width}": f"{sign}int{width}_t"
        for kind, sign in (("b", "u"), ("u", "u"), ("s", ""))
        for width in (8, 16, 32, 64)
    },
}
SPECIAL = {
    "%tid.x": "current().index",
    "%ntid.x": "current().block_size",
    **{
        f"%{name}.{axis}": f"current().{value}.{axis}"
        for name, value in (("ctaid", "block_index"), ("nctaid", "grid_size"))
        for axis in "xyz"
    },
}
ENTRY = re.compile(
    r"^(?:\.(?:visible|weak) )?\.entry (\w+)\((.*?)\)\s*\.maxntid (\d+)(?:, 1, 1)?\n[^{]*\{(.*?)^\}",
    re.DOTALL | re.MULTILINE,
)
PARAMETER = re.compile(r"\.param (?:\.align (\d+) )?\.(\w+) (\w+)(?:\[(\d+)\])?")
SHARED = re.compile(r"^\.extern \.shared \.align \d+ \.b8 (\w+)\[\];$", re.MULTILINE)
REGISTERS = re.compile(r"\s*\.reg \.(?P<kind>\w+)\s+%(?P<prefix>\w+)<(?P<count>\d+)>;")
LABEL = re.compile(r"\s*(\$\w+):")
HINT = re.compile(r'\s*\.pragma "[^"]*";')
INSTRUCTION = re.compile(r"\s*(?:@(?P<unless>!?)%(?P<guard>\w+)\s+)?(?P<opcode>[a-z][\w.]*)\s*(?P<operands>[^;]*);")


class UnknownError(Exception):
    """What this file cannot translate."""


class Entry:
    """One kernel, with where each of its parameters lies in the launch's buffer."""

    def __init__(self, parameters: str, shared: str) -> None:
        self.symbols = {shared: "uint64_t{0}"}
        self.layout: list[str] = []
        end = 0
        for align, kind, symbol, count in PARAMETER.findall(parameters):
            width = int(kind[1:]) // 8
            step = int(align or width)
            offset = (end + step - 1) // step * step
            end = offset + width * int(count or 1)
            self.symbols[symbol] = f"address_of(parameters + {offset})"
            self.layout.append(f"{{{offset}, {end - offset}}}")
        self.bytes = end

    def operand(self, text: str) -> str:
        """A register, a constant, an address or a special register."""
        if text in SPECIAL:
            return SPECIAL[text]
        if text in self.symbols:
            return self.symbols[text]
        if re.fullmatch(r"%[a-z]+\d+", text):
            return text[1:]
        if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", text):
            return f"uint32_t{{0x{text[2:]}U}}"
        if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", text):
            return f"uint64_t{{0x{text[2:]}U}}"
        if re.fullmatch(r"-?(\d+|0[xX][0-9a-fA-F]+)", text):
            return f"integer({text}LL)"
        raise UnknownError(f"the operand '{text}'")

    def address(self, text: str) -> str:
        """Where a pair of brackets points to: a base, and perhaps an offset."""
        match = re.fullmatch(r"\[([%$\w]+)(?:\+(-?\d+))?\]", text)
        if not match:
            raise UnknownError(f"the address '{text}'")
        return f"{self.operand(match[1])} + integer({match[2] or 0})"

    def instruction(self, opcode: str, operands: list[str]) -> str:
        """One instruction as C++, but for its guard."""
        name, *parts = opcode.split(".")
        if name == "ret":
            return "return"
        if name == "bra":
            return f"goto {label(operands[0])}"
        if name in ("ld", "st"):
            return self.access(name, parts, operands)
        if name == "bar" or opcode.startswith("cp.async"):
            return self.side_effect(opcode, operands)
        types = [part for part in parts if part in TYPES]
        flags = [part for part in parts if part not in TYPES]
        if name == "mov" and "{" in operands[0] + operands[1]:
            return self.packing(types[0], operands)
        function = "_".join(["ptx", name, *flags])
        values = [self.operand(text) for text in operands[1:]]
        arguments = ", ".join(f"{TYPES[t]}" for t in types)
        to, _, in_range = operands[0].partition("|")  # of a shuffle: whether the other lane is one of the 32
        found = f", {self.operand(in_range)} = true" if in_range else ""
        return f"put({self.operand(to)}, {function}<{arguments}>({', '.join(values)})){found}"

    def access(self, name: str, parts: list[str], operands: list[str]) -> str:
        """A load or a store, of one value or of a vector."""
        kind = TYPES[parts[-1]]
        flags = [part for part in parts[:-1] if not re.fullmatch(r"v[24]", part)]
        memory, registers = operands if name == "st" else reversed(operands)
        values = ", ".join(self.operand(text) for text in split(registers.strip("{}")))
        return f"{'_'.join(['ptx', name, *flags])}<{kind}>({self.address(memory)}, {values})"

    def side_effect(self, opcode: str, operands: list[str]) -> str:
        """A barrier or an asynchronous copy."""
        values = [self.address(text) if text.startswith("[") else self.operand(text) for text in operands]
        return f"ptx_{opcode.replace('.', '_')}({', '.join(values)})"

    def packing(self, kind: str, operands: list[str]) -> str:
        """Two registers from one, or one from two."""
        to, source = operands
        if to.startswith("{"):
            values = ", ".join(self.operand(text) for text in split(to.strip("{}")))
            return f"ptx_unpack<{TYPES[kind]}>({self.operand(source)}, {values})"
        values = ", ".join(self.operand(text) for text in split(source.strip("{}")))
        return f"put({self.operand(to)}, ptx_pack<{TYPES[kind]}>({values}))"

    def translate(self, body: str) -> Iterator[str]:
        """The lines of the function."""
        position = 0
        body = re.sub(r"//[^\n]*", "", body).rstrip()
        while position < len(body):
            if match := REGISTERS.match(body, position):
                names = ", ".join(f"{match['prefix']}{i}{{}}" for i in range(int(match["count"])))
                yield f"  [[maybe_unused]] {WIDTHS[match['kind']]} {names};"
            elif match := LABEL.match(body, position):
                yield f" {label(match[1])}:;"
            elif match := INSTRUCTION.match(body, position):
                guard = f"if ({match['unless']}{match['guard']}) " if match["guard"] else ""
                yield f"  {guard}{self.instruction(match['opcode'], split(match['operands']))};"
            elif not (match := HINT.match(body, position)):
                raise UnknownError(f"the line '{body[position:].strip().splitlines()[0]}'")
            position = match.end()


def label(text: str) -> str:
    """A label as C++ can spell it."""
    return text.replace("$", "label_")


def split(text: str) -> list[str]:
    """Operands, at the commas outside brackets and braces."""
    return [part.strip() for part in re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,])+", text)]


def translate(ptx: str) -> str:
    """A whole file of PTX as C++."""
    shared = SHARED.search(ptx)
    lines = ['#include "instructions.h"', '#include "kernels.h"', "", "namespace serpent::cuda::ptx {", "namespace {"]
    entries: list[str] = []
    for name, parameters, threads, body in ENTRY.findall(ptx):
        entry = Entry(parameters, shared[1] if shared else "")
        entries.append(f'    {{"{name}", {name}, {threads}, {entry.bytes}, {{{", ".join(entry.layout)}}}}},')
        lines += ["", f"void {name}([[maybe_unused]] const unsigned char* parameters) {{", *entry.translate(body), "}"]
    if len(entries) != len(re.findall(r"\.entry\b", ptx)):
        raise UnknownError("the head of a kernel")
    lines += ["", "const Registration registration({"]
    return "\n".join([*lines, *entries, "});", "", "}  // namespace", "}  // namespace serpent::cuda::ptx", ""])


def extract(cuobjdump: str, archive: Path) -> list[str]:
    """The PTX in ``archive``, one text for each object that has some, in their order."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([cuobjdump, "-xptx", "all", str(archive)], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        files = sorted(Path(folder).iterdir(), key=lambda file: int(file.name.split(".")[-3]))
        return [file.read_text() for file in files]


def main() -> None:
    """Translate each object's PTX into the file of the same place in the command line."""
    cuobjdump, archive, *outputs = sys.argv[1:]
    texts = extract(cuobjdump, Path(archive).resolve())
    if len(texts) != len(outputs):
        sys.exit(f"{archive} holds {len(texts)} texts of PTX, not {len(outputs)}; build for one virtual architecture")
    try:
        for text, output in zip(texts, outputs, strict=True):
            Path(output).write_text(translate(text))
    except UnknownError as unknown:
        sys.exit(f"{archive}: {unknown} of its PTX is unknown to {Path(__file__).name}")


if __name__ == "__main__":
    main()
