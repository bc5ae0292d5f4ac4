"""What the commands show: results on stdout, progress on stderr and only when somebody watches it."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

_UNLIMITED = 10_000
"""Columns assumed when stdout is no terminal: a file or pipe gets each table row on one line."""


def show_json(result: Mapping[str, Any]) -> None:
    """Write the one JSON object of a ``--json`` run."""
    click.echo(json_text(result, indent=2))


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON; numbers that are not finite, which it does not have (the PSNR of equal pictures), become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(line: str, *, err: bool = False) -> None:
    """Write a line, above a bar or spinner where one is shown: click's output would land at its end."""
    stream = sys.stderr if err else sys.stdout
    if hasattr(stream, "rich_proxied_file"):
        stream.write(line + "\n")
    else:
        click.echo(line, err=err)


def show_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table; plain and unwrapped when stdout is no terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        # Text, since file names may hold what rich takes for markup.
        table.add_row(*(Text(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else _UNLIMITED).print(table)


@contextlib.contextmanager
def _bar(*columns: ProgressColumn, total: int | None, description: str = "", **fields: Any) -> Iterator[Progress]:
    """Show a line of progress on stderr while the block runs, and wipe it afterwards."""
    from rich.console import Console
    from rich.progress import Progress

    # Where stdout is no terminal, rich would send what goes there to stderr.
    shown = Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        speed_estimate_period=120,
    )
    with shown as progress:
        progress.add_task(description, total=total, **fields)
        yield progress


@dataclass(frozen=True)
class Activity:
    """A running line of progress; does nothing without a terminal."""

    progress: Progress | None = None

    def stage(self, text: str) -> None:
        """Say what is going on now."""
        if self.progress is not None:
            self.progress.update(self.progress.task_ids[0], description=text)

    def tile(self, done: int, total: int) -> None:
        """Show ``done`` of ``total`` steps."""
        if self.progress is not None:
            self.progress.update(self.progress.task_ids[0], completed=done, total=total)


@contextlib.contextmanager
def activity(text: str) -> Iterator[Activity]:
    """Show a spinner with ``text`` on stderr while the block runs."""
    if not sys.stderr.isatty():
        yield Activity()
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with _bar(*columns, total=None, description=text) as progress:
        yield Activity(progress)


@dataclass(frozen=True)
class Count:
    """A running count of finished pictures; does nothing without a terminal."""

    progress: Progress | None = None

    def advance(self, name: str) -> None:
        """One more is finished."""
        if self.progress is not None:
            task = self.progress.tasks[0]
            rate = (task.completed + 1) / max(task.elapsed or 0, 1e-9)
            self.progress.update(task.id, description=name, advance=1, rate=f"{rate:.2f}/s")

    def skip(self) -> None:
        """One less is to do: what took no time says nothing of the rate, nor of the time that the rest takes."""
        if self.progress is not None:
            task = self.progress.tasks[0]
            self.progress.update(task.id, total=(task.total or 1) - 1)


@contextlib.contextmanager
def counting(total: int, *, hidden: bool = False) -> Iterator[Count]:
    """Show on stderr how many of ``total`` are done, how fast, and how long the rest takes, unless ``hidden``."""
    if hidden or not sys.stderr.isatty():
        yield Count()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    name, rate = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[rate]}")
    with _bar(name, BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn(), total=total, rate="") as progress:
        yield Count(progress)


@dataclass(frozen=True)
class Steps:
    """A running count of optimiser steps; does nothing without a terminal."""

    progress: Progress | None = None

    def update(self, step: int, total: int, status: str) -> None:
        """So many steps are done, and this is how it goes."""
        if self.progress is not None:
            self.progress.update(self.progress.task_ids[0], completed=step, total=total, status=status)


@contextlib.contextmanager
def training_progress() -> Iterator[Steps]:
    """Show steps, status, and the time left on stderr."""
    if not sys.stderr.isatty():
        yield Steps()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    status = TextColumn("{task.fields[status]}")
    with _bar(BarColumn(), MofNCompleteColumn(), status, TimeRemainingColumn(), total=None, status="") as progress:
        yield Steps(progress)


def human_size(size: int) -> str:
    """A file size in decimal units: 24.6 MB."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
