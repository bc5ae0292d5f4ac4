"""Opens damaged picture files, one after the other, and says how each ended; a process of its own, since it may die.

    python picture_fuzz_worker.py FOLDER SCRATCH FIRST LAST

Case i damages the file i mod n of FOLDER in a way that i alone decides. Prints "begin i" before it and
"end i SECONDS RESULT" after, and at last "peak BYTES" (of resident memory).
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from serpent.errors import PictureError
from serpent.pictures import read_picture, write_picture


def damaged(data: bytes, case: int) -> bytes:
    """The bytes with some flipped, cut off, repeated, replaced or zeroed; most cases hit the first kilobyte."""
    rng = random.Random(case)
    changed = bytearray(data)
    limit = len(changed) if rng.random() < 0.4 else min(len(changed), rng.choice([16, 64, 256, 1024]))
    kind = rng.randrange(5)
    if kind == 0:
        del changed[rng.randrange(len(changed)) :]
    elif kind == 1:
        start = rng.randrange(limit)
        changed[start : start + rng.randrange(1, 64)] = rng.randbytes(rng.randrange(64))
    elif kind == 2:  # sizes and counts: large numbers where there were small ones
        start = rng.randrange(limit)
        changed[start : start + 4] = rng.choice(
            [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\xff\xff"]
        )
    else:
        for _ in range(rng.choice([1, 1, 4, 32])):
            changed[rng.randrange(limit)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def say(*words: object) -> None:
    """One line, at once: the next case may be the last."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def peak_bytes() -> int:
    """Most resident memory of this program; getrusage would count that of the one which started it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def main(folder: Path, scratch: Path, first: int, last: int) -> None:
    """Run the cases [first, last)."""
    files = sorted(folder.iterdir())
    for case in range(first, last):
        original = files[case % len(files)]
        path = scratch / f"damaged{original.suffix}"
        path.write_bytes(damaged(original.read_bytes(), case))
        say("begin", case)
        start = time.monotonic()
        try:
            picture = read_picture(path, max_pixels=4_000_000)
            write_picture(scratch / "again.png", picture, overwrite=True)
            result = "read"
        except PictureError:
            result = "refused"
        say("end", case, f"{time.monotonic() - start:.3f}", result)
    say("peak", peak_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
