"""``serpent-inspect``: what a model file is, and whether its manifest agrees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from serpent_cli.console import show_json
from serpent_cli.options import json_option, version_option


@click.command(short_help="Say what a model file is and check it against its manifest.")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@version_option
def inspect(file: Path, as_json: bool) -> int:
    """Say what FILE (.onnx, .plan or .safetensors) is, with digests. Nothing in it is run.

    Exit code 0 where the file agrees with its manifest and with its own digests, 1 where anything differs.
    """
    from serpent.runtime.inspection import inspect_file

    found = inspect_file(file)
    if as_json:
        show_json(
            {
                "path": str(found.path),
                "kind": found.kind,
                **found.facts,
                "manifest": None if found.manifest is None else str(found.manifest),
                "differences": list(found.differences),
            }
        )
        return 1 if found.differences else 0
    width = max(map(len, found.facts))
    click.echo(f"{found.path}: {found.kind}")
    for key, value in found.facts.items():
        click.echo(f"  {key:<{width}}  {_text(value)}")
    for difference in found.differences:
        click.echo(f"differs: {difference}")
    if found.manifest is None:
        # A plan carries no digest of itself.
        own = "nothing vouches for its bytes" if found.kind == "plan" else "its own digests agree"
        click.echo("no manifest lies beside it" + ("" if found.differences else f"; {own}"))
    elif not found.differences:
        click.echo(f"agrees with {found.manifest}")
    return 1 if found.differences else 0


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)
