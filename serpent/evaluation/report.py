"""Figures of an evaluation for files: a CSV with a line for each picture, and a summary."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serpent.evaluation.scores import DATA_RANGE, MODEL, Evaluation, Scores
from serpent.files import written_aside


def write_rows(path: Path, evaluation: Evaluation) -> None:
    """Write a CSV: name, height, width, the scores of each method, and the model's seconds.

    Raises:
        SerpentError: the folder cannot be written.
    """
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = [f"{method}_{measure}" for method in evaluation.methods for measure in _figures(evaluation, method)]
        writer.writerow(["name", "height", "width", *columns, "seconds"])
        for row in evaluation.rows:
            scores = [value for each in row.scores.values() for value in _cells(each)]
            writer.writerow([row.name, row.height, row.width, *scores, f"{row.seconds:.4f}"])


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write a summary as JSON.

    Raises:
        SerpentError: the folder cannot be written.
    """
    with written_aside(path) as aside:
        aside.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """What the figures are and the means of each method, as plain JSON; a PSNR that is infinite is null."""
    by_psnr = sorted(evaluation.rows, key=lambda row: (row.scores[MODEL].psnr, row.name))
    return {
        "pictures": len(evaluation.rows),
        "degraded_sha256": evaluation.degraded_sha256,
        "data_range": DATA_RANGE,
        "border": evaluation.border,
        "means": {method: _figures(evaluation, method) for method in evaluation.methods},
        "worst": by_psnr[0].name,
        "best": by_psnr[-1].name,
        "seconds": round(evaluation.seconds, 3),
    }


def _figures(evaluation: Evaluation, method: str) -> dict[str, float | None]:
    mean = evaluation.mean(method)
    figures = {"psnr": round(mean.psnr, 4) if math.isfinite(mean.psnr) else None, "ssim": round(mean.ssim, 6)}
    return figures if mean.lpips is None else {**figures, "lpips": round(mean.lpips, 6)}


def _cells(scores: Scores) -> list[str]:
    cells = [f"{scores.psnr:.4f}", f"{scores.ssim:.6f}"]
    return cells if scores.lpips is None else [*cells, f"{scores.lpips:.6f}"]
