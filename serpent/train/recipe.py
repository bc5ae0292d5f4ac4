"""Everything that decides what a training run computes, as one frozen record and as small TOML files."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from serpent.config import PATCH_SIZES, SerpentConfig
from serpent.errors import UsageError
from serpent.metrics import SSIM_WINDOW

_CHOICES = {
    "optimizer": ("adam", "adamw"),
    "schedule": ("constant", "cosine"),
    "loss": ("l2", "l1", "charbonnier", "psnr"),
    "precision": ("fp32", "bf16", "fp16"),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Hyper-parameters of a run. Two runs of equal recipes on equal pictures take equal steps.

    The defaults are the paper's (arXiv 2403.17902, section 4) where it states one: Adam, batch 1, 60 epochs, learning
    rate 5e-4 at 256 pixels. It does not state loss, schedule or averaging.

    Attributes:
        task: degradation, as :func:`serpent.degradations.find_task` takes it.
        network: "B", "L", "H" or ``module:factory``, as :func:`serpent.train.create_network` takes it.
        config: fields of :class:`serpent.SerpentConfig` to replace in that variant; a table in TOML.
        crop: side of the random crops, pixels.
        batch: crops in one optimiser step, over all processes and accumulated passes.
        accumulate: passes whose gradients make one step; ``batch`` is shared out evenly.
        epochs: passes over the pictures, a crop of each; ignored where ``steps`` is given.
        steps: optimiser steps.
        optimizer: "adam" or "adamw".
        learning_rate: the largest one.
        schedule: "constant", or "cosine" down to 0 at the last step.
        warmup: steps in which the rate rises linearly to ``learning_rate``.
        weight_decay: of adamw (decoupled) or adam (added to the gradient).
        clip: largest L2 norm of the whole gradient; 0 for no limit.
        loss: "l2" (mean squared error), "l1", "charbonnier" (sqrt(e^2 + 1e-6)), or "psnr" (mean over crops of 10 log10
            of the mean squared error, decibels: a busy picture then counts no more than a smooth one).
        ema: decay of the moving average of the weights, which is what is validated and kept; 0 for none.
        precision: "fp32", or autocast to "bf16" or "fp16" (CUDA); the scan's state stays f32.
        augment: mirror and turn crops at random (8 ways).
        seed: of the first weights, crops, degradations.
        validate_every: steps between validations, and between checkpoints.
        validate_crop: side of the centre crops that are validated, pixels.
        validate_pictures: at most so many of the pictures, spread evenly over them.

    Raises:
        UsageError: a field has an unacceptable value.
    """

    task: str = "deblur"
    network: str = "B"
    config: Mapping[str, Any] = field(default_factory=dict)
    crop: int = 256
    batch: int = 1
    accumulate: int = 1
    epochs: float = 60.0
    steps: int | None = None
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 5e-4
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: int = 0
    weight_decay: float = 0.0
    clip: float = 0.0
    loss: Literal["l2", "l1", "charbonnier", "psnr"] = "l2"
    ema: float = 0.999
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    augment: bool = True
    seed: int = 0
    validate_every: int = 1000
    validate_crop: int = 256
    validate_pictures: int = 16

    def __post_init__(self) -> None:
        for name in ("crop", "batch", "accumulate", "validate_every", "validate_pictures"):
            self._check(name, _whole(getattr(self, name)) and getattr(self, name) >= 1, "an integer >= 1")
        for name in ("warmup", "seed"):
            self._check(name, _whole(getattr(self, name)) and getattr(self, name) >= 0, "an integer >= 0")
        self._check("seed", self.seed < 1 << 31, "an integer below 2^31")
        least = f"an integer >= {SSIM_WINDOW}, the window of SSIM"
        self._check("validate_crop", _whole(self.validate_crop) and self.validate_crop >= SSIM_WINDOW, least)
        self._check("steps", self.steps is None or (_whole(self.steps) and self.steps >= 1), "an integer >= 1")
        for name in ("epochs", "learning_rate"):
            self._check(name, _number(getattr(self, name)) and getattr(self, name) > 0, "a number > 0")
        for name in ("weight_decay", "clip"):
            self._check(name, _number(getattr(self, name)) and getattr(self, name) >= 0, "a number >= 0")
        self._check("ema", _number(self.ema) and 0 <= self.ema < 1, "a number from 0 to below 1")
        self._check("augment", isinstance(self.augment, bool), "true or false")
        for name in ("task", "network"):
            self._check(name, isinstance(getattr(self, name), str) and getattr(self, name) != "", "a name")
        for name, known in _CHOICES.items():
            self._check(name, getattr(self, name) in known, " or ".join(known))
        self._check("config", isinstance(self.config, Mapping), "a table of fields of SerpentConfig")
        if self.network.upper() in PATCH_SIZES:
            self._check("config", "variant" not in self.config, "no variant in it: the recipe's network names that")
            channels = SerpentConfig.from_variant(self.network, **self.config).in_channels
            self._check("config", channels == 3, "in_channels 3: pictures are RGB")
        else:
            self._check("config", not self.config, f"none: only {', '.join(PATCH_SIZES)} have a configuration")
        if self.batch % self.accumulate:
            raise UsageError(f"batch {self.batch} cannot be shared out over {self.accumulate} accumulated passes")

    def _check(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise UsageError(f"the recipe's {name} is {getattr(self, name)!r}; expected {expected}")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """Inverse of :meth:`to_dict`.

        Raises:
            UsageError: unknown or invalid field.
        """
        known = [entry.name for entry in dataclasses.fields(cls)]
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise UsageError(f"unknown recipe field {', '.join(unknown)}; known fields are {', '.join(known)}")
        # TOML and people write 1 for 1.0; equal recipes shall compare equal.
        floats = ("epochs", "learning_rate", "weight_decay", "clip", "ema")
        values: dict[str, Any] = {k: float(v) if k in floats and _number(v) else v for k, v in fields.items()}
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values."""
        return dataclasses.asdict(self)

    def total_steps(self, pictures: int) -> int:
        """Optimiser steps of the whole run over so many pictures."""
        return self.steps or max(1, math.ceil(self.epochs * pictures / self.batch))

    def rate(self, step: int, total: int) -> float:
        """Learning rate of ``step``, counted from 0, out of ``total``."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.learning_rate
        progress = (step - self.warmup) / max(1, total - self.warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def recipe_names() -> tuple[str, ...]:
    """The recipes that ship."""
    folder = resources.files("serpent.train") / "recipes"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_recipe(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        name: of one that ships, or a TOML file of the fields of :class:`Recipe`.
        overrides: fields to replace; "config.NAME" is a field of the table config.

    Raises:
        UsageError: no such recipe, no TOML, unknown or invalid field.
    """
    if str(name) in recipe_names():
        text = (resources.files("serpent.train") / "recipes" / f"{name}.toml").read_text()
    else:
        try:
            text = Path(name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            known = ", ".join(recipe_names())
            raise UsageError(f"cannot read the recipe {name}: {error}", hint=f"recipes that ship: {known}") from None
    try:
        fields = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the recipe {name} is no TOML: {error}") from None
    for key, value in (overrides or {}).items():
        table, _, name = key.partition(".")
        if table == "config" and name and isinstance(fields.setdefault(table, {}), dict):
            fields[table][name] = value
        else:
            fields[key] = dict(value) if isinstance(value, dict) else value  # the next override may change it
    return Recipe.from_dict(fields)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
