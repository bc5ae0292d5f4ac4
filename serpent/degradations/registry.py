"""Which degradations there are, and the one way to apply them: seeded, checked, in [0, 1]."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import traceback
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from serpent.errors import ArgumentError, UsageError

Degradation = Callable[[NDArray[np.float32], Generator], NDArray[np.float32]]
"""Takes a picture (H, W, 3), RGB float32 in [0, 1], and a source of random numbers; gives a picture of that shape."""

_TASKS: dict[str, Degradation] = {}


def register(name: str) -> Callable[[Degradation], Degradation]:
    """Decorate a degradation to make it known as ``name``; the first sentence of its docstring describes it.

    Raises:
        UsageError: the name is taken by another function.
    """

    def decorate(function: Degradation) -> Degradation:
        if _TASKS.setdefault(name, function) is not function:
            raise UsageError(f"the task {name!r} is registered already", hint="choose another name")
        return function

    return decorate


def task_names() -> tuple[str, ...]:
    """The registered tasks, sorted."""
    return tuple(sorted(_TASKS))


def find_task(task: str) -> Degradation:
    """A degradation by its registered name, or by ``module:function`` of an importable module.

    Raises:
        UsageError: there is none of that name.
    """
    if task in _TASKS:
        return _TASKS[task]
    module, colon, function = task.partition(":")
    if not colon:
        hint = "name one of them, or module:function of a degradation of your own"
        raise UsageError(f"unknown task {task!r}; known tasks are {', '.join(task_names())}", hint=hint)
    try:
        found: Degradation = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        hint = "PYTHONPATH=. finds the modules of the present folder"
        raise UsageError(f"the task {task!r} cannot be imported: {error}", hint=hint) from None
    if not callable(found):
        raise UsageError(f"the task {task!r} is no function but {type(found).__name__}")
    return found


def describe(task: str) -> str:
    """The first sentence of a degradation's docstring, empty where it has none.

    Raises:
        UsageError: as :func:`find_task` says.
    """
    text = " ".join((inspect.getdoc(find_task(task)) or "").split())
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def generator(seed: int, *key: int | str) -> Generator:
    """Random numbers that depend on nothing but ``seed`` and ``key``: not on order, process or machine.

    Keys of one run have one length: numpy takes no notice of zeros at the end of a key.

    Args:
        seed: of a whole run, at least 0.
        *key: what tells this stream from others, for example the number of a sample (at least 0) or the name of a
            file.

    Raises:
        UsageError: a negative number.
    """
    words = [seed, *(_word(each) if isinstance(each, str) else each for each in key)]
    if min(words) < 0:
        raise UsageError(f"{min(words)} was given for random numbers; expected a seed of at least 0")
    return np.random.default_rng(words)


def _word(name: str) -> int:
    # A file's name that is no valid text stands for its bytes.
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8])


def degrade(picture: NDArray[np.float32], task: str, random: Generator) -> NDArray[np.float32]:
    """Apply a degradation.

    The result is clipped to [0, 1]: it is a picture, as a file could hold it, and what the networks are defined on.

    Args:
        picture: (H, W, 3), RGB float32 in [0, 1].
        task: as :func:`find_task` takes it.
        random: as :func:`generator` makes it; equal generators give equal results.

    Returns:
        (H, W, 3) float32 in [0, 1], a new array.

    Raises:
        UsageError: unknown task.
        ArgumentError: another shape or dtype, or a value that is not finite, from the caller or from the degradation;
            or the degradation failed.
    """
    function = find_task(task)
    if picture.ndim != 3 or picture.shape[-1] != 3 or 0 in picture.shape or picture.dtype != np.float32:
        raise ArgumentError(f"picture is {picture.shape} {picture.dtype}; expected (H, W, 3) float32")
    try:
        # A copy: what works in place (picture *= 0.5) would otherwise degrade the target as well.
        result = np.asarray(function(picture.copy(), random))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise ArgumentError(
            f"the task {task!r} failed: {type(error).__name__}: {error} ({where.filename}:{where.lineno})",
            hint="it is called with a picture (H, W, 3), float32, and a numpy.random.Generator",
        ) from error
    if result.shape != picture.shape or result.dtype.kind != "f":
        raise ArgumentError(
            f"the task {task!r} made {result.shape} {result.dtype} of a picture {picture.shape}; "
            "expected that shape, and floats in [0, 1]"
        )
    if not np.isfinite(result).all():
        raise ArgumentError(f"the task {task!r} gave values that are not finite, or was given such (NaN or infinity)")
    return np.clip(result, 0.0, 1.0).astype(np.float32, copy=False)
