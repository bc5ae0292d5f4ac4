"""Pieces of HTML. Whatever comes in is text, and is escaped here and nowhere else."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_SURROGATE = re.compile("[\ud800-\udfff]")


class Markup(str):
    """HTML that is finished; every other string is text."""

    __slots__ = ()


def text(value: object) -> Markup:
    """A value as text of a page, within elements and within quoted attributes.

    Surrogates, as bytes of a file name that are not UTF-8 become, are replaced: a page has no place for them.
    """
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", str(value))))


def named(path: Path) -> Markup:
    """A file's name that keeps to itself which way its letters run."""
    return Markup(f"<bdi>{text(path.name)}</bdi>")


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
