"""The network to export and what is known of its weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from serpent.degradations import find_task
from serpent.errors import CheckpointError, UsageError
from serpent.model import Serpent, create_model, load_model, read_metadata, weights_digest
from serpent.weights import DEFAULT_TASK, shipped_weights

UNTRAINED = "untrained"


@dataclass(frozen=True)
class Network:
    """The network to export and what is known of its weights; ``source`` says in words where they come from."""

    model: Serpent
    task: str
    digest: str
    license: str
    trained: bool
    source: str = "random"

    @property
    def weights(self) -> str:
        """What the files say of the weights: their digest, or that they are untrained."""
        return self.digest if self.trained else UNTRAINED


def load_network(
    variant: str, weights: Path | None, task: str | None, *, require_weights: bool, untrained: bool
) -> Network:
    """The network of a checkpoint: the given one, else the one that ships; else the untrained weights of seed 0.

    Raises:
        CheckpointError: the file is unusable, or weights are required and there are none.
        UsageError: the checkpoint is of another variant or task, contradicts ``untrained``, or cannot be exported; or
            there is no such task.
    """
    shipped = None if weights is not None or untrained else shipped_weights(variant, task)
    if untrained and (weights is not None or require_weights):
        other = "--require-weights" if weights is None else f"--weights {weights}"
        raise UsageError(f"--untrained and {other} contradict each other", hint="leave one of them out")
    if weights is None and shipped is None:
        if require_weights:
            raise CheckpointError(
                f"--require-weights: no trained weights ship for variant {variant} and task {task or DEFAULT_TASK}",
                hint="name a checkpoint: --weights model.safetensors",
            )
        task = task or DEFAULT_TASK
        find_task(task)  # a mistyped name would export random weights for it
        fresh = create_model(variant, seed=0)
        return Network(fresh, task, weights_digest(fresh), "none", trained=False)
    weights = weights or shipped
    assert weights is not None
    model = load_model(weights)
    metadata = read_metadata(weights)
    trained_for = metadata.get("task", DEFAULT_TASK)
    if model.config.variant.upper() != variant.upper():
        raise UsageError(
            f"{weights} holds variant {model.config.variant}, not {variant}", hint=f"--variant {model.config.variant}"
        )
    if task is not None and task != trained_for:
        raise UsageError(
            f"{weights} was trained for {trained_for}, not {task}", hint=f"--task {trained_for}, or leave it out"
        )
    if model.config.in_channels != 3:
        raise UsageError(
            f"{weights} holds a network with in_channels {model.config.in_channels}; exported files take RGB",
            hint="export a network whose SerpentConfig has in_channels=3",
        )
    if re.fullmatch("[A-Za-z0-9]+", model.config.variant) is None:
        raise UsageError(
            f"{weights} holds variant {model.config.variant!r}, which cannot be part of a file's name",
            hint="save it with a SerpentConfig whose variant has letters and digits alone",
        )
    terms = metadata.get("license", "not stated")
    source = str(weights) if shipped is None else f"those that ship for {model.config.variant} and {trained_for}"
    return Network(model, trained_for, metadata["weights_digest"], terms, trained=True, source=source)


def weights_notes(network: Network) -> list[str]:
    """The one line on the weights: where they come from and their terms, or that they are random."""
    if network.trained:
        return [f"weights: {network.source}; terms: {network.license}"]
    variant = network.model.config.variant
    return [f"warning: these files hold random weights (variant {variant}, seed 0) and restore nothing"]
