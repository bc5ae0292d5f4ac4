"""What the commands print."""

from __future__ import annotations

import json
import math
import sys

import pytest

from serpent_cli.console import counting, say, show_json


def test_json_has_no_numbers_that_json_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"psnr": math.inf, "cases": ({"rms": 0.5, "psnr": -math.inf}, [math.nan, 1, "inf", None, True])})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found == {"psnr": None, "cases": [{"rms": 0.5, "psnr": None}, [None, 1, "inf", None, True]]}


def test_what_is_skipped_says_nothing_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("rich.console.monotonic", lambda: clock[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with counting(1000) as count:
        for _ in range(990):
            count.skip()
        for _ in range(3):
            clock[0] += 2
            count.advance("a.png")
        assert count.progress is not None
        (task,) = count.progress.tasks
        assert (task.completed, task.total, task.fields["rate"]) == (3, 10, "0.50/s")
        assert task.time_remaining == 14


@pytest.mark.parametrize("piped", [False, True])
def test_lines_go_above_the_bar_and_to_their_own_stream(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], piped: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: not piped)
    with counting(2):
        say("a warning", err=True)
        say("a note")
    shown = capsys.readouterr()
    assert "\x1b[2Ka warning\n" in shown.err
    assert (shown.out == "a note\n") == piped
    assert ("\x1b[2Ka note\n" in shown.err) != piped


def test_a_hidden_bar_leaves_lines_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with counting(1, hidden=True) as count:
        say("x" * 500)
        count.advance("a.png")
    assert capsys.readouterr() == ("x" * 500 + "\n", "")
