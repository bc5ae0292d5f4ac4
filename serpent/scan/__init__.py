"""The four-direction selective scan in torch: the operator and its sequential oracle."""

from serpent.scan.operator import selective_scan_2d
from serpent.scan.reference import selective_scan_2d_reference

__all__ = ["selective_scan_2d", "selective_scan_2d_reference"]
