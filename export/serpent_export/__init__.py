"""Export of Serpent networks: ONNX, TensorRT engines, and the certificate that they are the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serpent_export.api import ExportedFile, ExportResult, export

__all__ = ["ExportResult", "ExportedFile", "export"]


def __getattr__(name: str) -> Any:
    # Lazy: the process that builds engines imports this package too, and needs neither torch nor onnx.
    if name in __all__:
        from serpent_export import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
