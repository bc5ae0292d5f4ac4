"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from serpent.errors import SerpentError, UsageError


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_writable_target(path: Path, *, overwrite: bool) -> None:
    """Refuse early what :func:`written_aside` could not finish.

    Raises:
        UsageError: the target exists and ``overwrite`` is off, is a folder, or its folder does not exist.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; expected a file name")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already", hint="add --overwrite to replace it, or choose another name")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist", hint=f"mkdir -p {path.parent}")


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block succeeds.

    The temporary file keeps the suffix of ``path`` (encoders choose by it) and is removed on any failure.

    Raises:
        SerpentError: the folder cannot be written (read-only, full).
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise SerpentError(f"cannot write into {path.parent}: {error.strerror}", hint="choose another folder") from None
    aside = Path(name)
    try:
        yield aside
        # mkstemp makes files private; give the result the mode that a plain open() would have given it.
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o666 & ~umask)
        os.replace(aside, path)
    except OSError as error:
        raise SerpentError(f"cannot write {path}: {error.strerror or error}", hint="choose another folder") from None
    finally:
        aside.unlink(missing_ok=True)
