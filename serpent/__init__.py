"""Serpent: image restoration with selective-state-space networks (arXiv 2403.17902).

The names below load their modules when they are first used, so that ``import serpent`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serpent import errors as errors
    from serpent.config import SerpentConfig as SerpentConfig
    from serpent.errors import SerpentError as SerpentError
    from serpent.model import create_model as create_model
    from serpent.model import load_model as load_model
    from serpent.model import save_model as save_model
    from serpent.runtime import restore as restore

    __version__: str

_HOMES = {
    "SerpentConfig": "serpent.config",
    "SerpentError": "serpent.errors",
    "create_model": "serpent.model",
    "load_model": "serpent.model",
    "restore": "serpent.runtime",
    "save_model": "serpent.model",
}

__all__ = [
    "SerpentConfig",
    "SerpentError",
    "__version__",
    "create_model",
    "errors",
    "load_model",
    "restore",
    "save_model",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name == "errors":
        value = importlib.import_module("serpent.errors")
    elif name == "__version__":
        value = _installed_version()
    else:
        raise AttributeError(f"module 'serpent' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _installed_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("serpent-restoration")
    except metadata.PackageNotFoundError:
        return "0+not.installed"
