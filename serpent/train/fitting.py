"""The training loop: one process, several GPUs or several machines, by Lightning Fabric."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO

import torch

from serpent.errors import SerpentError, UsageError
from serpent.evaluation import Pairs
from serpent.extras import require
from serpent.files import locked, remove_abandoned
from serpent.train.checkpoints import has_checkpoint
from serpent.train.initial import Taken
from serpent.train.learner import NOT_FINITE, Learner
from serpent.train.logs import Log, Report
from serpent.train.meter import Meter
from serpent.train.photographs import Photographs
from serpent.train.recipe import Recipe
from serpent.train.samples import Samples, batches
from serpent.train.together import together
from serpent.train.validation import Validation

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_FABRIC_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_LOCK = "lock"
# One of these is set where torchrun, SLURM, LSF or MPI started the process.
_LAUNCHERS = ("MASTER_ADDR", "SLURM_NTASKS", "LSB_JOBID", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


@dataclass(frozen=True)
class Machine:
    """On what a run goes, and how; none of it changes what is computed but for rounding.

    Attributes:
        accelerator: "cpu", "cuda" or "auto".
        devices: processes, one for each device; the recipe's batch is shared out over them.
        nodes: machines, each started by torchrun or a scheduler.
        workers: threads that make batches ahead, in each process.
        compile: run the network through torch.compile.
        checkpoint_activations: compute each block again in the backward pass, to save memory.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    workers: int = 1
    compile: bool = False
    checkpoint_activations: bool = False


@dataclass(frozen=True)
class Fit:
    """How a run ended.

    Attributes:
        step: optimiser steps done.
        total: optimiser steps of the whole run.
        best: highest validation PSNR, decibels; NaN without validation.
        weights: the weights' file: the best validated ones, else the last.
        reason: "finished", "time limit" or "interrupted".
        first: whether this is the process that writes, of several.
        taken: what the network took over from ``initial``.
    """

    step: int
    total: int
    best: float
    weights: Path
    reason: str
    first: bool = True
    taken: Taken | None = None


def fit(
    recipe: Recipe,
    photographs: Photographs,
    run: Path,
    *,
    validation: Path | None = None,
    machine: Machine = Machine(),
    resume: bool = False,
    initial: Path | None = None,
    max_minutes: float | None = None,
    shard_mib: int | None = None,
    log_every: int = 50,
    tensorboard: bool = True,
    about: Mapping[str, str] | None = None,
    on_taken: Callable[[Taken], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    on_report: Callable[[Report, int], None] | None = None,
) -> Fit:
    """Train a network; afterwards ``run`` holds the log, the last checkpoint and the weights.

    A run ends with a checkpoint when it has all its steps, when its time is up, and on SIGINT or SIGTERM.

    Args:
        recipe: what to compute.
        photographs: pictures to learn from.
        run: folder for everything that is written; made if it is not there.
        validation: folder of pictures to validate on.
        machine: on what to run.
        resume: go on from the last checkpoint in ``run``.
        initial: weights to start from: every parameter of equal name and shape is taken.
        max_minutes: end after so many minutes of wall-clock time.
        shard_mib: as :func:`serpent.train.checkpoints.save_checkpoint` takes it.
        log_every: steps between lines of the log.
        tensorboard: write TensorBoard events beside the CSV.
        about: metadata for the weights' files (data, license); a resumed run keeps what it had.
        on_taken: called before the first step with what was taken over from ``initial``, in the first process.
        on_step: called with the steps done and in all, in the first process.
        on_report: called with each line of the log and the number of steps in all, in the first process.

    Raises:
        UsageError: a recipe that this machine or network cannot run; a folder in which another process is training; an
            existing run without ``resume``; weights in ``run`` without a checkpoint; a resumed run with another recipe,
            other pictures, or others to validate on.
        CheckpointError: the checkpoint to resume from is missing or damaged.
        SerpentError: a loss or gradient that is not finite (the batch is saved), weights that give NaN, a disk that is
            full; or another process failed, which has its own message.
    """
    start = time.monotonic()
    check_run(run, resume=resume)
    fabric = _fabric(recipe, machine)
    processes = fabric.world_size * recipe.accumulate
    if recipe.batch % processes:
        shares = f"{fabric.world_size} process(es) and {recipe.accumulate} accumulated pass(es)"
        raise UsageError(f"batch {recipe.batch} cannot be shared out evenly over {shares}")
    total = recipe.total_steps(len(photographs))
    run.mkdir(parents=True, exist_ok=True)
    reason = "finished"
    with contextlib.ExitStack() as stack:
        with together(fabric):
            # The others of this run have looked at the lock by now.
            stack.enter_context(_lock(run) if fabric.is_global_zero else contextlib.nullcontext())
        remove_abandoned(run)
        check = None
        if validation is not None:
            pairs = Pairs(validation, recipe.task, recipe.seed, recipe.validate_crop)
            check = Validation(pairs, recipe.validate_pictures)
        identity = {"pictures": photographs.digest, "validation": None if check is None else check.digest}
        learner = Learner(
            recipe,
            identity,
            fabric,
            machine.compile,
            machine.checkpoint_activations,
            initial=initial,
            about=about or {},
        )
        if learner.taken is not None and on_taken is not None and fabric.is_global_zero:
            on_taken(learner.taken)
        step, past = learner.resume(run) if resume else (0, None)
        stop = stack.enter_context(_signals())
        with together(fabric):
            log = Log(run, step, tensorboard=tensorboard) if fabric.is_global_zero else None
        numbers = _numbers(step, total, recipe, fabric.global_rank, fabric.world_size)
        source = iter(batches(Samples(photographs, recipe), numbers, machine.workers))
        meter = Meter(recipe.batch, past, fabric.device)
        while step < total:
            rate = recipe.rate(step, total)
            with together(fabric):
                passes = [next(source) for _ in range(recipe.accumulate)]
            with together(fabric):
                meter.add(*learner.step(passes, rate, step, run))
            step += 1
            if on_step is not None and log is not None:
                on_step(step, total)
            reason = _reason(stop, start, max_minutes)
            # All processes must leave at the same step.
            ending = step == total or bool(fabric.broadcast(reason != "finished"))
            # An interruption adds no validation: a run that was resumed shall keep the weights of one that was not.
            planned = step == total or step % recipe.validate_every == 0
            due = planned or step % log_every == 0
            if not (ending or due):
                continue
            report = past = None
            if due:
                seconds = meter.seconds()
                measured = learner.validate(check, step, run) if check is not None and planned else None
                report = meter.report(fabric, step, rate, seconds, measured)
            else:  # Nor does it add a line to the log: the next one will speak of these steps too.
                past = meter.state(fabric)
            with together(fabric):
                if log is not None and report is not None:
                    log.write(report)
                if log is not None and (ending or planned):
                    learner.save(run, step, total, meter=past, shard_mib=shard_mib)
            if log is not None and report is not None and on_report is not None:
                on_report(report, total)
            if ending:
                break
            meter.start()
    weights = run / ("last.safetensors" if math.isnan(learner.best) else "best.safetensors")
    return Fit(step, total, learner.best, weights, reason, fabric.is_global_zero, learner.taken)


def check_run(run: Path, *, resume: bool) -> None:
    """Refuse a folder that :func:`fit` would refuse, before hours go into reading pictures.

    Raises:
        UsageError: a file, a run that still goes on, one without ``resume``, or weights without a checkpoint.
    """
    if run.exists() and not run.is_dir():
        raise UsageError(f"{run} is a file; expected a folder for the run", hint="choose another folder")
    if (run / _LOCK).exists():
        _lock(run, shared=True).close()
    if has_checkpoint(run):
        if not resume:
            raise UsageError(f"{run} holds a run already", hint="go on with it (--resume), or choose another folder")
        return
    # Batches that were saved and a log alone are of a run that failed early: nothing is lost by starting anew.
    # So is nothing by what a process that was killed had begun to write, under a hidden name.
    weights = sorted(path for path in run.glob("*.safetensors") if not path.name.startswith((NOT_FINITE, ".")))
    if weights:
        raise UsageError(
            f"{run} holds weights ({', '.join(path.name for path in weights)}) but no checkpoint to go on from",
            hint=f"start another run from them (another --out, with --init {weights[-1]}), or move them away",
        )


def _lock(run: Path, *, shared: bool = False) -> BinaryIO:
    try:
        return locked(run / _LOCK, shared=shared)
    except BlockingIOError:
        raise UsageError(
            f"another process is training in {run}",
            hint="choose another folder (--out), or wait until it has ended and go on with --resume",
        ) from None
    except OSError as error:
        raise SerpentError(f"cannot lock {run / _LOCK}: {error.strerror}", hint="choose another folder") from None


def _reason(stop: threading.Event, start: float, max_minutes: float | None) -> str:
    if stop.is_set():
        return "interrupted"
    late = max_minutes is not None and time.monotonic() - start > 60 * max_minutes
    return "time limit" if late else "finished"


def _fabric(recipe: Recipe, machine: Machine) -> Fabric:
    if machine.nodes > 1 and not any(name in os.environ for name in _LAUNCHERS):
        # Fabric would wait for the other machines for ever.
        raise UsageError(
            f"{machine.nodes} machines were asked for, but no launcher started this process",
            hint=f"on each machine: torchrun --nnodes {machine.nodes} --rdzv-endpoint HOST:29500 --no-python ...; "
            "docs/training.md has the whole command",
        )
    fabric_module = require("lightning_fabric", "train", "training")
    several = machine.devices * machine.nodes > 1
    # Fabric itself would go on in bf16, with a warning.
    if recipe.precision == "fp16" and (machine.accelerator == "cpu" or not torch.cuda.is_available()):
        raise UsageError("precision fp16 needs a CUDA device", hint="choose bf16 or fp32, or --accelerator cuda")
    try:
        fabric = fabric_module.Fabric(
            accelerator=machine.accelerator,
            devices=machine.devices,
            num_nodes=machine.nodes,
            strategy="ddp" if several else "auto",
            precision=_FABRIC_PRECISION[recipe.precision],
        )
    except (ValueError, RuntimeError) as error:
        wanted = f"{machine.devices} {machine.accelerator} device(s) at {recipe.precision}"
        raise UsageError(f"this machine cannot train on {wanted}: {error}") from None
    fabric.launch()
    made: Fabric = fabric
    return made


def _numbers(step: int, total: int, recipe: Recipe, rank: int, world: int) -> Iterator[list[int]]:
    """The samples of each pass of one process: together, all processes take the recipe's batch in each step."""
    share = recipe.batch // (world * recipe.accumulate)
    for now in range(step, total):
        for part in range(recipe.accumulate):
            first = now * recipe.batch + (part * world + rank) * share
            yield list(range(first, first + share))


@contextlib.contextmanager
def _signals() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into a request to stop after the step; a SIGINT after it has its usual effect."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        # SIGTERM comes twice where a scheduler tells all processes and torchrun passes it on: that is one request.
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
