"""The command lines of docs/deploy.md, run as they are printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "deploy.md"
NOT_RUN = re.compile(r"\s+# not run: .+$")
COMMANDS = {
    "python": "",
    "polygraphy": "import sys; from polygraphy.tools import main; sys.exit(main())",
    "serpent-export": "from serpent_cli.main import run_export; run_export()",
    "serpent-inspect": "from serpent_cli.main import run_inspect; run_inspect()",
    "serpent-verify": "from serpent_cli.main import run_verify; run_verify()",
}


class Line(NamedTuple):
    """A command of a shell block, on one line, and whether the document says that it was not run."""

    section: str
    text: str
    not_run: bool


def lines() -> list[Line]:
    """All commands of the document's shell blocks, in order."""
    found = []
    for part in DOCUMENT.read_text(encoding="utf-8").split("\n## ")[1:]:
        for block in re.findall(r"```sh\n(.*?)```", part, flags=re.DOTALL):
            for text in block.replace("\\\n", " ").splitlines():
                command = NOT_RUN.sub("", text)
                found.append(Line(part.partition("\n")[0], command, command != text))
    return found


def runnable(section: str) -> list[str]:
    """The commands of a section that the document does not mark as not run."""
    return [line.text for line in lines() if line.section == section and not line.not_run]


def run(commands: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run commands in one shell that stops at the first failure; programs are those of this environment."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name, code in COMMANDS.items():
        call = [sys.executable, *(["-c", code] if code else [])]
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(call)} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        **variables,
    }
    script = "\n".join(["set -eux", *commands])
    return subprocess.run(["sh", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
