"""``serpent-verify``: run a file's parity certificate again, here."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serpent_cli.console import activity, show_json
from serpent_cli.options import json_option, native_code_option, version_option
from serpent_cli.tf32 import keep_f32

if TYPE_CHECKING:
    from serpent.runtime.open import Scan


@click.command(short_help="Run a file's certificate again on this machine.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N.")
@click.option("--scan", type=click.Choice(["native", "function"]), help="For .onnx: as for serpent-infer.")
@native_code_option
@json_option
@version_option
def verify(file: Path, device: str, scan: Scan | None, allow_native_code: bool, as_json: bool) -> None:
    """Run FILE (.onnx or .plan) on its certificate's pictures and compare with the f64 values in its manifest.

    Needs neither PyTorch nor the weights. Exit code 1 where an error exceeds its limit.
    """
    from serpent.runtime.verification import verify_file

    keep_f32()
    with activity(f"verifying {file.name}"):
        result = verify_file(file, device, scan=scan, allow_native_code=allow_native_code or None)
    result.check()
    if not as_json:
        click.echo(f"verified: {result.subject}")
        for case in result.cases:
            click.echo(f"  {case.statement}")
        for text in result.left_out:
            click.echo(f"  not run: {text}")
        return
    info = result.info
    head = {"path": str(file), "verified": True, "backend": info.backend, "device": info.device, "scan": info.scan}
    show_json({**head, "cases": [asdict(case) for case in result.cases], "left_out": list(result.left_out)})
