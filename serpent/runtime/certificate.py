"""The cases of a manifest's parity certificate, as far as another machine can run them again."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent.errors import ModelFileError
from serpent.manifest import Manifest
from serpent.runtime.sample_picture import RECIPE

EXPORT_AGAIN = "export the network again with serpent-export"


@dataclass(frozen=True, eq=False)
class CertificateCase:
    """One case: its picture, PyTorch's result in f64, and the limits.

    Attributes:
        source: the manifest.
        is_twin: the case is of the f32 twin of a 16-bit graph, not of the file itself.
        size: B, H, W of the picture.
        seed: of the picture.
        sha256: of the picture's 8-bit values.
        truth: the f64 result at the fixed pixels of ``sample_positions``, (pixels, 3).
        residual_rms: rms(restored - image) in f64.
        max_limit: bound on the largest error.
        relative_limit: bound on the rms error over ``residual_rms``.
        min_psnr_db: least PSNR against f64, data range 1; None where the certificate asks for none.
    """

    source: Path
    is_twin: bool
    size: tuple[int, int, int]
    seed: int
    sha256: str
    truth: NDArray[np.float64]
    residual_rms: float
    max_limit: float
    relative_limit: float
    min_psnr_db: float | None

    @property
    def what(self) -> str:
        return "the f32 twin of its graph" if self.is_twin else "the file"

    @property
    def size_text(self) -> str:
        return "x".join(map(str, self.size))


def read_cases(manifest: Manifest) -> list[CertificateCase]:
    """All cases of a manifest's certificate, at least one.

    Raises:
        ModelFileError: there is no certificate, it is damaged, or it is of a picture that this version cannot make.
    """
    try:
        parity = manifest.fields["parity"]
        cases = [_case(manifest, fields, parity.get("min_psnr_db")) for fields in parity["cases"]]
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ModelFileError(f"{manifest.path} has a damaged certificate: {error!r}", hint=EXPORT_AGAIN) from None
    if all(case.is_twin for case in cases):
        raise ModelFileError(
            f"{manifest.path} has a damaged certificate: it has no case in {manifest.precision}", hint=EXPORT_AGAIN
        )
    return cases


def _case(manifest: Manifest, fields: dict[str, Any], min_psnr_db: float | None) -> CertificateCase:
    picture, limit = fields["input"], fields["limit"]
    if picture["recipe"] != RECIPE:
        raise ModelFileError(
            f"{manifest.path} was certified on a picture {picture['recipe']!r}, which this version cannot make; "
            f"it makes {RECIPE}",
            hint=EXPORT_AGAIN,
        )
    is_twin = fields["precision"] != manifest.precision
    truth = np.frombuffer(base64.b64decode(fields["samples"], validate=True), "<f8").reshape(-1, 3)
    case = CertificateCase(
        source=manifest.path,
        is_twin=is_twin,
        size=(int(picture["batch"]), int(picture["height"]), int(picture["width"])),
        seed=int(picture["seed"]),
        sha256=str(picture["sha256"]),
        truth=truth,
        residual_rms=float(fields["residual_rms"]),
        max_limit=float(limit["max"]),
        relative_limit=float(limit["relative"]),
        min_psnr_db=None if min_psnr_db is None or is_twin else float(min_psnr_db),
    )
    numbers = [*truth.flat, case.residual_rms, case.max_limit, case.relative_limit, case.min_psnr_db or 0.0]
    if not len(truth) or not np.isfinite(numbers).all() or min(case.size) < 1 or not case.residual_rms > 0:
        raise ValueError("its values are unusable")
    return case
