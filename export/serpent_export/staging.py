"""Files of an export appear in their folder together, or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serpent.errors import SerpentError
from serpent.files import check_writable_target


@contextmanager
def staged(out: Path, names: list[str], *, overwrite: bool) -> Iterator[Path]:
    """A folder inside ``out`` whose files ``names`` move to ``out`` together when the block succeeds."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in names:
            check_writable_target(out / name, overwrite=overwrite)
        folder = Path(tempfile.mkdtemp(prefix=".serpent-export-", dir=out))
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise SerpentError(f"cannot write into {out}: {reason}", hint="choose another folder: --out DIR") from None
    try:
        yield folder
        for name in names:  # another export may have written it meanwhile
            check_writable_target(out / name, overwrite=overwrite)
        move_together(folder, out, names)
    except OSError as error:
        # The engine's build works in the system's temporary folder, too.
        folder_of = Path(str(error.filename)).parent if error.filename else out
        where = out if folder_of == folder else folder_of
        raise SerpentError(f"cannot write into {where}: {error.strerror or error}", hint="make room there") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # there are files in it: the export succeeded
            for new in made:
                new.rmdir()


def move_together(folder: Path, out: Path, names: list[str]) -> None:
    """Move files into ``out``, all or none; the manifest, last in ``names``, leaves first and arrives last."""
    replaced = folder / "replaced"
    replaced.mkdir()
    moved: list[str] = []
    try:
        for name in reversed(names):
            if (out / name).exists():
                (out / name).replace(replaced / name)
        for name in names:
            (folder / name).replace(out / name)
            moved.append(name)
    except BaseException:  # an interruption, too
        for name in moved:
            (out / name).unlink()
        for old in replaced.iterdir():
            old.replace(out / old.name)
        raise
