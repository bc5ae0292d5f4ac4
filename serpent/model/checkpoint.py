"""Checkpoints: safetensors with the configuration in the metadata, loaded strictly.

That package is imported where files are read and written: a network needs torch alone.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from serpent.config import SerpentConfig
from serpent.errors import CheckpointError, UsageError
from serpent.files import written_aside
from serpent.identity import digest_weights
from serpent.model.unet import Serpent, set_scan_backend

FORMAT = "serpent-checkpoint-v1"
_COPY_AGAIN = "copy it again from where it was written by serpent.save_model(model, path)"

_PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # a zip, and pickle protocols 2 to 5


def weights_digest(model: Serpent) -> str:
    """SHA-256 over the configuration (but its label) and all parameters: names, shapes and f32 values, by name."""
    return digest_weights(
        model.config.to_dict(),
        (
            (name, tuple(tensor.shape), tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
            for name, tensor in model.state_dict().items()
        ),
    )


def save_model(
    model: Serpent, path: str | Path, *, task: str = "deblur", extra: Mapping[str, str] | None = None
) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        model: the network; its parameters are stored in f32.
        path: file to write; an existing one is replaced.
        task: what the weights were trained for.
        extra: more metadata (licence, data, metrics), string to string.

    Raises:
        SerpentError: the folder cannot be written.
    """
    state = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in model.state_dict().items()}
    metadata = {
        **(extra or {}),
        "format": FORMAT,
        "config": json.dumps(model.config.to_dict(), sort_keys=True),
        "task": task,
        "weights_digest": weights_digest(model),
    }
    write_tensors(Path(path), state, metadata)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all; equal tensors and metadata give equal bytes.

    Args:
        path: file to write; an existing one is replaced.
        tensors: contiguous, each in memory of its own.
        metadata: string to string.

    Raises:
        SerpentError: the folder cannot be written.
    """
    from safetensors.torch import save

    with written_aside(path) as aside:
        # save_file would put a file of its own in the place of this one, which is locked.
        aside.write_bytes(save(dict(tensors), metadata=dict(metadata or {}) or None))
        if metadata:
            _sort_metadata(aside)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a checkpoint: "format", "config" (JSON), "task", "weights_digest", and the writer's own.

    Raises:
        CheckpointError: missing, truncated, pickled, or not written by :func:`save_model`.
    """
    return _read(Path(path))[0]


def load_model(path: str | Path, *, scan_backend: str = "native") -> Serpent:
    """Read a checkpoint into a new network, f32, on the CPU, in eval mode.

    Args:
        path: a file written by :func:`save_model`.
        scan_backend: as :func:`serpent.model.set_scan_backend` takes it.

    Raises:
        UsageError: unknown backend.
        MissingExtraError: the backend needs a package that is not installed.
        CheckpointError: missing, truncated, pickled or foreign file; missing, unexpected or wrongly shaped
            parameters (every one is named); weights that do not match their digest.
    """
    path = Path(path)
    metadata, state = _read(path)
    try:
        config = SerpentConfig.from_dict(json.loads(metadata["config"]))
    except (ValueError, TypeError, KeyError, UsageError) as error:
        raise CheckpointError(f"{path} has an unusable configuration: {error}") from None
    model = Serpent(config)
    _check_state(path, model.state_dict(), state)
    model.load_state_dict(state, strict=True)
    if weights_digest(model) != metadata.get("weights_digest"):
        raise CheckpointError(
            f"{path}: the weights do not match the digest in its metadata; the file was changed", hint=_COPY_AGAIN
        )
    return set_scan_backend(model.eval(), scan_backend)


def _sort_metadata(path: Path) -> None:
    # safetensors writes the metadata in an order that changes from call to call; equal weights shall give equal bytes.
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length
        file.seek(8)
        file.write(text.ljust(length))


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"the checkpoint {path} {problem}", hint="name a .safetensors file")
    try:
        with path.open("rb") as stream:
            head = stream.read(9)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    # A safetensors file begins with the length of its header, which may look like a pickle, and then a brace.
    if head[:2] in _PICKLES and head[8:] != b"{":
        raise CheckpointError(
            f"{path} is a pickle (torch.save), which can run code when opened; it is refused",
            hint="convert it where you trust it: serpent.save_model(model, 'model.safetensors')",
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or no safetensors file: {error}", hint=_COPY_AGAIN) from None
    if metadata.get("format") != FORMAT:
        if "network" in metadata:
            raise CheckpointError(
                f"{path} holds the network {metadata['network']}, which is no Serpent",
                hint="serpent-train --init and serpent-eval take it",
            )
        raise CheckpointError(
            f"{path} is a safetensors file, but no Serpent checkpoint: its metadata has format "
            f"{metadata.get('format')!r}, expected {FORMAT!r}",
            hint="of a training run name best.safetensors or last.safetensors; write checkpoints of your own with "
            "serpent.save_model(model, path)",
        )
    return metadata, state


def _check_state(path: Path, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    problems = [f"missing: {name}" for name in sorted(expected.keys() - found.keys())]
    problems += [f"unexpected: {name}" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        if found[name].shape != expected[name].shape:
            shapes = f"{tuple(found[name].shape)}, expected {tuple(expected[name].shape)}"
            problems.append(f"wrong shape: {name} is {shapes}")
        elif found[name].dtype != torch.float32:
            problems.append(f"wrong dtype: {name} is {found[name].dtype}, expected torch.float32")
    if problems:
        listing = "\n  ".join(problems)
        raise CheckpointError(f"{path} does not fit its own configuration ({len(problems)} keys):\n  {listing}")
