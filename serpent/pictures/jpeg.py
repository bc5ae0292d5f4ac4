"""Which quality a JPEG file was saved with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serpent.pictures.headers import quantization_tables

# ITU-T T.81, annex K, table K.1: luminance at quality 50.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


def estimate_quality(data: bytes) -> int:
    """The quality, 1 to 100, whose standard luminance table is nearest to the file's (exact for libjpeg's files).

    Args:
        data: a whole JPEG file.
    """
    tables = quantization_tables(data)
    if not tables:
        return 95
    # Tables come in any order of coefficients (Pillow has changed it once): sorted, they can be compared.
    found = np.sort(np.asarray(tables[min(tables)], dtype=np.float64))
    errors = [float(np.abs(found - np.sort(_table(quality))).sum()) for quality in range(1, 101)]
    return 1 + int(np.argmin(errors))


def _table(quality: int) -> NDArray[np.float64]:
    """The table that libjpeg makes for ``quality``."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = (np.asarray(_LUMINANCE).ravel() * scale + 50) // 100
    return np.asarray(np.clip(table, 1, 255), dtype=np.float64)
