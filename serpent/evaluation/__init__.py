"""Evaluation: how well a model restores degraded pictures, beside what needs no network."""

from serpent.evaluation.pairs import DegradedDigest, Pair, Pairs
from serpent.evaluation.scores import DATA_RANGE, Evaluation, Restore, Row, Scores, evaluate
from serpent.evaluation.wiener import Wiener, fit_wiener

__all__ = [
    "DATA_RANGE",
    "DegradedDigest",
    "Evaluation",
    "Pair",
    "Pairs",
    "Restore",
    "Row",
    "Scores",
    "Wiener",
    "evaluate",
    "fit_wiener",
]
