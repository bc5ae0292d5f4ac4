"""Entry points, and the one place where errors become messages and exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Only what a user cannot have caused shows a
traceback. The subcommands import click and nothing heavy, so help answers at once.
"""

from __future__ import annotations

import io
import itertools
import os
import signal
import sys
from functools import partial
from typing import Any, NoReturn

import click

from serpent.errors import SerpentError
from serpent_cli.console import json_text
from serpent_cli.degrade import degrade
from serpent_cli.doctor import doctor
from serpent_cli.evaluation import evaluate
from serpent_cli.export import export
from serpent_cli.infer import infer
from serpent_cli.inspection import inspect
from serpent_cli.options import version_option
from serpent_cli.training import train
from serpent_cli.verification import verify

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


@click.group(invoke_without_command=True)
@version_option
@click.pass_context
def serpent(context: click.Context) -> None:
    """Restore images with Serpent networks: export them, run them, check the installation."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (export, infer, inspect, verify, train, evaluate, degrade, doctor):
    serpent.add_command(_command)


def run(command: click.Command, name: str) -> NoReturn:
    """Run a command with the process's arguments and leave with its exit code."""
    arguments = sys.argv[1:]
    # Leave through the same clean-up as on an error: temporary files go, nothing half-written stays.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name that is no valid text must not end a run that has already written its result.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _run(command, name, arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # as in `serpent-doctor | head -1`
        _abandon_stdout()
        code = 1  # as click has it
    except OSError as error:
        # The disk, the network share, the terminal: not ours, and named by the system.
        _abandon_stdout()
        where = f": {error.filename}" if error.filename else ""
        click.echo(f"error: {error.strerror or error}{where}", err=True)
        code = 1
    sys.exit(code)


def _run(command: click.Command, name: str, arguments: list[str]) -> int:
    try:
        return int(command.main(arguments, prog_name=name, standalone_mode=False) or 0)
    except click.exceptions.Abort:
        return _report("Interrupted", "interrupted", None, _INTERRUPTED, arguments)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else name
        return _report("UsageError", error.format_message(), f"{path} --help", error.exit_code, arguments)
    except click.ClickException as error:
        return _report(type(error).__name__, error.format_message(), None, error.exit_code, arguments)
    except SerpentError as error:
        return _report(type(error).__name__, error.message, error.hint, error.exit_code, arguments)
    except MemoryError:  # of numpy, for pictures; of networks it comes as a SerpentError
        return _report("OutOfMemoryError", "this needs more memory than there is", "end other programs", 1, arguments)


def _report(kind: str, message: str, hint: str | None, code: int, arguments: list[str]) -> int:
    if "--json" in arguments:
        fields: dict[str, Any] = {"type": kind, "message": message, "hint": hint, "exit_code": code}
        # On a line of its own, as the events of many pictures are.
        click.echo(json_text({"error": fields}), err=_is_stream(arguments))
    else:
        click.echo(f"error: {message}" + (f"\n  {hint}" if hint else ""), err=True)
    return code


def _is_stream(arguments: list[str]) -> bool:
    """Whether stdout belongs to video frames (``serpent-infer MODEL -``), which nothing else may come between."""
    takers = ("--files-from", "-o", "--output")
    return any(each == "-" and before not in takers for before, each in itertools.pairwise(["", *arguments]))


def _abandon_stdout() -> None:
    """If stdout itself is what failed, let the interpreter's last flush go nowhere instead of failing once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# One entry point for each program of pyproject.toml.
run_serpent = partial(run, serpent, "serpent")
run_export = partial(run, export, "serpent-export")
run_infer = partial(run, infer, "serpent-infer")
run_inspect = partial(run, inspect, "serpent-inspect")
run_verify = partial(run, verify, "serpent-verify")
run_train = partial(run, train, "serpent-train")
run_eval = partial(run, evaluate, "serpent-eval")
run_degrade = partial(run, degrade, "serpent-degrade")
run_doctor = partial(run, doctor, "serpent-doctor")
