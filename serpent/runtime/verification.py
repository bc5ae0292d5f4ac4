"""Run a file's parity certificate again, on this machine, from what its manifest keeps of it.

The manifest holds how the test picture is made and the f64 result at fixed pixels, so neither PyTorch nor the
weights are needed: only the file, its manifest and a runtime for it.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serpent.errors import ModelFileError, ParityError, UsageError
from serpent.manifest import Manifest, load_manifest, manifest_path
from serpent.runtime.border import BORDERS, from_border, to_border
from serpent.runtime.open import Scan, open_session
from serpent.runtime.sample_picture import RECIPE, picture_recipe, sample_positions
from serpent.runtime.session import SessionInfo

_EXPORT_AGAIN = "export the network again with serpent-export"


@dataclass(frozen=True)
class Verification:
    """What a file gave at the certificate's pixels, against PyTorch in f64.

    Attributes:
        info: what ran the file, and how.
        size: B, H, W of the test picture.
        pixels: how many of its pixels were compared.
        max_error: largest |difference|.
        max_limit: how large it may be: the certificate's limit, and what the border rounds.
        relative_error: rms difference over rms(restored - image).
        relative_limit: how large that may be.
    """

    info: SessionInfo
    size: tuple[int, int, int]
    pixels: int
    max_error: float
    max_limit: float
    relative_error: float
    relative_limit: float
    psnr_db: float

    @property
    def passed(self) -> bool:
        """Whether both errors are within their limits; a NaN is not."""
        return self.max_error <= self.max_limit and self.relative_error <= self.relative_limit

    @property
    def statement(self) -> str:
        """The measurement in one sentence."""
        size = "x".join(map(str, self.size))
        return (
            f"{self.info.path.name}, {self.info.backend} on {self.info.device}, {self.info.scan} scan, at {size}: "
            f"max |d| {self.max_error:.2e} from PyTorch in f64 (limit {self.max_limit:.2e}), "
            f"{self.relative_error:.2e} of the correction (limit {self.relative_limit:.2e}), PSNR {self.psnr_db:.1f} dB"
        )

    def check(self) -> None:
        """Insist that the file passed.

        Raises:
            ParityError: it did not.
        """
        if not self.passed:
            raise ParityError(f"not verified: {self.statement}", hint="do not use this file on this machine")


def verify_file(path: Path | str, device: str = "auto", *, scan: Scan | None = None) -> Verification:
    """Run an exported file on the certificate's picture and compare with the stored f64 values.

    Args:
        path: ``.onnx`` or ``.plan``, with its manifest beside it.
        device: as :func:`serpent.runtime.open_session` takes it.
        scan: as :func:`serpent.runtime.open_session` takes it.

    Raises:
        UsageError: another kind of file.
        ModelFileError: a missing, damaged or foreign manifest, or a certificate of another size than the file's.
        SerpentError: whatever keeps the file from running.
    """
    path = Path(path)
    if path.suffix.lower() not in (".onnx", ".plan"):
        raise UsageError(f"{path} has no certificate; expected an exported .onnx or .plan file")
    manifest = load_manifest(manifest_path(path))
    case, truth, size = _certificate(manifest)
    batch, height, width = size
    profile = manifest.profile
    if batch not in profile.batch or height not in profile.height or width not in profile.width:
        raise ModelFileError(
            f"{path} takes {profile.resolution} alone, and its certificate was measured on the same graph at "
            f"{height}x{width}: it cannot be run again with this file",
            hint="verify a file of at most 512x512, or of a range of sizes, of the same weights",
        )
    recipe, picture = picture_recipe(height, width, batch=batch, seed=int(case["input"]["seed"]))
    if recipe.sha256 != case["input"]["sha256"]:
        raise ModelFileError(f"{manifest.path}: its test picture cannot be made again", hint=_EXPORT_AGAIN)
    image = from_border(to_border(picture, manifest.io), manifest.io)
    with open_session(path, device, scan=scan) as session:
        result = session.run(image)
        info = session.info
    return _compare(result, truth, case, manifest.io, info, size)


def _certificate(manifest: Manifest) -> tuple[dict[str, Any], NDArray[np.float64], tuple[int, int, int]]:
    """The first case, its f64 values (pixels, 3), and its size."""
    try:
        parity = manifest.fields["parity"]
        case = parity["cases"][0]
        values = base64.b64decode(parity["samples"]["values"], validate=True)
        truth = np.frombuffer(values, "<f8").reshape(-1, 3)
        size = (int(case["input"]["batch"]), int(case["input"]["height"]), int(case["input"]["width"]))
        _ = (float(case["limit"]["max"]), float(case["limit"]["relative"]), float(case["residual_rms"]))
        recipe = case["input"]["recipe"]
        _ = (case["input"]["seed"], case["input"]["sha256"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelFileError(f"{manifest.path} has a damaged certificate: {error!r}", hint=_EXPORT_AGAIN) from None
    if recipe != RECIPE:
        raise ModelFileError(
            f"{manifest.path} was certified on a picture {recipe!r}, which this version cannot make; it makes {RECIPE}",
            hint=_EXPORT_AGAIN,
        )
    if not len(truth) or not np.isfinite(truth).all() or min(size) < 1:
        raise ModelFileError(f"{manifest.path} has a damaged certificate: its values are unusable", hint=_EXPORT_AGAIN)
    return case, truth, size


def _compare(
    result: NDArray[np.float32],
    truth: NDArray[np.float64],
    case: dict[str, Any],
    io: str,
    info: SessionInfo,
    size: tuple[int, int, int],
) -> Verification:
    pixels = result.transpose(0, 2, 3, 1).reshape(-1, result.shape[1])
    if BORDERS[io].channels_last:  # 8-bit results are clamped
        truth = truth.clip(0, 1)
    found = pixels[sample_positions(len(truth), len(pixels))].astype(np.float64)
    error = found - truth
    # The border rounds to the nearest value: by half the distance of neighbours, which for f16 grows with the value.
    rounded = 0.5 * BORDERS[io].rounding * max(1.0, float(np.abs(truth).max()))
    residual = float(case["residual_rms"])
    rms = float(np.sqrt(np.mean(error**2)))
    return Verification(
        info=info,
        size=size,
        pixels=len(truth),
        max_error=float(np.abs(error).max()),
        max_limit=float(case["limit"]["max"]) + rounded,
        relative_error=rms / residual,
        relative_limit=float(case["limit"]["relative"]) + rounded / residual,
        psnr_db=math.inf if rms == 0 else -20 * math.log10(rms),
    )
