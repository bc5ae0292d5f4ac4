"""The network to export and what is known of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serpent.errors import CheckpointError, UsageError
from serpent.model import Serpent, create_model, load_model, read_metadata, weights_digest

UNTRAINED = "untrained"
DEFAULT_TASK = "deblur"


@dataclass(frozen=True)
class Network:
    """The network to export and what is known of its weights."""

    model: Serpent
    task: str
    digest: str
    license: str
    trained: bool

    @property
    def weights(self) -> str:
        """What the files say of the weights: their digest, or that they are untrained."""
        return self.digest if self.trained else UNTRAINED


def load_network(variant: str, weights: Path | None, task: str | None, require_weights: bool) -> Network:
    """The network of a checkpoint, or one with the untrained weights of seed 0.

    Raises:
        CheckpointError: the file is unusable, or weights are required and none are given.
        UsageError: the checkpoint is of another variant or task.
    """
    if weights is None:
        if require_weights:
            raise CheckpointError(
                f"--require-weights: there are no trained weights for variant {variant}",
                hint="name a checkpoint: --weights model.safetensors",
            )
        fresh = create_model(variant, seed=0)
        return Network(fresh, DEFAULT_TASK if task is None else task, weights_digest(fresh), "none", trained=False)
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
    return Network(model, trained_for, metadata["weights_digest"], metadata.get("license", "not stated"), trained=True)


def untrained_note(network: Network) -> str:
    """The one line that warns of files with untrained weights."""
    variant = network.model.config.variant
    return (
        f"warning: variant {variant} has no trained weights: these files hold random ones (seed 0) and restore nothing"
    )
