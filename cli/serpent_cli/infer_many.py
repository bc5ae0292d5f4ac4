"""Many pictures in one run of ``serpent-infer``."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serpent_cli.console import counting, json_text, say
from serpent_cli.memory_lines import MemoryLines

if TYPE_CHECKING:
    from serpent.pictures.jobs import Job
    from serpent.runtime.batch import BatchOptions, Outcome
    from serpent.runtime.session import Session


def read_list(name: str, *, null: bool) -> list[Path]:
    """File names from a file, or from stdin for "-": one per line, or ended by NUL bytes.

    Raises:
        UsageError: the list cannot be read, is empty, or has NUL bytes where lines are expected.
    """
    from serpent.errors import UsageError

    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the list {name}: {error.strerror}") from None
    if not null and b"\0" in data:
        raise UsageError(f"the list {name} has names that end with NUL bytes", hint="add --null, or -0")
    paths = [Path(os.fsdecode(entry)) for entry in data.split(b"\0" if null else b"\n") if entry.strip()]
    if not paths:
        raise UsageError(f"the list {'on stdin' if name == '-' else name} names no picture")
    return paths


def expand(paths: Sequence[Path]) -> dict[Path, Path]:
    """Resolve patterns that no shell has resolved; names that exist stand for themselves.

    Returns:
        Files and folders, each with the folder where the tree begins that ``--out-dir`` keeps: of a pattern, the part
        before its first wildcard.

    Raises:
        UsageError: a pattern that matches nothing, or is none.
    """
    from glob import has_magic

    from serpent.errors import UsageError
    from serpent.pictures.jobs import common_root, tree_root

    found = {}
    for path in paths:
        if os.path.lexists(path) or not has_magic(str(path)):
            found[path] = tree_root(path)
            continue
        # From Python 3.13 on pathlib takes such a "**" for a "*", which leaves out what lies deeper.
        if any("**" in part and part != "**" for part in path.parts):
            raise UsageError(
                f"the pattern {path} cannot be used: ** stands for folders, alone between slashes",
                hint="for example 'photos/**/*.jpg'",
            )
        matches = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if path.name == "**":  # folders, since Python 3.13 files as well, whatever they are
            matches = [match for match in matches if match.is_dir()]
        if not matches:
            raise UsageError(f"no file matches {path}")
        fixed = Path(*itertools.takewhile(lambda part: not has_magic(part), path.parts))
        found |= dict.fromkeys(matches, common_root([fixed, *matches]))  # "*/../.." leads out of the fixed part
    return found


def expand_list(paths: Sequence[Path]) -> dict[Path, Path]:
    """As :func:`expand`, for the names of a list: their tree begins at the deepest folder that all have in common."""
    from serpent.pictures.jobs import common_root

    found = expand(paths)
    return dict.fromkeys(found, common_root(found)) if found else found


def run_many(sessions: list[Session], jobs: list[Job], options: BatchOptions, *, as_json: bool) -> int:
    """Restore ``jobs`` and say what became of each; the exit code, 1 where any failed."""
    from serpent.runtime.batch import restore_many

    start = time.perf_counter()
    count: Counter[str] = Counter()
    failed = []
    info = sessions[0].info
    devices = [session.info.device for session in sessions]
    memory = MemoryLines(quiet=as_json)
    if as_json:
        _event("start", pictures=len(jobs), backend=info.backend, devices=devices, notes=list(info.remarks))
    # Among events on the same terminal, a bar would break their lines.
    with counting(len(jobs), hidden=as_json and sys.stdout.isatty()) as progress:
        for outcome in restore_many(sessions, jobs, options, on_plan=memory.planned):
            kind = "failed" if outcome.error is not None else "skipped" if outcome.skipped else "restored"
            count[kind] += 1
            if outcome.skipped:
                progress.skip()
            else:
                progress.advance(outcome.job.source.name)
            if kind == "failed":
                failed.append(outcome)
            if as_json:
                _event(kind, **_fields(outcome))
            else:
                for note in outcome.notes:
                    say(f"note: {note}")
    seconds = time.perf_counter() - start
    memory.measured(*sessions)
    if as_json:
        counts = {kind: count[kind] for kind in ("restored", "skipped", "failed")}
        _event("done", **counts, seconds=round(seconds, 3), memory=memory.figures())
        return 1 if failed else 0
    rate = f", {count['restored'] / seconds:.2f} a second" if count["restored"] else ""
    skipped = f", {count['skipped']} skipped (there already)" if count["skipped"] else ""
    click.echo(f"{count['restored']} restored{skipped}, {len(failed)} failed in {seconds:.1f} s{rate}")
    for line in memory.lines() if count["restored"] else ():
        click.echo(line)
    for note in info.remarks:
        click.echo(f"note: {note}")
    for outcome in failed:
        error = outcome.error
        assert error is not None
        named = any(str(path) in error.message for path in (outcome.job.source, outcome.job.target))
        where = "" if named else f"{outcome.job.source}: "
        click.echo(f"failed: {where}{error}", err=True)
    return 1 if failed else 0


def _fields(outcome: Outcome) -> dict[str, Any]:
    output = None if outcome.job.error is not None else str(outcome.job.target)
    fields: dict[str, Any] = {"picture": str(outcome.job.source), "output": output}
    if outcome.error is not None:
        return fields | {"error": {"message": outcome.error.message, "hint": outcome.error.hint}}
    if outcome.skipped:
        return fields
    size = {"width": outcome.width, "height": outcome.height}
    memory = {"predicted_peak": outcome.predicted_peak, "measured_peak": outcome.measured_peak}
    return fields | size | {"memory": memory, "seconds": round(outcome.seconds, 3), "notes": list(outcome.notes)}


def _event(kind: str, **fields: Any) -> None:
    click.echo(json_text({"event": kind, **fields}))
