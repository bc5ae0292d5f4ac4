"""``serpent-eval``: how well a model restores the pictures of a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serpent_cli.console import activity, counting, show_json, show_table
from serpent_cli.options import json_option, native_code_option, seed_option, task_option, version_option
from serpent_cli.tf32 import keep_f32

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from serpent.evaluation import Evaluation, Pairs, Row
    from serpent.evaluation.lpips import Lpips
    from serpent.evaluation.restorers import Restorer
    from serpent.evaluation.sheet import ContactSheet

_ROWS, _SUMMARY, _SHEET = "pictures.csv", "summary.json", "sheet.png"


@click.command("eval", short_help="Measure how well a model restores pictures.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@task_option
@seed_option
@click.option("--crop", type=click.IntRange(min=1), metavar="N", help="Take centred squares of N pixels.  [whole]")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Take the first N pictures by name.  [all]")
@click.option(
    "--border", type=click.IntRange(min=0), default=0, show_default=True, help="Pixels that PSNR and SSIM leave out."
)
@click.option(
    "--wiener-from",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Training pictures, none of DATA: Wiener filters are fitted on them and measured, too. May be given again.",
)
@click.option("--no-wiener", is_flag=True, help="No Wiener filters beside the model.")
@click.option(
    "--lpips-weights", type=click.Path(path_type=Path), metavar="FILE", help="Measure LPIPS with these weights, too."
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FOLDER", help=f"Write {_ROWS}, {_SUMMARY} and {_SHEET} there."
)
@click.option("--overwrite", is_flag=True, help="Replace existing files in --out.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. Default: all.")
@click.option("--tta", is_flag=True, help="Mean over the eight ways to turn and mirror a picture: 8 times slower.")
@native_code_option
@json_option
@version_option
def evaluate(
    model: Path,
    data: Path,
    task: str,
    seed: int,
    crop: int | None,
    limit: int | None,
    border: int,
    wiener_from: tuple[Path, ...],
    no_wiener: bool,
    lpips_weights: Path | None,
    out: Path | None,
    overwrite: bool,
    device: str,
    threads: int | None,
    tta: bool,
    allow_native_code: bool,
    as_json: bool,
) -> None:
    """Degrade the pictures below the folder DATA, restore them with MODEL, and compare with the originals.

    MODEL is a .safetensors checkpoint, an .onnx file, a .plan, or B, L or H for the weights that ship. Equal digests of
    the degraded pictures say that figures can be compared. Figures are means over the pictures, of results as floats
    clipped to [0, 1].
    """
    from serpent.errors import UsageError
    from serpent.evaluation import Pairs, fit_wiener, scores
    from serpent.evaluation.report import summarise
    from serpent.evaluation.sheet import ContactSheet

    keep_f32()
    if no_wiener == bool(wiener_from):
        problem = "contradict each other" if no_wiener else "are both missing"
        hint = "a network is worth what it gains on the best linear filter: --wiener-from TRAINING, or else --no-wiener"
        raise UsageError(f"--wiener-from and --no-wiener {problem}", hint=hint)
    # What can fail at once fails before the model is loaded.
    pairs = Pairs(data, task, seed, crop, limit)
    training = [Pairs(folder, task, seed) for folder in wiener_from]
    if out is not None:
        _check_folder(out, (data, *wiener_from), overwrite=overwrite)
    distance = _distance(lpips_weights)
    with activity("reading the pictures") as now:
        _check_pairs(pairs, training, border, with_lpips=distance is not None)
        now.stage("fitting Wiener filters")
        floors = fit_wiener(chain.from_iterable(training)) if training else {}
    sheet = ContactSheet()
    native_code = allow_native_code or None
    with (
        _opener(model)(model, device, tta=tta, threads=threads, allow_native_code=native_code) as restorer,
        counting(len(pairs)) as progress,
    ):

        def watch(row: Row, pictures: Mapping[str, NDArray[np.float32]]) -> None:
            sheet.watch(row, pictures)
            progress.advance(row.name)

        found = scores.evaluate(restorer, pairs, floors=floors, border=border, distance=distance, watch=watch)
    how: dict[str, Any] = {
        "model": str(model),
        **restorer.facts,
        "tta": tta,
        "data": str(data),
        "task": task,
        "seed": seed,
        "crop": crop,
        "wiener_from": [str(folder) for folder in wiener_from],
        "wiener_pictures": sum(map(len, training)),
    }
    summary = {**how, **summarise(found), "notes": _notes(restorer, task)}
    if not as_json:
        # Before anything is written: a disk that is full by now must not take hours of figures with it.
        _show(summary)
    if out is not None:
        _write(out, found, sheet, summary, overwrite=overwrite)
        if not as_json:
            click.echo(f"written: {', '.join(str(out / name) for name in (_ROWS, _SUMMARY, _SHEET))}")
    if as_json:
        show_json(summary)


def _opener(model: Path) -> Callable[..., AbstractContextManager[Restorer]]:
    """What opens a model: the runtime for Serpent's files, training for its checkpoints of other networks."""
    from serpent.evaluation.restorers import open_restorer
    from serpent.extras import is_installed

    # Without torch, opening the file says what is missing.
    if model.suffix.lower() == ".safetensors" and is_installed("torch"):
        from serpent.train.restorers import open_network, read_task

        if read_task(model) is not None:
            return open_network
    return open_restorer


def _check_folder(out: Path, pictures: tuple[Path, ...], *, overwrite: bool) -> None:
    from serpent.errors import UsageError
    from serpent.files import check_writable_target

    for folder in pictures:
        if out.resolve().is_relative_to(folder.resolve()):
            raise UsageError(
                f"{out} lies in {folder}: the sheet would be one of its pictures", hint="choose another folder"
            )
    # A folder that is not there yet can be made where a file could.
    for path in [out / name for name in (_ROWS, _SUMMARY, _SHEET)] if out.is_dir() else [out]:
        check_writable_target(path, overwrite=overwrite and out.is_dir())


def _distance(weights: Path | None) -> Lpips | None:
    if weights is None:
        return None
    from serpent.evaluation.lpips import Lpips

    return Lpips(weights)


def _check_pairs(pairs: Pairs, training: list[Pairs], border: int, *, with_lpips: bool) -> None:
    from serpent.metrics import SSIM_WINDOW

    smallest = SSIM_WINDOW + 2 * border
    if with_lpips:
        from serpent.evaluation.lpips import LPIPS_SMALLEST

        smallest = max(smallest, LPIPS_SMALLEST)
    pairs.check(smallest)
    for each in training:
        each.check()
        pairs.check_apart(each)


def _notes(restorer: Restorer, task: str) -> list[str]:
    notes = list(restorer.notes)
    if restorer.task not in (task, "unknown"):
        notes.append(f"the model was trained for {restorer.task!r}, and is measured on {task!r}")
    if restorer.facts.get("weights") == "untrained":
        notes.append("the weights of this model are untrained")
    return notes


def _write(out: Path, found: Evaluation, sheet: ContactSheet, summary: dict[str, Any], *, overwrite: bool) -> None:
    from serpent.evaluation.report import write_rows, write_summary
    from serpent.pictures import write_picture

    out.mkdir(exist_ok=True)
    write_rows(out / _ROWS, found)
    write_picture(out / _SHEET, sheet.draw(), overwrite=overwrite)
    write_summary(out / _SUMMARY, summary)


def _show(summary: Mapping[str, Any]) -> None:
    how = f"{summary['backend']} on {summary['device']}, {summary['precision']}, weights {summary['weights'][:12]}"
    click.echo(f"{summary['model']}  {how}")
    size = "whole" if summary["crop"] is None else f"centre crops of {summary['crop']}x{summary['crop']}"
    click.echo(
        f"{summary['pictures']} pictures of {summary['data']}, {size}; {summary['task']}, seed {summary['seed']}"
    )
    click.echo(f"degraded pictures: sha256 {summary['degraded_sha256']}")
    click.echo(
        f"data range {summary['data_range']}, border {summary['border']} pixels; results as floats, clipped to [0, 1]"
    )
    means = summary["means"]
    lpips = "lpips" in means["model"]
    base = means["degraded"]["psnr"]
    rows = []
    for method, each in means.items():
        gain = "" if None in (each["psnr"], base) else f"{each['psnr'] - base:+.2f}"
        cells = [method, "inf" if each["psnr"] is None else f"{each['psnr']:.3f}", gain, f"{each['ssim']:.4f}"]
        rows.append([*cells, f"{each['lpips']:.4f}"] if lpips else cells)
    show_table(("method", "PSNR dB", "gain", "SSIM", *(["LPIPS"] if lpips else [])), rows)
    seconds = summary["seconds"] / summary["pictures"]
    click.echo(f"{seconds:.3f} s a picture; worst: {summary['worst']}, best: {summary['best']} (by the model's PSNR)")
    for note in summary["notes"]:
        click.echo(f"note: {note}")
