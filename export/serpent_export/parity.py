"""The parity certificate: how far an exported file is from the PyTorch model in f64, and how far it may be.

Style of the bound: an implementation may err at most twice as much as PyTorch itself does in the same
precision, plus one unit roundoff (Higham 2002, section 2.2) of the largest value. Nothing is tuned.
"""

from __future__ import annotations

import base64
import copy
import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from serpent import native
from serpent.errors import ParityError
from serpent.model import Serpent, set_precision
from serpent.runtime.border import from_border, to_border
from serpent.runtime.onnx_session import RunTimes, ScanChoice, make_runner
from serpent.runtime.onnx_twins import bf16_twin, f32_twin
from serpent.runtime.sample_picture import PictureRecipe, picture_recipe, sample_positions
from serpent_export.progress import StageCallback, silent
from serpent_export.rounding import RoundedToHalf

UNIT_ROUNDOFF = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8}
MIN_PSNR_DB = {"fp16": 50.0, "bf16": 40.0}
"""Least PSNR against f64 on 8-bit pictures (data range 1) of a file with 16-bit arithmetic."""
SAFETY = 2.0
MIN_RESIDUAL_RMS = 0.01
SAMPLED_PIXELS = 4096


@dataclass(frozen=True)
class ErrorNorms:
    """Errors against f64: the largest, the root mean square, and the latter over rms(restored - image)."""

    max: float
    rms: float
    relative: float

    @property
    def psnr_db(self) -> float:
        """PSNR against the f64 result, data range 1."""
        return math.inf if self.rms == 0 else -20 * math.log10(self.rms)


@dataclass(frozen=True)
class ParityCase:
    """One test input: what was measured, and the limits.

    Attributes:
        recipe: how to make the input again.
        subject: what was run: the file, or a twin of it.
        precision: of the arithmetic, hence of the limit.
        residual_rms: rms(restored - image) in f64; a change that small errors must be seen against.
        eager: error of PyTorch in ``precision``, or of its stand-in without the range of f16.
        measured: error of ONNX Runtime, by how the scan ran ("function", "native").
        limit: bound on every measured error.
        samples: base64 of little-endian f64 values (pixels, 3) of the f64 result.
    """

    recipe: PictureRecipe
    subject: str
    precision: str
    residual_rms: float
    eager: ErrorNorms
    measured: dict[str, ErrorNorms]
    limit: ErrorNorms
    samples: str

    @property
    def worst(self) -> ErrorNorms:
        return max(self.measured.values(), key=lambda error: error.max)


@dataclass(frozen=True)
class ParityReport:
    """The certificate of one file.

    Attributes:
        cases: one entry for each test input.
        subject: what was run: the file itself, a bf16 twin, or the graph at another image size.
        keeps_f32: the graph keeps in f32 what f16 cannot hold, and PyTorch's f16 did likewise.
    """

    cases: tuple[ParityCase, ...]
    precision: str
    subject: str
    keeps_f32: bool = False

    @property
    def _headline(self) -> ParityCase:
        own = [case for case in self.cases if case.precision == self.precision]
        return max(own, key=lambda case: case.worst.max / case.limit.max)

    @property
    def max_error(self) -> float:
        """Largest |difference| from f64, of the case closest to its limit."""
        return self._headline.worst.max

    @property
    def eager_max_error(self) -> float:
        return self._headline.eager.max

    @property
    def limit(self) -> float:
        return self._headline.limit.max

    @property
    def psnr_db(self) -> float:
        return self._headline.worst.psnr_db

    @property
    def statement(self) -> str:
        """The certificate in one sentence."""
        sizes = ", ".join(
            f"{c.recipe.batch}x{c.recipe.height}x{c.recipe.width}" for c in self.cases if c.precision == self.precision
        )
        return (
            f"{self.subject}, run by ONNX Runtime at {sizes}: max |d| {self.max_error:.2e} from PyTorch in f64 "
            f"(limit {self.limit:.2e}; PyTorch in {self.precision} {self.eager_max_error:.2e})"
        )

    def to_manifest(self) -> dict[str, Any]:
        return {
            "bound": f"error <= {SAFETY:g} * PyTorch's in the case's precision + epsilon, largest and relative",
            "epsilon": "largest: unit roundoff * max|f64 result|; relative: unit roundoff",
            "unit_roundoff": {case.precision: UNIT_ROUNDOFF[case.precision] for case in self.cases},
            "baseline": "PyTorch in the case's precision"
            + (", fp16 without its range: f32 rounded to f16 at each operation" if self.keeps_f32 else ""),
            "min_psnr_db": MIN_PSNR_DB.get(self.precision),
            "subject": self.subject,
            "statement": self.statement,
            "cases": [_case_fields(case) for case in self.cases],
            "samples": {
                "what": f"each case in f64 at {SAMPLED_PIXELS} fixed pixels: base64 of (pixels, 3) little-endian f64",
                "positions": "serpent.runtime.sample_picture.sample_positions over batch * height * width",
            },
        }


@dataclass(frozen=True)
class ParitySubject:
    """A model to run at one batch and image size; several where the file itself is not run at that size."""

    model: onnx.ModelProto
    batch: int
    height: int
    width: int

    @property
    def size(self) -> str:
        return f"{self.batch}x{self.height}x{self.width}"


def certify(
    model: Serpent,
    subjects: list[ParitySubject],
    *,
    precision: str,
    description: str,
    io: str = "f32-nchw",
    keeps_f32: bool = False,
    threads: int | None = None,
    on_stage: StageCallback = silent,
) -> ParityReport:
    """Compare an exported graph with ``model`` in f64.

    A bf16 graph is run through its twin. A 16-bit graph is also compared without its rounding, as an f32 twin
    under the f32 bound with the network of the same rounded weights: a wrong graph cannot hide in the noise.

    Args:
        model: the f32 network that was exported.
        subjects: the graph at each size to test; usually the same model.
        precision: "fp32", "fp16" or "bf16".
        description: what the subjects are, for the certificate.
        io: border of the file; the test picture is rounded as that border rounds it.
        keeps_f32: the fp16 graph has f32 islands; its baseline is then PyTorch without the range of f16.
        threads: of ONNX Runtime and the scan.
        on_stage: called with what is being done.

    Raises:
        ParityError: an error exceeds its limit, or the network changes its input too little to tell. Every
            failure is named.
    """
    runs = [
        (model, s if precision != "bf16" else replace(s, model=bf16_twin(s.model)), precision, description)
        for s in subjects
    ]
    if precision != "fp32":
        rounded = set_precision(set_precision(copy.deepcopy(model), precision), "fp32")
        widened = replace(subjects[-1], model=f32_twin(subjects[-1].model))
        runs.append((rounded, widened, "fp32", f"the f32 twin of the {precision} graph, without its rounding"))
    cases: list[ParityCase] = []
    for network, subject, kind, what in runs:
        recipe, picture = picture_recipe(subject.height, subject.width, batch=subject.batch)
        image = from_border(to_border(picture, io), io)
        on_stage(f"certificate at {subject.size}: PyTorch in f64")
        truth = _run_torch(network, "fp64", image.astype(np.float64))
        eager = "fp16 without its range" if keeps_f32 and kind == "fp16" else kind
        cases.append(_measure(network, subject, kind, eager, what, recipe, image, truth, threads, on_stage))
    failures = [failure for case in cases for failure in _failures(case)]
    if failures:
        raise ParityError(
            "the exported file is not the network: " + "; ".join(failures),
            hint="nothing was written; please report this with the command you typed",
        )
    return ParityReport(tuple(cases), precision, description, keeps_f32)


def _measure(
    network: Serpent,
    subject: ParitySubject,
    precision: str,
    arithmetic: str,
    what: str,
    recipe: PictureRecipe,
    image: NDArray[np.float32],
    truth: NDArray[np.float64],
    threads: int | None,
    on_stage: StageCallback,
) -> ParityCase:
    residual = float(np.sqrt(np.mean((truth - image) ** 2)))
    if not residual >= MIN_RESIDUAL_RMS:
        raise ParityError(
            f"the network changes the test picture by {residual:.2g} rms, less than {MIN_RESIDUAL_RMS}: "
            "its export cannot be certified, because the input alone would pass for its result",
            hint="train the network further, or check that its weights are the ones you mean",
        )
    on_stage(f"certificate at {subject.size}: PyTorch in {arithmetic}")
    run_eager = _run_rounded if arithmetic != precision else functools.partial(_run_torch, precision=precision)
    eager = _norms(run_eager(network, image=image), truth, residual)
    roundoff = UNIT_ROUNDOFF[precision]
    limit = ErrorNorms(
        max=SAFETY * eager.max + roundoff * float(np.abs(truth).max()),
        rms=SAFETY * eager.rms + roundoff * residual,
        relative=SAFETY * eager.relative + roundoff,
    )
    measured: dict[str, ErrorNorms] = {}
    routes: tuple[ScanChoice, ...] = ("function", "native")
    for scan in routes:
        on_stage(f"certificate at {subject.size}: ONNX Runtime, {scan} scan")
        run = make_runner(subject.model, scan, threads or native.default_threads(), RunTimes())
        measured[scan] = _norms(run(image), truth, residual)
    return ParityCase(recipe, what, precision, residual, eager, measured, limit, _samples(truth))


def _run_torch(model: Serpent, precision: str, image: NDArray[Any]) -> NDArray[np.float64]:
    converted = set_precision(copy.deepcopy(model), precision)
    with torch.inference_mode():
        return converted(torch.from_numpy(image)).double().numpy()  # type: ignore[no-any-return]


def _run_rounded(model: Serpent, image: NDArray[Any]) -> NDArray[np.float64]:
    rounded = set_precision(set_precision(copy.deepcopy(model), "fp16"), "fp32")
    with torch.inference_mode(), RoundedToHalf():
        return rounded(torch.from_numpy(image)).double().numpy()  # type: ignore[no-any-return]


def _norms(result: NDArray[Any], truth: NDArray[np.float64], residual: float) -> ErrorNorms:
    error = result.astype(np.float64) - truth
    rms = float(np.sqrt(np.mean(error**2)))
    return ErrorNorms(float(np.abs(error).max()), rms, rms / residual)


def _failures(case: ParityCase) -> list[str]:
    found = []
    recipe = case.recipe
    where = f"{recipe.batch}x{recipe.height}x{recipe.width} in {case.precision}"
    for scan, error in case.measured.items():
        # "not <=" rather than ">": a NaN fails too.
        if not error.max <= case.limit.max:
            found.append(f"at {where} ({scan} scan) max |d| is {error.max:.3g}, limit {case.limit.max:.3g}")
        if not error.relative <= case.limit.relative:
            found.append(
                f"at {where} ({scan} scan) the error is {error.relative:.3g} of the correction, "
                f"limit {case.limit.relative:.3g}"
            )
        least = MIN_PSNR_DB.get(case.precision)
        if least is not None and not error.psnr_db >= least:
            found.append(f"at {where} ({scan} scan) the PSNR is {error.psnr_db:.1f} dB, at least {least:g} is needed")
    return found


def _samples(truth: NDArray[np.float64]) -> str:
    pixels = truth.transpose(0, 2, 3, 1).reshape(-1, truth.shape[1])
    chosen = pixels[sample_positions(SAMPLED_PIXELS, len(pixels))]
    return base64.b64encode(chosen.astype("<f8").tobytes()).decode("ascii")


def _case_fields(case: ParityCase) -> dict[str, Any]:
    def norms(error: ErrorNorms) -> dict[str, float]:
        return {"max": error.max, "rms": error.rms, "relative": error.relative}

    return {
        "input": case.recipe.to_dict(),
        "subject": case.subject,
        "precision": case.precision,
        "residual_rms": case.residual_rms,
        "pytorch": norms(case.eager),
        "onnxruntime": {scan: norms(error) for scan, error in case.measured.items()},
        "limit": {"max": case.limit.max, "relative": case.limit.relative},
        "samples": case.samples,
    }
