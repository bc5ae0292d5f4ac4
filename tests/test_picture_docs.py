"""The table in the documentation is the one the code goes by."""

from __future__ import annotations

from pathlib import Path

from serpent.pictures import FLOAT_DEPTH, FORMATS

PAGE = Path(__file__).parents[1] / "docs" / "pictures.md"


def test_the_table_says_what_the_code_does() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    expected = []
    for each in FORMATS:
        depths = ", ".join("float" if depth == FLOAT_DEPTH else str(depth) for depth in each.depths)
        carried = [name in each.carries for name in ("ICC profile", "EXIF", "XMP", "IPTC", "text", "resolution")]
        answers = ["yes" if answer else "no" for answer in (each.alpha, each.gray, *carried)]
        expected.append(f"| {' | '.join([each.name, depths, *answers])} |")
    assert rows == expected
