"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from serpent.errors import ModelFileError, SerpentError, UsageError, forget_frames

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]


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
    folder = _written_through(path).parent
    if not folder.is_dir():
        raise UsageError(f"the folder {folder} does not exist", hint=f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK):
        raise SerpentError(f"cannot write into {folder}: it is read-only", hint="choose another folder")


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path``, or what it links to, when the block succeeds.

    The temporary file lies beside the one that it replaces, keeps its suffix (encoders choose by it) and is removed on
    any failure. A file that is replaced hands on its mode and, where the system allows, its owner and group.

    Raises:
        SerpentError: the folder cannot be written (read-only, full).
    """
    try:
        path = _written_through(path)
        lock, aside, usual = _locked_aside(path)
    except OSError as error:
        raise SerpentError(f"cannot write into {path.parent}: {error.strerror}", hint="choose another folder") from None
    try:
        yield aside
        to_disk(aside)  # a name on the disk before its content would be an empty file after a power cut
        _hand_on_mode(path, aside, usual)
        aside.replace(path)
    except OSError as error:
        forget_frames(error)  # those of a picture's writer hold its pixels
        raise SerpentError(f"cannot write {path}: {error.strerror or error}", hint="choose another folder") from None
    finally:
        aside.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def to_disk(path: Path) -> None:
    """Wait until what was written to a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows flushes what may be written
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder; those still being written stay."""
    if fcntl is None:
        return
    try:
        found = list(folder.glob(f".*{_ASIDE}*"))
    except OSError:  # whoever writes there will be told
        return
    for aside in found:
        # Whoever writes a file holds its lock, which the system takes from a dead process, on other machines and in
        # other containers too, where a process number would say nothing. What cannot be locked (another user's file,
        # a file system without locks) stays.
        with contextlib.suppress(OSError), aside.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            aside.unlink()


def locked(path: Path, *, shared: bool = False) -> BinaryIO:
    """Open a file, made if it is not there, and hold its lock until it is closed.

    The lock goes with the process, however that ends: a file that is left locks nothing. Where the system or the file
    system has no locks, nobody is kept out.

    Args:
        path: a file that is there to be locked, and stays.
        shared: share the lock with others who do, to see whether somebody holds it alone.

    Raises:
        BlockingIOError: somebody else holds it.
        OSError: the file cannot be opened.
    """
    file = path.open("rb" if shared else "ab")
    try:
        if fcntl is not None:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    except OSError:  # a file system without locks
        pass
    return file


_ASIDE = ".serpent-"  # in the names of temporary files, so that nobody's own hidden file is taken for one


def _written_through(path: Path) -> Path:
    """What a link names, as open() would write it."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _locked_aside(path: Path) -> tuple[int | None, Path, int]:
    """An empty file beside ``path``, the descriptor that keeps :func:`remove_abandoned` from it, and a new file's mode.

    The file itself is private: it may replace one that is. The mode is that of a plain open(), seen from the file: the
    umask is only told by setting it, and between two threads that do the process would lose it.
    """
    while True:
        aside = path.with_name(f".{path.stem[:40]}{_ASIDE}{secrets.token_hex(6)}{path.suffix}")
        try:
            lock = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        usual = stat.S_IMODE(os.fstat(lock).st_mode)
        if fcntl is None:
            os.close(lock)  # Windows replaces no file that is open
            return None, aside, usual
        with contextlib.suppress(OSError):  # a file system without modes
            os.fchmod(lock, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks: then nothing is removed there either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if aside.exists():
            return lock, aside, usual
        os.close(lock)  # taken for abandoned in the moment before it was locked


def _hand_on_mode(path: Path, aside: Path, usual: int) -> None:
    """Give ``aside`` the mode and owner of the file that it replaces; to a new file the ``usual`` mode."""
    try:
        old = path.stat()
    except FileNotFoundError:
        aside.chmod(usual)
        return
    for owner, group in ((old.st_uid, -1), (-1, old.st_gid)):
        with contextlib.suppress(OSError, AttributeError):  # Windows has no such function
            os.chown(aside, owner, group)
    aside.chmod(stat.S_IMODE(old.st_mode))  # after chown(), which clears bits of it
