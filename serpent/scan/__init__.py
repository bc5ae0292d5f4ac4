"""The four-direction selective scan in torch: the operator, its sequential oracle, and peers to compare with."""

from serpent.scan.backends import BACKENDS, check_backend
from serpent.scan.chunked import selective_scan_2d_chunked
from serpent.scan.mamba import selective_scan_2d_mamba
from serpent.scan.operator import selective_scan_2d, selective_scan_2d_backward
from serpent.scan.reference import selective_scan_2d_reference

__all__ = [
    "BACKENDS",
    "check_backend",
    "selective_scan_2d",
    "selective_scan_2d_backward",
    "selective_scan_2d_chunked",
    "selective_scan_2d_mamba",
    "selective_scan_2d_reference",
]
