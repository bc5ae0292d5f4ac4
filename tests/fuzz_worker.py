"""Opens damaged files, one after the other, and says of each how it ended; a process of its own, since it may die.

    python -m fuzz_worker FOLDER SCRATCH KIND FIRST LAST

Case i damages the files of FOLDER in a way that i alone decides. Prints "begin i" before it and "end i RESULT" after.
"""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import numpy as np

from serpent.errors import SerpentError
from serpent.files import sha256_file
from serpent.manifest import load_manifest
from serpent.runtime import open_session
from serpent.runtime.inspection import inspect_file
from serpent.runtime.tensorrt_library import FLAVOURS
from serpent.runtime.tensorrt_loading import trial

STEM = "serpent-b-64-fp32"
SUFFIX = {"manifest": "json", "onnx": "onnx", "onnx-alone": "onnx", "plan": "plan", "plan-itself": "plan"}
"""What is damaged. Alone: without the manifest, whose digest finds all damage. Itself: TensorRT gets the bytes."""


def damaged(data: bytes, case: int) -> bytes:
    """The bytes with some flipped, cut off, repeated or replaced; most cases hit the first kilobytes."""
    rng = random.Random(case)
    changed = bytearray(data)
    kind = rng.randrange(4)
    limit = len(changed) if rng.random() < 0.4 else min(len(changed), rng.choice([16, 64, 256, 4096]))
    if kind == 0:
        del changed[rng.randrange(len(changed)) :]
    elif kind == 1:
        start = rng.randrange(limit)
        changed[start : start + rng.randrange(1, 64)] = rng.randbytes(rng.randrange(0, 64))
    else:
        for _ in range(rng.choice([1, 1, 1, 4, 32])):
            changed[rng.randrange(limit)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def prepare(folder: Path, scratch: Path, kind: str, case: int) -> Path:
    """The damaged export in ``scratch``; the file to open."""
    target = scratch / f"{STEM}.{SUFFIX[kind]}"
    for file in folder.glob(f"{STEM}.*"):
        copy = scratch / file.name
        # The others stay as they are from case to case.
        if copy != target and not copy.exists() and (kind, copy.suffix) != ("onnx-alone", ".json"):
            shutil.copyfile(file, copy)
    target.write_bytes(damaged((folder / target.name).read_bytes(), case))
    if kind == "manifest":  # what it describes, in turns
        return scratch / f"{STEM}.{'plan' if case % 2 else 'onnx'}"
    return target


def outcome(file: Path, original: Path, kind: str) -> str:
    """How the case ended: "error", "right", "loaded" (but not run) or "wrong"; anything that is not ours is raised."""
    if kind == "plan-itself":
        return "error" if trial(file, FLAVOURS["rtx"], None) else "loaded"
    try:
        inspect_file(file)
        if kind == "manifest":
            # A digit of a size or a letter of a text may change; what is left must be whole and describe the file.
            load_manifest(file.with_suffix(".json")).check_digest(file)
        with open_session(file, threads=1, **({"scan": "native"} if file.suffix == ".onnx" else {})) as session:
            picture = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32)
            restored = session(picture)
    except SerpentError as error:
        return "error" if error.message.strip() else "an error without a message"
    with open_session(original, threads=1) as session:
        return "right" if np.array_equal(restored, session(picture)) else "wrong"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the cases."""
    folder, scratch, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    for case in range(int(sys.argv[4]), int(sys.argv[5])):
        say(f"begin {case}")
        file = prepare(folder, scratch, kind, case)
        if file.is_file() and sha256_file(file) == sha256_file(folder / file.name) and kind != "manifest":
            say(f"end {case} right")  # the damage was none
            continue
        try:
            result = outcome(file, folder / f"{STEM}.onnx", kind)
        except Exception as error:  # noqa: BLE001  # what is not ours is what this looks for
            result = f"{type(error).__name__}: {error}"
        say(f"end {case} {' '.join(result.split())}")


if __name__ == "__main__":
    main()
