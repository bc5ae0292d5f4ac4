"""Networks by name: Serpent's variants, and any torch module that a factory makes; their files."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from serpent.config import PATCH_SIZES
from serpent.errors import CheckpointError, UsageError
from serpent.model import Serpent, create_model, load_model, save_model
from serpent.model.checkpoint import write_tensors
from serpent.train.checkpoints import for_file

FORMAT = "serpent-network-v1"
"""Format of checkpoints of networks other than Serpent, in the metadata of the safetensors file."""


def create_network(spec: str, *, seed: int, config: Mapping[str, Any] | None = None) -> nn.Module:
    """A network with fresh weights, in eval mode, that maps (B, 3, H, W) in [0, 1] to the same shape.

    Args:
        spec: "B", "L", "H", or ``module:factory``: a callable without arguments whose result has the attribute
            ``size_multiple``, the number of pixels that H and W must be multiples of.
        seed: of the weights; torch's global generator is left alone.
        config: fields of :class:`serpent.SerpentConfig` to replace; for "B", "L" and "H" alone.

    Raises:
        UsageError: no such network, unknown or invalid field.
    """
    if spec.upper() in PATCH_SIZES:
        return create_model(spec.upper(), seed=seed, **(config or {}))
    module, colon, factory = spec.partition(":")
    if not colon:
        known = ", ".join(PATCH_SIZES)
        raise UsageError(f"unknown network {spec!r}; expected {known} or module:factory")
    try:
        make = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError, ValueError) as error:
        hint = "its folder must be on PYTHONPATH"
        raise UsageError(f"the network {spec!r} cannot be imported: {error}", hint=hint) from None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            network = make()
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            raise UsageError(
                f"the network {spec!r} cannot be made: {type(error).__name__}: {error} "
                f"({where.filename}:{where.lineno})",
                hint="name a function that takes no argument and returns the network",
            ) from error
    if not isinstance(network, nn.Module) or not isinstance(getattr(network, "size_multiple", None), int):
        raise UsageError(f"{spec!r} makes {type(network).__name__}; expected a torch module with size_multiple")
    return network.eval()


def save_network(network: nn.Module, path: Path, *, spec: str, task: str, extra: Mapping[str, str]) -> None:
    """Write weights: Serpent's as :func:`serpent.save_model` does, others with their ``spec``.

    Raises:
        SerpentError: the folder cannot be written.
    """
    if isinstance(network, Serpent):
        save_model(network, path, task=task, extra=extra)
        return
    metadata = {**extra, "format": FORMAT, "network": spec, "task": task}
    write_tensors(path, for_file(network.state_dict()), metadata)


def load_network(path: Path | str) -> nn.Module:
    """Read what :func:`save_network` wrote, f32, on the CPU, in eval mode.

    Raises:
        CheckpointError: missing, damaged or foreign file; weights that do not fit the network.
        UsageError: the network's module cannot be imported.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                return load_model(path)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError):
        return load_model(path)  # whose errors name what is wrong with the file
    network = create_network(metadata.get("network", ""), seed=0)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit {metadata.get('network')}: {error}") from None
    return network
