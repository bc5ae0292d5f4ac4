"""Weights to start from: what fits of them, and what does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from serpent.errors import CheckpointError
from serpent.train.networks import load_network

_NAMED = 3


@dataclass(frozen=True)
class Taken:
    """What a network took over from a file of weights.

    Attributes:
        path: the file.
        taken: tensors of equal name and shape, which were taken.
        total: tensors of the network.
        reshaped: names of those that have another shape in the file.
        missing: names of those that are not in the file.
        unused: names of those in the file that the network does not have.
        license: terms of the file's weights, where it states any.
    """

    path: Path
    taken: int
    total: int
    reshaped: Sequence[str]
    missing: Sequence[str]
    unused: Sequence[str]
    license: str | None = None

    def __str__(self) -> str:
        lists = {
            "of another shape": self.reshaped,
            "not in the file": self.missing,
            "only in the file": self.unused,
        }
        parts = [f"; {what}: {_some(names)}" for what, names in lists.items() if names]
        terms = "" if self.license is None else f"; terms: {self.license}"
        return f"{self.taken} of {self.total} tensors are from {self.path}{''.join(parts)}{terms}"


def take_over(network: nn.Module, path: Path) -> Taken:
    """Copy every tensor of equal name and shape into ``network``; the others stay as they are.

    Raises:
        CheckpointError: the file cannot be read, or nothing in it fits.
    """
    from safetensors import safe_open

    own, given = network.state_dict(), load_network(path).state_dict()
    with safe_open(path, framework="pt") as file:
        terms = (file.metadata() or {}).get("license")
    fitting = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    found = Taken(
        path,
        taken=len(fitting),
        total=len(own),
        reshaped=[name for name in own if name in given and name not in fitting],
        missing=[name for name in own if name not in given],
        unused=[name for name in given if name not in own],
        license=terms,
    )
    if not fitting:
        raise CheckpointError(
            f"{path} has no parameter in common with the network to train: {found}",
            hint="name weights of the same kind of network, or start without --init",
        )
    network.load_state_dict({**own, **fitting})
    return found


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
