"""The parity certificate: how far an exported file is from the PyTorch model in f64, and how far it may be.

Style of the bound: an implementation may err at most twice as much as PyTorch itself does in the same
precision, plus one unit roundoff (Higham 2002, section 2.2) of the largest value. Nothing is tuned.
"""

from __future__ import annotations

import base64
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from serpent import native
from serpent.errors import ParityError
from serpent.model import Serpent, set_precision
from serpent.runtime.onnx_session import RunTimes, ScanChoice, make_runner
from serpent_export.bf16_twin import bf16_twin
from serpent_export.picture import PictureRecipe, picture_recipe, sample_positions

UNIT_ROUNDOFF = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8}
SAFETY = 2.0
MIN_RESIDUAL_RMS = 0.01
SAMPLED_PIXELS = 4096

StageCallback = Callable[[str], None]


def _silent(_: str) -> None:
    """Default of ``on_stage``."""


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
        residual_rms: rms(restored - image) in f64; a change that small errors must be seen against.
        eager: error of PyTorch in the file's precision.
        measured: error of ONNX Runtime on the file, by how the scan ran ("function", "native").
        limit: bound on every measured error.
    """

    recipe: PictureRecipe
    residual_rms: float
    eager: ErrorNorms
    measured: dict[str, ErrorNorms]
    limit: ErrorNorms

    @property
    def worst(self) -> ErrorNorms:
        return max(self.measured.values(), key=lambda error: error.max)


@dataclass(frozen=True)
class ParityReport:
    """The certificate of one file.

    Attributes:
        cases: one entry for each test input.
        subject: what was run: the file itself, a bf16 twin, or the graph at another image size.
        samples: base64 of little-endian f64 values (pixels, 3) of the first case's f64 result.
    """

    cases: tuple[ParityCase, ...]
    precision: str
    subject: str
    samples: str

    @property
    def _headline(self) -> ParityCase:
        return max(self.cases, key=lambda case: case.worst.max / case.limit.max)

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
        sizes = ", ".join(f"{c.recipe.batch}x{c.recipe.height}x{c.recipe.width}" for c in self.cases)
        return (
            f"{self.subject}, run by ONNX Runtime at {sizes}: max |d| {self.max_error:.2e} from PyTorch in f64 "
            f"(limit {self.limit:.2e}; PyTorch in {self.precision} {self.eager_max_error:.2e})"
        )

    def to_manifest(self) -> dict[str, Any]:
        roundoff = UNIT_ROUNDOFF[self.precision]
        return {
            "bound": f"error <= {SAFETY:g} * PyTorch's in {self.precision} + epsilon, largest and relative",
            "epsilon": f"largest: {roundoff:g} * max|f64 result|; relative: {roundoff:g}",
            "subject": self.subject,
            "statement": self.statement,
            "cases": [_case_fields(case) for case in self.cases],
            "samples": {
                "what": f"first case in f64 at {SAMPLED_PIXELS} fixed pixels: base64 of (pixels, 3) little-endian f64",
                "positions": "serpent_export.picture.sample_positions over batch * height * width",
                "values": self.samples,
            },
        }


@dataclass(frozen=True)
class ParitySubject:
    """A model to run at one batch and image size; several where the file itself is not run at that size."""

    model: onnx.ModelProto
    batch: int
    height: int
    width: int


def certify(
    model: Serpent,
    subjects: list[ParitySubject],
    *,
    precision: str,
    description: str,
    threads: int | None = None,
    on_stage: StageCallback = _silent,
) -> ParityReport:
    """Compare an exported graph with ``model`` in f64.

    Args:
        model: the f32 network that was exported.
        subjects: the graph at each size to test; usually the same model.
        precision: "fp32", "fp16" or "bf16"; a bf16 graph is run through its twin.
        description: what the subjects are, for the certificate.
        threads: of ONNX Runtime and the scan.
        on_stage: called with what is being done.

    Raises:
        ParityError: an error exceeds its limit, or the network changes its input too little to tell. Every
            failure is named.
    """
    cases: list[ParityCase] = []
    failures: list[str] = []
    samples = ""
    for subject in subjects:
        recipe, image = picture_recipe(subject.height, subject.width, batch=subject.batch)
        where = f"{subject.batch}x{subject.height}x{subject.width}"
        on_stage(f"certificate at {where}: PyTorch in f64")
        truth = _run_torch(model, "fp64", image.astype(np.float64))
        residual = float(np.sqrt(np.mean((truth - image) ** 2)))
        if not residual >= MIN_RESIDUAL_RMS:
            raise ParityError(
                f"the network changes the test picture by {residual:.2g} rms, less than {MIN_RESIDUAL_RMS}: "
                "its export cannot be certified, because the input alone would pass for its result",
                hint="train the network further, or check that its weights are the ones you mean",
            )
        on_stage(f"certificate at {where}: PyTorch in {precision}")
        eager = _norms(_run_torch(model, precision, image), truth, residual)
        roundoff = UNIT_ROUNDOFF[precision]
        limit = ErrorNorms(
            max=SAFETY * eager.max + roundoff * float(np.abs(truth).max()),
            rms=SAFETY * eager.rms + roundoff * residual,
            relative=SAFETY * eager.relative + roundoff,
        )
        runnable = bf16_twin(subject.model) if precision == "bf16" else subject.model
        measured: dict[str, ErrorNorms] = {}
        routes: tuple[ScanChoice, ...] = ("function", "native")
        for scan in routes:
            on_stage(f"certificate at {where}: ONNX Runtime, {scan} scan")
            run = make_runner(runnable, scan, threads or native.default_threads(), RunTimes())
            measured[scan] = _norms(run(image), truth, residual)
            del run
        case = ParityCase(recipe, residual, eager, measured, limit)
        failures += _failures(case, where)
        cases.append(case)
        samples = samples or _samples(truth)
    if failures:
        raise ParityError(
            "the exported file is not the network: " + "; ".join(failures),
            hint="nothing was written; please report this with the command you typed",
        )
    return ParityReport(tuple(cases), precision, description, samples)


def _run_torch(model: Serpent, precision: str, image: NDArray[Any]) -> NDArray[np.float64]:
    converted = set_precision(copy.deepcopy(model), precision)
    with torch.inference_mode():
        return converted(torch.from_numpy(image)).double().numpy()  # type: ignore[no-any-return]


def _norms(result: NDArray[Any], truth: NDArray[np.float64], residual: float) -> ErrorNorms:
    error = result.astype(np.float64) - truth
    rms = float(np.sqrt(np.mean(error**2)))
    return ErrorNorms(float(np.abs(error).max()), rms, rms / residual)


def _failures(case: ParityCase, where: str) -> list[str]:
    found = []
    for scan, error in case.measured.items():
        # "not <=" rather than ">": a NaN fails too.
        if not error.max <= case.limit.max:
            found.append(f"at {where} ({scan} scan) max |d| is {error.max:.3g}, limit {case.limit.max:.3g}")
        if not error.relative <= case.limit.relative:
            found.append(
                f"at {where} ({scan} scan) the error is {error.relative:.3g} of the correction, "
                f"limit {case.limit.relative:.3g}"
            )
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
        "residual_rms": case.residual_rms,
        "pytorch": norms(case.eager),
        "onnxruntime": {scan: norms(error) for scan, error in case.measured.items()},
        "limit": {"max": case.limit.max, "relative": case.limit.relative},
    }
