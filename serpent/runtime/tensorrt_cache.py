"""The user's cache folder: what a GPU compiled for a plan, and which plans are known to load.

Nothing here is needed: an entry that is absent or damaged is made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from serpent.errors import SerpentError
from serpent.files import written_aside

_DIGEST_BYTES = 32


def cache_folder() -> Path:
    """Where entries lie: ``serpent`` in the user's cache folder (the XDG base directory rules).

    Raises:
        OSError: there is no such folder: the user has no home, as with a container's ``--user``.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError as error:
            raise FileNotFoundError(str(error)) from None
    return base / "serpent"


def entry_name(kind: str, *parts: str) -> str:
    """File name of an entry that depends on all ``parts``, such as plan digest, GPU and TensorRT version."""
    return f"{kind}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"


def load(name: str) -> bytes | None:
    """The entry's bytes, or None where there is none or it is damaged."""
    try:
        data = (cache_folder() / name).read_bytes()
    except OSError:
        return None
    digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None


def store(name: str, content: bytes) -> bool:
    """Replace an entry, whole or not at all; whether that was possible.

    Writers of one entry wait for each other; the last one's bytes stay. A reader sees one of them.
    """
    try:
        folder = cache_folder()
        # Compiled code lies here: the folder is the user's alone.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder / f"{name}.lock"), written_aside(folder / name) as aside:
            aside.write_bytes(hashlib.sha256(content).digest() + content)
    except (OSError, SerpentError):  # a full or read-only home costs time at the next start, nothing else
        return False
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # closing the file lets go of it, even when the process dies
        yield
