"""``serpent-doctor``: what is installed, whether it works, and what to do about what does not."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import click

from serpent_cli.console import activity, show_json
from serpent_cli.options import json_option, version_option

if TYPE_CHECKING:
    from serpent_cli.probes import Finding

_TIMEOUT_S = 90
_COLOURS = {"ok": "green", "missing": "yellow", "problem": "red"}


@click.command(short_help="Check the installation.")
@json_option
@version_option
def doctor(as_json: bool) -> int:
    """Check the installation: one line per part, and what to do about what is missing.

    Exit code 0 when the native library works, 1 when it does not; everything else is optional.
    """
    import serpent
    from serpent_cli.probes import NATIVE, PROBES

    with activity("examining the installation") as progress, ThreadPoolExecutor(_workers()) as pool:
        findings: list[Finding] = []
        for finding in pool.map(_examine, PROBES):
            findings.append(finding)
            progress.tile(len(findings), len(PROBES))
    works = all(finding.status == "ok" for finding in findings if finding.name == NATIVE)
    if as_json:
        checks = [dataclasses.asdict(finding) for finding in findings]
        show_json({"version": serpent.__version__, "works": works, "checks": checks})
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            status = click.style(f"{finding.status:<7}", fg=_COLOURS[finding.status])
            advice = f" -> {finding.hint}" if finding.hint else ""
            click.echo(f"{finding.name:<{width}}  {status}  {' '.join(finding.detail.split())}{advice}")
    return 0 if works else 1


def _workers() -> int:
    return min(4, os.cpu_count() or 1)


def _examine(name: str) -> Finding:
    """Run one probe in a child process that sees the same modules as this one."""
    from serpent_cli.probes import Finding

    # -P keeps the working folder, and a stray torch.py in it, out of the search path.
    command = [sys.executable, "-P", "-m", "serpent_cli.probes", name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        child = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(name, "problem", f"did not answer within {_TIMEOUT_S} s", "reinstall it")
    if child.returncode == 0:
        return Finding(**json.loads(child.stdout.splitlines()[-1]))
    last = (child.stderr.strip().splitlines() or ["no message"])[-1]
    end = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
    return Finding(name, "problem", f"loading it ended its process with {end}: {last}", "reinstall it")
