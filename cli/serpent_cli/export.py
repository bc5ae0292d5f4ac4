"""``serpent-export``: a network to one ONNX file, a TensorRT plan and their manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serpent_cli.console import activity, human_size, show_json, show_table
from serpent_cli.options import json_option, version_option

if TYPE_CHECKING:
    from serpent_export import ExportResult


@click.command(short_help="Write the ONNX file, the TensorRT plan and the manifest.")
@click.option(
    "--variant",
    required=True,
    metavar="[B|L|H]",
    help="Network: B (patches of 4 pixels, fastest), L (2) or H (1, finest).",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Trained .safetensors checkpoint. Default: the one that ships for variant and task; without one, random "
    "weights, with a warning.",
)
@click.option("--untrained", is_flag=True, help="Random weights (seed 0), even where trained ones ship.")
@click.option("--task", help="What the network restores.  [default: the checkpoint's, else deblur]")
@click.option("--require-weights", is_flag=True, help="Fail without trained weights.")
@click.option(
    "--res", help="Size in pixels: 512, 512x768 (height x width) or 256:512:2048 (min:opt:max).  [default: 512]"
)
@click.option("--profile", metavar="MIN:OPT:MAX", help="Instead of --res: sizes as 256x256:512x768:1024x2048.")
@click.option("--batch", default="1", show_default=True, help="Pictures per run: 1, or 1:1:8 (min:opt:max).")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    default="fp32",
    show_default=True,
    help="Arithmetic inside the network; with fp16, what it cannot hold stays in fp32.",
)
@click.option(
    "--io",
    type=click.Choice(["f32-nchw", "f16-nchw", "u8-nhwc"]),
    default="f32-nchw",
    show_default=True,
    help="What the file takes and gives; u8-nhwc scales, rounds and clamps inside the file.",
)
@click.option("--inline-scan", is_flag=True, help="Scans as standard operators, for runtimes that refuse functions.")
@click.option(
    "--certify-full-size",
    is_flag=True,
    help="Above 512x512, compare at the file's own size, which takes PyTorch in f64 minutes and gigabytes, so that "
    "serpent-verify can run the file.",
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(["onnx", "plan", "all"]),
    default="all",
    show_default=True,
    help="What to write; 'all' leaves the plan out where no TensorRT is installed, and says so.",
)
@click.option("--out", type=click.Path(path_type=Path), default=".", show_default=True, help="Folder for the files.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "rtx", "trt"]),
    default="auto",
    show_default=True,
    help="Builder of the plan: TensorRT-RTX (needs no GPU) or TensorRT.",
)
@click.option("--targets", help="GPUs of the plan, TensorRT-RTX only.  [default: sm86,sm89,sm120]")
@click.option("--workspace", metavar="SIZE", help="Most scratch memory of a layer, as in 4G.  [default: no limit]")
@click.option(
    "--timing-cache",
    type=click.Path(path_type=Path),
    help="Measurements to use again, read and written; TensorRT only.",
)
@click.option("--optimization-level", type=click.IntRange(0, 5), help="0 builds fastest, 5 searches longest.")
@click.option("--embed-plugin", is_flag=True, help="Put the plugin library, native code, into the plan.")
@click.option("--ort-trt", is_flag=True, help="Write the variant for ONNX Runtime's TensorRT provider, too.")
@click.option(
    "--triton", type=click.Path(path_type=Path), metavar="DIR", help="Make a model repository for Triton, too."
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@json_option
@version_option
def export(
    variant: str,
    weights: Path | None,
    untrained: bool,
    task: str | None,
    require_weights: bool,
    res: str | None,
    profile: str | None,
    batch: str,
    precision: str,
    io: str,
    inline_scan: bool,
    certify_full_size: bool,
    formats: str,
    out: Path,
    engine: str,
    targets: str | None,
    workspace: str | None,
    timing_cache: Path | None,
    optimization_level: int | None,
    embed_plugin: bool,
    ort_trt: bool,
    triton: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Export a network to ONNX and TensorRT, compared with the PyTorch model in f64.

    Writes serpent-VARIANT-RES-PRECISION.onnx, .plan and .json (the manifest). An export that misses its
    numeric bound fails and leaves nothing behind.
    """
    from serpent.config import SerpentConfig
    from serpent.errors import UsageError
    from serpent.extras import require
    from serpent.shapes import parse_profile

    if res is not None and profile is not None:
        raise UsageError(f"--res {res} and --profile {profile} both say the sizes", hint="give one of them")
    sizes = res or profile or "512"
    # Before torch is loaded, which takes seconds: a mistyped size is answered at once. A checkpoint may have
    # a size rule and a variant of its own.
    if weights is None:
        parse_profile(SerpentConfig.from_variant(variant), sizes, batch)
    with activity("loading PyTorch") as progress:
        require("torch", "torch", "serpent-export")
        for module in ("onnx", "onnxscript", "onnxruntime"):
            require(module, "onnx", "serpent-export")
        import serpent_export
        from serpent_export.engine_options import EngineOptions, parse_bytes

        options = EngineOptions(
            workspace=None if workspace is None else parse_bytes(workspace),
            optimization_level=optimization_level,
            timing_cache=timing_cache,
            embed_plugin=embed_plugin,
        )
        result = serpent_export.export(
            variant=variant.upper(),
            weights=weights,
            untrained=untrained,
            task=task,
            resolution=sizes,
            batch=batch,
            precision=precision,
            io=io,
            inline_scan=inline_scan,
            certify_full_size=certify_full_size,
            formats=formats,
            out=out,
            engine=engine,
            targets=targets,
            options=options,
            ort_trt=ort_trt,
            triton=triton,
            require_weights=require_weights,
            overwrite=overwrite,
            on_stage=progress.stage,
        )
    if as_json:
        show_json(_as_json(result))
    else:
        _show(result)


def _show(result: ExportResult) -> None:
    parity = result.parity
    measured = f"max|d| {parity.max_error:.2e}, PSNR {parity.psnr_db:.1f} dB, limit {parity.limit:.2e}"
    rows = [
        (
            file.path.name,
            human_size(file.bytes),
            file.precision,
            measured if file.kind == "onnx" else "-",
            ",".join(file.targets) or "-",
            f"{file.seconds:.1f} s",
        )
        for file in result.files
    ]
    show_table(("file", "size", "precision", "parity", "targets", "time"), rows)
    if all(file.kind != "onnx" for file in result.files):
        click.echo(f"parity of the ONNX graph that the plan was built from: {measured}")
    for note in result.notes:
        click.echo(note)
    click.echo(f"{result.manifest_path}: manifest; {result.seconds:.1f} s in all")


def _as_json(result: ExportResult) -> dict[str, Any]:
    parity = result.parity
    return {
        "files": [
            {
                "path": str(file.path),
                "kind": file.kind,
                "precision": file.precision,
                "bytes": file.bytes,
                "sha256": file.sha256,
                "targets": list(file.targets),
                "seconds": round(file.seconds, 3),
            }
            for file in result.files
        ],
        "manifest": str(result.manifest_path),
        "weights": result.weights,
        "kept_in_f32": list(result.kept_in_f32),
        "parity": {
            "max_error": parity.max_error,
            "eager_max_error": parity.eager_max_error,
            "limit": parity.limit,
            "psnr_db": parity.psnr_db,
            "statement": parity.statement,
        },
        "notes": list(result.notes),
        "seconds": round(result.seconds, 3),
    }
