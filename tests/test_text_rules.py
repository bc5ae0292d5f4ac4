"""Rules for every text file of the repository: small, clean, and bound to no machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("serpent", "export", "cli", "plugins", "tests", "examples", "benchmarks", "cmake", "docs", ".ci")
SOURCE_SUFFIXES = {".py", ".cpp", ".c", ".h", ".hpp", ".cu", ".cuh", ".cmake", ".js", ".css", ".html"}
MAX_LINES = 400

TEXTS = [
    path
    for path in sorted([*ROOT.iterdir(), *(p for folder in FOLDERS for p in (ROOT / folder).rglob("*"))])
    if path.is_file()
    and path.name != ".git"  # a file, with a path in it, where the checkout is a worktree
    and (path.suffix in {*SOURCE_SUFFIXES, ".md", ".toml", ".txt", ".yaml", ""} or path.name == "run")
]

FORBIDDEN = {
    # Written in pieces, so that this file obeys its own rule.
    "a path of one machine": re.compile("/" + r"(home|root|work|Users)/"),
    "a package index": re.compile(r"(py" + r"pi\.org|--(extra-)?index" + r"-url|--find" + r"-links)"),
    "a control or pictorial character": re.compile("[\x00-\x08\x0b-\x1f\x7f\u2600-\u27bf\U0001f000-\U0001faff]"),
    "space at the end of a line": re.compile(r"[ \t]+$", re.MULTILINE),
}


def test_the_files_are_found() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in TEXTS}
    assert {"Makefile", "pyproject.toml", "serpent/native.py", "plugins/include/serpent/scan.h"} <= names


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_contains(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()!r}"
        for path in TEXTS
        for match in FORBIDDEN[what].finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_every_file_ends_with_one_newline() -> None:
    contents = {path: path.read_text(encoding="utf-8") for path in TEXTS}
    assert [
        path for path, text in contents.items() if text and (not text.endswith("\n") or text.endswith("\n\n"))
    ] == []


def test_no_source_file_is_too_long() -> None:
    sources = [path for path in TEXTS if path.suffix in SOURCE_SUFFIXES]
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in sources}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}
