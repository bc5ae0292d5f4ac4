"""The weights that ship with the package, each with its model card, recipe and log beside it."""

from __future__ import annotations

from pathlib import Path

from serpent.config import PATCH_SIZES
from serpent.errors import ModelFileError

DEFAULT_TASK = "deblur"
"""What networks restore where nobody says otherwise."""

_FOLDER = Path(__file__).parent


def shipped_weights(variant: str, task: str | None = None) -> Path | None:
    """The checkpoint that ships for a variant and a task, if there is one.

    Args:
        variant: "B", "L" or "H".
        task: what it restores; "deblur" by default.
    """
    path = _FOLDER / f"serpent-{variant.lower()}-{task or DEFAULT_TASK}.safetensors"
    return path if path.is_file() else None


def shipped_names() -> tuple[str, ...]:
    """Variants with weights and their tasks, for example "B deblur"."""
    found = (path.stem.split("-", 2)[1:] for path in sorted(_FOLDER.glob("serpent-*-*.safetensors")))
    return tuple(f"{variant.upper()} {task}" for variant, task in found)


def is_variant(name: object) -> bool:
    """Whether a model is named by its variant rather than by a file."""
    return isinstance(name, str) and name.upper() in PATCH_SIZES


def model_file(name: Path | str) -> Path:
    """The file that is meant where a model is named: a path, or a variant for its deblurring weights that ship.

    Raises:
        ModelFileError: a variant without such weights.
    """
    if not is_variant(str(name)) or Path(name).exists():
        return Path(name)
    path = shipped_weights(str(name))
    if path is None:
        raise ModelFileError(
            f"no weights ship for variant {str(name).upper()}; they do for {', '.join(shipped_names()) or 'none'}",
            hint="name a model file: .safetensors (PyTorch), .onnx (ONNX Runtime) or .plan (TensorRT)",
        )
    return path
