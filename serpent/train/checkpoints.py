"""The state of a run on disk: safetensors and a json, in one folder that appears whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from serpent.errors import CheckpointError, SerpentError
from serpent.files import to_disk

FORMAT = "serpent-training-v1"
_FOLDER = re.compile(r"checkpoint-([0-9]{9})")
_STATE = "state.json"
_WEIGHTS = "state.safetensors"
_INDEX = "state.safetensors.index.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a run goes on from.

    Attributes:
        step: optimiser steps done.
        tensors: network, moving average and optimiser, by name.
        state: everything else: recipe, pictures, best validation, scaler, the log's line to come; plain JSON.
    """

    step: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


def save_checkpoint(run: Path, checkpoint: Checkpoint, *, shard_mib: int | None = None) -> Path:
    """Write ``run/checkpoint-STEP`` and then remove the one before; a failure leaves that one in place.

    Args:
        run: folder of the run.
        checkpoint: what to write.
        shard_mib: write parts of at most so many MiB with an index (``state-00001-of-00003.safetensors``, ...
            ``state.safetensors.index.json``); a larger tensor gets a part of its own.

    Raises:
        SerpentError: the folder cannot be written, or the disk is full.
    """
    from safetensors import SafetensorError

    final = run / f"checkpoint-{checkpoint.step:09d}"
    older = [path for _, path in _checkpoints(run) if path != final]
    aside = None
    for leftover in run.glob(".checkpoint-*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=run))
        _write_tensors(aside, checkpoint.tensors, shard_mib)
        text = json.dumps({"format": FORMAT, "step": checkpoint.step, **checkpoint.state}, indent=2)
        (aside / _STATE).write_text(text + "\n")
        _as_open_makes_them(aside, stat.S_IMODE((aside / _STATE).stat().st_mode))
        _all_to_disk(aside)
        if final.exists():
            shutil.rmtree(final)
        aside.rename(final)
        to_disk(run)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        hint = f"free some space, then go on with --resume; the last good one is {older[-1]}" if older else None
        raise SerpentError(f"cannot write the checkpoint {final}: {reason}", hint=hint) from None
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    for path in older:
        shutil.rmtree(path, ignore_errors=True)
    return final


def load_checkpoint(run: Path) -> Checkpoint:
    """Read the newest checkpoint of a run.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found = _checkpoints(run)
    if not found:
        raise CheckpointError(f"{run} has no checkpoint to resume from", hint="start the run without --resume")
    step, folder = found[-1]
    try:
        state = json.loads((folder / _STATE).read_text())
        index = folder / _INDEX
        homes = json.loads(index.read_text())["weight_map"] if index.exists() else None
        parts = [_WEIGHTS] if homes is None else sorted(set(homes.values()))
        tensors = {name: tensor for part in parts for name, tensor in load_file(folder / part).items()}
        missing = sorted(set(homes or ()) - set(tensors))
        if missing:
            raise ValueError(f"its parts lack {missing[0]}, which its index names")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        last = run / "last.safetensors"
        start = f" from the last weights (--init {last})" if last.exists() else ""
        raise CheckpointError(
            f"the checkpoint {folder} is damaged: {error}", hint=f"start anew in another folder{start}"
        ) from None
    if not isinstance(state, dict):
        raise CheckpointError(f"the checkpoint {folder} is damaged: its {_STATE} is no object")
    if state.get("format") != FORMAT or state.get("step") != step:
        raise CheckpointError(f"{folder} is no checkpoint of a training run: format {state.get('format')!r}")
    return Checkpoint(step, tensors, state)


def has_checkpoint(run: Path) -> bool:
    """Whether there is something to resume from."""
    return bool(_checkpoints(run))


def after_freeing(run: Path) -> str:
    """The next command after a file of a run could not be written."""
    return f"free some space, then {'go on with --resume' if has_checkpoint(run) else 'start anew'}"


def _checkpoints(run: Path) -> list[tuple[int, Path]]:
    if not run.is_dir():
        return []
    matches = ((_FOLDER.fullmatch(path.name), path) for path in run.iterdir())
    return sorted((int(match[1]), path) for match, path in matches if match is not None)


def for_file(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: on the CPU, contiguous, and each in memory of its own."""
    found: dict[str, Tensor] = {}
    places = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        found[name] = own.clone() if place in places else own  # a layer that a network uses twice has two names
        places.add(place)
    return found


def _write_tensors(folder: Path, tensors: Mapping[str, Tensor], shard_mib: int | None) -> None:
    from safetensors.torch import save_file

    tensors = for_file(tensors)
    if shard_mib is None:
        save_file(tensors, folder / _WEIGHTS)
        return
    parts: list[dict[str, Tensor]] = [{}]
    room = limit = shard_mib << 20
    for name, tensor in tensors.items():
        if tensor.nbytes > room and parts[-1]:
            parts.append({})
            room = limit
        parts[-1][name] = tensor
        room -= tensor.nbytes
    homes = {}
    for number, part in enumerate(parts, 1):
        file = f"state-{number:05d}-of-{len(parts):05d}.safetensors"
        save_file(part, folder / file)
        homes.update(dict.fromkeys(part, file))
    total = sum(tensor.nbytes for tensor in tensors.values())
    (folder / _INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": homes}, indent=2) + "\n")


def _as_open_makes_them(folder: Path, mode: int) -> None:
    # safetensors and mkdtemp make what they make for its owner alone: nobody else could go on with the run.
    for path in folder.iterdir():
        path.chmod(mode)
    folder.chmod(mode | (mode & 0o444) >> 2)  # who may read a folder may look into it


def _all_to_disk(folder: Path) -> None:
    # A rename may reach the disk before the data: after a power cut the newest checkpoint would be a hollow one.
    for path in (*folder.iterdir(), folder):
        to_disk(path)
