"""Run a file's parity certificate again, on this machine, from what its manifest keeps of it.

The manifest holds, for each case of the certificate, how its picture is made and the f64 result at fixed pixels, so
neither PyTorch nor the weights are needed: only the file, its manifest and a runtime for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serpent.errors import ModelFileError, ParityError, UsageError
from serpent.files import check_model_file
from serpent.manifest import Manifest, load_manifest, manifest_path
from serpent.runtime.border import border_named, from_border, to_border
from serpent.runtime.certificate import EXPORT_AGAIN, CertificateCase, read_cases
from serpent.runtime.open import Scan, open_session
from serpent.runtime.sample_picture import picture_recipe, sample_positions
from serpent.runtime.session import SessionInfo
from serpent.runtime.tiling import Run


@dataclass(frozen=True)
class VerifiedCase:
    """What one case of the certificate gave at its fixed pixels, against PyTorch in f64.

    Attributes:
        subject: what ran: the file, or the f32 twin of its graph.
        size: B, H, W of the test picture.
        pixels: how many of its pixels were compared.
        max_error: largest |difference|.
        max_limit: how large it may be: the certificate's limit, and what the border rounds.
        relative_error: rms difference over rms(restored - image).
        relative_limit: how large that may be.
        psnr_db: against f64, data range 1.
        min_psnr_db: how large that must be, less what the border rounds; None where the certificate does not ask.
    """

    subject: str
    size: tuple[int, int, int]
    pixels: int
    max_error: float
    max_limit: float
    relative_error: float
    relative_limit: float
    psnr_db: float
    min_psnr_db: float | None

    @property
    def passed(self) -> bool:
        """Whether all is within its limits; a NaN is not."""
        good = self.min_psnr_db is None or self.psnr_db >= self.min_psnr_db
        return self.max_error <= self.max_limit and self.relative_error <= self.relative_limit and good

    @property
    def statement(self) -> str:
        """The measurement in one sentence."""
        least = "" if self.min_psnr_db is None else f", at least {self.min_psnr_db:.1f} dB"
        return (
            f"{self.subject} at {'x'.join(map(str, self.size))}: "
            f"max |d| {self.max_error:.2e} from PyTorch in f64 (limit {self.max_limit:.2e}), "
            f"{self.relative_error:.2e} of the correction (limit {self.relative_limit:.2e}), "
            f"PSNR {self.psnr_db:.1f} dB{least}"
        )


@dataclass(frozen=True)
class Verification:
    """A certificate that was run again.

    Attributes:
        info: what ran the file, and how.
        cases: one for each case of the certificate that this file can run; at least one.
        left_out: the others, each in a sentence with its reason.
    """

    info: SessionInfo
    cases: tuple[VerifiedCase, ...]
    left_out: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every case passed."""
        return all(case.passed for case in self.cases)

    @property
    def subject(self) -> str:
        """The file and what ran it."""
        return f"{self.info.path.name}, {self.info.backend} on {self.info.device}, {self.info.scan} scan"

    def check(self) -> None:
        """Insist that the file passed.

        Raises:
            ParityError: it did not; every case that failed is named.
        """
        if not self.passed:
            failed = "; ".join(case.statement for case in self.cases if not case.passed)
            raise ParityError(f"not verified: {self.subject}: {failed}", hint="do not use this file on this machine")


def verify_file(
    path: Path | str, device: str = "auto", *, scan: Scan | None = None, allow_native_code: bool | None = None
) -> Verification:
    """Run an exported file on the certificate's pictures and compare with the stored f64 values.

    Args:
        path: ``.onnx`` or ``.plan``, with its manifest beside it.
        device: as :func:`serpent.runtime.open_session` takes it.
        scan: as :func:`serpent.runtime.open_session` takes it.
        allow_native_code: as :func:`serpent.runtime.open_session` takes it.

    Raises:
        UsageError: another kind of file, or an option that it does not have.
        ModelFileError: a missing, damaged or foreign manifest, or a certificate of other sizes than the file's.
        SerpentError: whatever keeps the file from running.
    """
    path = Path(path)
    if path.suffix.lower() not in (".onnx", ".plan"):
        raise UsageError(f"{path} has no certificate; expected an exported .onnx or .plan file")
    check_model_file(path)
    manifest = load_manifest(manifest_path(path))
    cases = read_cases(manifest)
    runnable = [case for case in cases if _takes(path, manifest, case)]
    left_out = [f"{c.what} at {c.size_text}: the file does not take that size" for c in cases if c not in runnable]
    if all(case.is_twin for case in runnable):
        sizes = " and ".join(dict.fromkeys(case.size_text for case in cases))
        raise ModelFileError(
            f"{path} takes {manifest.profile.resolution} alone, and its certificate was measured on the same graph at "
            f"{sizes}: nothing of it can be run again with this file",
            hint="export again with --certify-full-size, or verify an export of the same weights for a range of sizes",
        )
    with open_session(path, device, scan=scan, allow_native_code=allow_native_code) as session:
        info = session.info
        done = [_verify_case(session.run, case, manifest.io, manifest.io) for case in runnable if not case.is_twin]
    twins = [case for case in runnable if case.is_twin]
    if twins and path.suffix.lower() == ".onnx" and info.device == "cpu":
        from serpent.runtime.onnx_session import run_f32_twin

        run, border = run_f32_twin(path, info)
        done += [_verify_case(run, case, manifest.io, border) for case in twins]
    else:
        left_out += [f"{case.what} at {case.size_text}: only the .onnx file on the CPU has that twin" for case in twins]
    return Verification(info, tuple(done), tuple(left_out))


def _takes(path: Path, manifest: Manifest, case: CertificateCase) -> bool:
    """Whether the file runs at the case's size: a plan within its profile, a graph with free sides at any size."""
    profile = manifest.profile
    pairs = zip((profile.batch, profile.height, profile.width), case.size, strict=True)
    is_graph = path.suffix.lower() == ".onnx"
    return all(side in sizes or (is_graph and not sizes.is_static) for sizes, side in pairs)


def _verify_case(run: Run, case: CertificateCase, io: str, rounds_as: str) -> VerifiedCase:
    """``io`` is the border that rounds the picture, ``rounds_as`` the one that rounds the result."""
    batch, height, width = case.size
    recipe, picture = picture_recipe(height, width, batch=batch, seed=case.seed)
    if recipe.sha256 != case.sha256:
        raise ModelFileError(f"{case.source}: its test picture cannot be made again", hint=EXPORT_AGAIN)
    return _compare(run(from_border(to_border(picture, io), io)), case, rounds_as)


def _compare(result: NDArray[np.float32], case: CertificateCase, io: str) -> VerifiedCase:
    border = border_named(io)
    pixels = result.transpose(0, 2, 3, 1).reshape(-1, result.shape[1])
    truth = case.truth.clip(0, 1) if border.channels_last else case.truth  # 8-bit results are clamped
    found = pixels[sample_positions(len(truth), len(pixels))].astype(np.float64)
    error = found - truth
    # The border rounds to the nearest value: by half the distance of neighbours, which for f16 grows with the value.
    rounded = 0.5 * border.rounding * max(1.0, float(np.abs(truth).max()))
    rms = float(np.sqrt(np.mean(error**2)))
    return VerifiedCase(
        subject=case.what,
        size=case.size,
        pixels=len(truth),
        max_error=float(np.abs(error).max()),
        max_limit=case.max_limit + rounded,
        relative_error=rms / case.residual_rms,
        relative_limit=case.relative_limit + rounded / case.residual_rms,
        psnr_db=_psnr(rms),
        min_psnr_db=None if case.min_psnr_db is None else _psnr(10 ** (-case.min_psnr_db / 20) + rounded),
    )


def _psnr(rms: float) -> float:
    return math.inf if rms == 0 else -20 * math.log10(rms)
