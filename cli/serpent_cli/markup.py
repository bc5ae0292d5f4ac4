"""Pieces of HTML. Whatever comes in is text, and is escaped here and nowhere else."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path


class Markup(str):
    """HTML that is finished; every other string is text."""

    __slots__ = ()


def text(value: object) -> Markup:
    """A value as text of a page, within elements and within quoted attributes."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def file_name(path: Path) -> str:
    """The last part of a path; bytes of it that are not UTF-8 are replaced, since a page has no place for them."""
    return os.fsencode(path.name).decode("utf-8", "replace")


def named(path: Path) -> Markup:
    """A file's name that keeps to itself which way its letters run."""
    return Markup(f"<bdi>{text(file_name(path))}</bdi>")


def paragraph(value: object) -> Markup:
    """One paragraph."""
    return Markup(f"<p>{text(value)}</p>")


def bullets(values: Sequence[object]) -> Markup:
    """A list."""
    return Markup(f"<ul>{''.join(f'<li>{text(value)}</li>' for value in values)}</ul>")


def facts(values: Mapping[str, object]) -> Markup:
    """A table of names and values; what is None is left out."""
    rows = (
        f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>'
        for name, value in values.items()
        if value is not None
    )
    return Markup(f'<table class="facts">{"".join(rows)}</table>')


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> Markup:
    """A table whose first column names its rows."""
    names = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    lines = [f"<tr>{names}</tr>"]
    for first, *others in rows:
        cells = "".join(f"<td>{text(cell)}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{text(first)}</th>{cells}</tr>')
    return Markup(f'<div class="scroll"><table>{"".join(lines)}</table></div>')


def card(title: str, *parts: Markup) -> Markup:
    """One section below the pictures."""
    return Markup(f'<section class="card"><h2>{text(title)}</h2>{"".join(parts)}</section>')
