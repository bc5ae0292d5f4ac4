"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from serpent.errors import ModelFileError, SerpentError, UsageError


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_model_file(path: Path) -> None:
    """Insist on a file with something in it, before anything else is said of it.

    Raises:
        ModelFileError: nothing, a folder, a pipe or device, or an empty file.
    """
    if path.is_dir():
        problem = "is a folder"
    elif not path.exists():
        problem = "does not exist"
    elif not path.is_file():
        problem = "is no regular file"
    elif path.stat().st_size == 0:
        problem = "is empty (0 bytes)"
    else:
        return
    raise ModelFileError(f"{path} {problem}", hint="name a file that serpent-export wrote")


def check_writable_target(path: Path, *, overwrite: bool) -> None:
    """Refuse early what :func:`written_aside` could not finish.

    Raises:
        UsageError: the target exists and ``overwrite`` is off, is a folder or a device, or its folder does not exist.
        SerpentError: the system refuses the name, or the folder is read-only.
    """
    try:
        # stat(), unlike exists(), says why a name cannot be used (too long, a file taken for a folder).
        kind = path.stat().st_mode
    except FileNotFoundError:
        kind = None
    except OSError as error:
        raise SerpentError(f"cannot write {path}: {error.strerror}", hint="choose another name") from None
    if kind is not None and stat.S_ISDIR(kind):
        raise UsageError(f"{path} is a folder; expected a file name")
    if kind is not None and not stat.S_ISREG(kind):
        raise UsageError(f"{path} is no regular file, and replacing it would destroy what it is")
    if kind is not None and not overwrite:
        raise UsageError(f"{path} exists already", hint="add --overwrite to replace it, or choose another name")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist", hint=f"mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise SerpentError(f"cannot write into {path.parent}: it is read-only", hint="choose another folder")


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block succeeds.

    The temporary file keeps the suffix of ``path`` (encoders choose by it) and is removed on any failure.

    Raises:
        SerpentError: the folder cannot be written (read-only, full).
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}-", suffix=path.suffix, dir=path.parent)
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
        aside.replace(path)
    except OSError as error:
        raise SerpentError(f"cannot write {path}: {error.strerror or error}", hint="choose another folder") from None
    finally:
        aside.unlink(missing_ok=True)
