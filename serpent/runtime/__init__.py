"""Inference on PyTorch, ONNX Runtime or TensorRT behind one kind of session.

The names below load on first use, and each backend only when a file of its kind is opened.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serpent.runtime.inspection import Inspection, inspect_file
    from serpent.runtime.open import open_session
    from serpent.runtime.restoration import restore, restore_picture
    from serpent.runtime.session import Session, SessionInfo
    from serpent.runtime.verification import Verification, verify_file

__all__ = [
    "Inspection",
    "Session",
    "SessionInfo",
    "Verification",
    "inspect_file",
    "open_session",
    "restore",
    "restore_picture",
    "verify_file",
]

# No module bears the name of a function: importing a submodule sets an attribute of this package.
_HOMES = {
    "Inspection": "inspection",
    "Session": "session",
    "SessionInfo": "session",
    "Verification": "verification",
    "inspect_file": "inspection",
    "open_session": "open",
    "restore": "restoration",
    "restore_picture": "restoration",
    "verify_file": "verification",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
