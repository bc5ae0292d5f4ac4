"""Networks other than Serpent, open for evaluation beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from serpent.errors import UsageError
from serpent.evaluation.restorers import Restorer
from serpent.files import sha256_file
from serpent.padding import crop, pad, round_up
from serpent.runtime.torch_session import choose_device, thread_budget
from serpent.train.networks import FORMAT, load_network


def read_task(path: Path) -> str | None:
    """What a network other than Serpent was trained for; None for any other file, and for none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return None
    return metadata.get("task", "unknown") if metadata.get("format") == FORMAT else None


@contextlib.contextmanager
def open_network(
    path: Path, device: str = "auto", *, tta: bool = False, threads: int | None = None, **others: object
) -> Iterator[Restorer]:
    """Open what :func:`serpent.train.save_network` wrote of a network other than Serpent.

    A picture goes through whole, padded (reflected) to what the network takes.

    Args:
        path: the file.
        device: "auto", "cpu" or "cuda:N".
        tta: not for these.
        threads: CPU threads; PyTorch's own setting by default.
        **others: options of other kinds of model, which must be None.

    Raises:
        UsageError: no such device, the network's module cannot be imported, or an option that it does not have.
        CheckpointError: the file is damaged.
    """
    given = [name for name, value in {"tta": tta or None, **others}.items() if value is not None]
    if given:
        raise UsageError(f"{', '.join(given)} was given for {path}; networks other than Serpent have no such choice")
    place = choose_device(device)
    network = load_network(path).to(place)
    multiple: int = getattr(network, "size_multiple")  # noqa: B009 (load_network sees to it that it is there)

    def restore(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        height, width, _ = picture.shape
        padded = pad(picture, round_up(height, multiple), round_up(width, multiple))
        image = torch.from_numpy(padded).permute(2, 0, 1)[None].contiguous()
        with torch.inference_mode(), thread_budget(threads):
            restored = network(image.to(place))[0].permute(1, 2, 0).float().cpu().numpy()
        return crop(restored, height, width)

    facts = {
        "backend": "torch",
        "device": str(place),
        "precision": "fp32",
        "weights": sha256_file(path),
    }
    yield Restorer(restore, read_task(path) or "unknown", facts)
