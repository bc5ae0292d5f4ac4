"""``serpent-verify``: run a file's parity certificate again, here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from serpent_cli.console import activity, show_json
from serpent_cli.options import json_option, version_option

if TYPE_CHECKING:
    from serpent.runtime.open import Scan


@click.command(short_help="Run a file's certificate again on this machine.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N.")
@click.option("--scan", type=click.Choice(["native", "function"]), help="For .onnx: as for serpent-infer.")
@json_option
@version_option
def verify(file: Path, device: str, scan: Scan | None, as_json: bool) -> None:
    """Run FILE (.onnx or .plan) on its certificate's picture and compare with the f64 values in its manifest.

    Needs neither PyTorch nor the weights. Exit code 1 where an error exceeds its limit.
    """
    from serpent.runtime.verification import verify_file

    with activity(f"verifying {file.name}"):
        result = verify_file(file, device, scan=scan)
    result.check()
    if not as_json:
        click.echo(f"verified: {result.statement}")
        return
    show_json(
        {
            "path": str(file),
            "verified": True,
            "backend": result.info.backend,
            "device": result.info.device,
            "scan": result.info.scan,
            "size": list(result.size),
            "pixels": result.pixels,
            "max_error": result.max_error,
            "max_limit": result.max_limit,
            "relative_error": result.relative_error,
            "relative_limit": result.relative_limit,
            "psnr_db": result.psnr_db,
        }
    )
