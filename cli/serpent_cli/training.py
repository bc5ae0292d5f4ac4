"""``serpent-train``: fit a network to a folder of photographs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serpent_cli.console import Steps, activity, say, show_json, training_progress
from serpent_cli.options import json_option, version_option

if TYPE_CHECKING:
    from serpent.train import Fit
    from serpent.train.initial import Taken
    from serpent.train.logs import Report

_RECIPE_OPTIONS = ("task", "network", "crop", "batch", "steps", "epochs", "learning_rate", "precision", "seed")


@click.command(short_help="Train a network on photographs.")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("--validate", type=click.Path(path_type=Path), help="Folder of pictures to validate on.")
@click.option(
    "--recipe",
    default="deblur-256",
    show_default=True,
    metavar="NAME|FILE",
    help="Hyper-parameters: deblur-128, deblur-256, deblur-512, sr8-256, sr8-512, or a TOML file.",
)
@click.option("--task", help="Degradation to undo: deblur, sr8, denoise, jpeg, motion, inpaint or module:function.")
@click.option("--network", help="B, L, H or module:factory.")
@click.option("--crop", type=click.IntRange(min=1), help="Side of the random crops, pixels.")
@click.option("--batch", type=click.IntRange(min=1), help="Crops in one step, over all processes.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps; overrides the epochs.")
@click.option("--epochs", type=float, help="Passes over the pictures.")
@click.option("--learning-rate", type=float, help="The largest one.")
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Autocast; the scan's state stays f32.")
@click.option("--seed", type=click.IntRange(min=0), help="Of weights, crops and degradations.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other field of the recipe, or config.NAME=VALUE."
)
@click.option(
    "--accelerator", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Device kind."
)
@click.option("--devices", type=click.IntRange(min=1), default=1, show_default=True, help="Processes, one a device.")
@click.option("--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Machines (torchrun).")
@click.option("--workers", type=click.IntRange(min=0), default=1, show_default=True, help="Threads that make batches.")
@click.option("--compile", "compiled", is_flag=True, help="Run the network through torch.compile.")
@click.option("--checkpoint-activations", is_flag=True, help="Less memory: compute blocks again in the backward pass.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
@click.option(
    "--init", "initial", type=click.Path(path_type=Path), help="Weights to start from; B, L, H: those that ship."
)
@click.option("--max-minutes", type=click.FloatRange(min=0), help="End after so many minutes, with a checkpoint.")
@click.option(
    "--shard-mib", type=click.IntRange(min=1), help="Write checkpoints in parts of so many MiB, with an index."
)
@click.option("--log-every", type=click.IntRange(min=1), default=50, show_default=True, help="Steps between log lines.")
@click.option("--tensorboard/--no-tensorboard", default=True, help="Write TensorBoard events beside the CSV.")
@click.option("--data-name", help="Name of the data, for the metadata of the weights.")
@click.option("--license", "license_", metavar="TEXT", help="Terms of the weights, for their metadata.")
@json_option
@version_option
def train(
    data: tuple[Path, ...],
    out: Path,
    validate: Path | None,
    recipe: str,
    settings: tuple[str, ...],
    accelerator: str,
    devices: int,
    nodes: int,
    workers: int,
    compiled: bool,
    checkpoint_activations: bool,
    resume: bool,
    initial: Path | None,
    max_minutes: float | None,
    shard_mib: int | None,
    log_every: int,
    tensorboard: bool,
    data_name: str | None,
    license_: str | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Train a network on the pictures below DATA.

    The run's folder holds log.csv, TensorBoard events, the last checkpoint and the weights (best.safetensors by
    validation, last.safetensors). Ctrl-C ends the run with a checkpoint; --resume goes on to the bit. On several GPUs
    use --devices; on several machines start the same command with torchrun.
    """
    from serpent.errors import CheckpointError, UsageError
    from serpent.extras import require

    start = time.monotonic()
    if initial is not None and resume:
        raise UsageError("--init starts a run, --resume goes on with one", hint="give one of them")
    with activity("loading PyTorch"):
        require("torch", "torch", "serpent-train")
        for module in ("lightning_fabric", *(("tensorboardX",) if tensorboard else ())):
            require(module, "train", "serpent-train")
        from serpent.degradations import find_task
        from serpent.evaluation import Pairs
        from serpent.train import fit, load_recipe
        from serpent.train.fitting import Machine, check_run
        from serpent.train.networks import load_network
        from serpent.train.photographs import Photographs
        from serpent.weights import model_file

    overrides = {key: value for key in _RECIPE_OPTIONS if (value := chosen[key]) is not None}
    if "epochs" in overrides:
        overrides.setdefault("steps", None)
    made = load_recipe(recipe, overrides | dict(map(_setting, settings)))
    # What can fail at once fails before the pictures are read.
    find_task(made.task)
    check_run(out, resume=resume)
    if initial is not None:
        initial = model_file(initial)
        if not initial.exists():
            hint = "name a .safetensors file, or B, L or H for the weights that ship"
            raise CheckpointError(f"the checkpoint {initial} does not exist", hint=hint)
        load_network(initial)
    with activity("reading the pictures") as progress:
        pictures = Photographs(data, least=made.crop, processes=devices, on_read=progress.tile)
        if validate is not None:
            progress.stage("reading the pictures to validate on")
            Pairs(validate, made.task, made.seed, made.validate_crop).check()
    with _shown(as_json) as show:
        result = fit(
            made,
            pictures,
            out,
            validation=validate,
            machine=Machine(accelerator, devices, nodes, workers, compiled, checkpoint_activations),
            resume=resume,
            initial=initial,
            # Of the whole command: whoever allots the minutes counts those of reading, too.
            max_minutes=None if max_minutes is None else max_minutes - (time.monotonic() - start) / 60,
            shard_mib=shard_mib,
            log_every=log_every,
            tensorboard=tensorboard,
            about={key: text for key, text in (("data", data_name), ("license", license_)) if text is not None},
            on_taken=show.taken,
            on_step=show.step,
            on_report=show.report,
        )
    if result.first:
        _show(result, as_json=as_json)


def _setting(text: str) -> tuple[str, Any]:
    """One field of the recipe as TOML has it; a bare word stands for itself."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--set")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


@dataclass
class _Shown:
    """A bar for who watches it, and for everyone a line on the weights to start from and for each validation."""

    bar: Steps
    as_json: bool
    status: str = ""

    def taken(self, taken: Taken) -> None:
        if not self.as_json:
            say(str(taken))

    def step(self, step: int, total: int) -> None:
        self.bar.update(step, total, self.status)

    def report(self, report: Report, total: int) -> None:
        self.status = f"loss {report.loss:.5f}  PSNR {report.psnr:.2f} dB  {report.images_per_second:.1f} images/s"
        self.step(report.step, total)
        if report.validation_psnr is not None and not self.as_json:
            validated = f"validation PSNR {report.validation_psnr:.3f} dB, SSIM {report.validation_ssim:.4f}"
            say(f"step {report.step}  {self.status}  {validated}")


@contextlib.contextmanager
def _shown(as_json: bool) -> Iterator[_Shown]:
    # Of several processes, which all have this terminal, the first one shows the bar.
    first = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
    with training_progress() if first else contextlib.nullcontext(Steps()) as bar:
        yield _Shown(bar, as_json)


def _show(result: Fit, *, as_json: bool) -> None:
    best = None if result.best != result.best else round(result.best, 4)  # NaN: not validated
    if as_json:
        fields = {"step": result.step, "total": result.total, "validation_psnr": best, "reason": result.reason}
        init = None if result.taken is None else dataclasses.asdict(result.taken) | {"path": str(result.taken.path)}
        show_json({"weights": str(result.weights), **fields, "init": init})
        return
    validated = "not validated" if best is None else f"best validation PSNR {best:.3f} dB"
    click.echo(f"{result.weights}: {result.step} of {result.total} steps, {validated} ({result.reason})")
    if result.step < result.total:
        click.echo(f"go on with the same command and --resume{'' if result.taken is None else ' in place of --init'}")
