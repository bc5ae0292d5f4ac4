"""The network, its checkpoints and its cost."""

from serpent.model.checkpoint import load_model, read_metadata, save_model, weights_digest
from serpent.model.flops import Cost, count_flops
from serpent.model.unet import Serpent, create_model, set_precision, set_scan_backend

__all__ = [
    "Cost",
    "Serpent",
    "count_flops",
    "create_model",
    "load_model",
    "read_metadata",
    "save_model",
    "set_precision",
    "set_scan_backend",
    "weights_digest",
]
