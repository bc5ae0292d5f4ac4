"""What the commands print."""

from __future__ import annotations

import json
import math

import pytest

from serpent_cli.console import show_json


def test_json_has_no_numbers_that_json_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"psnr": math.inf, "cases": ({"rms": 0.5, "psnr": -math.inf}, [math.nan, 1, "inf", None, True])})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found == {"psnr": None, "cases": [{"rms": 0.5, "psnr": None}, [None, 1, "inf", None, True]]}
