"""Small networks and their exported graphs, each traced once per test session."""

from __future__ import annotations

import functools
from pathlib import Path

import onnx

import session
from serpent.config import SerpentConfig
from serpent.model import Serpent, create_model
from serpent.model.checkpoint import weights_digest
from serpent.shapes import ShapeProfile, parse_profile
from serpent_export.canonical import finish
from serpent_export.tracing import trace


@functools.cache
def network(variant: str = "B") -> Serpent:
    return create_model(variant, seed=0)


def profile(variant: str = "B", resolution: str = "64", batch: str = "1") -> ShapeProfile:
    return parse_profile(SerpentConfig.from_variant(variant), resolution, batch)


def trace_once(model: Serpent, sizes: ShapeProfile, precision: str) -> onnx.ModelProto:
    """``trace``, which equal networks, sizes and precisions go through once a session."""

    def make(folder: Path) -> None:
        onnx.save_model(trace(model, sizes, precision), folder / "raw.onnx")

    # Of a free side the graph holds no bounds.
    sides = [str(side.min) if side.is_static else "free" for side in (sizes.batch, sizes.height, sizes.width)]
    return onnx.load_model(session.made_once("-".join([weights_digest(model), precision, *sides]), make) / "raw.onnx")


@functools.cache
def _graph(variant: str, resolution: str, precision: str, batch: str) -> bytes:
    raw = trace_once(network(variant), profile(variant, resolution, batch), precision)
    return finish(raw, name="network").SerializeToString(deterministic=True)


def graph(variant: str = "B", resolution: str = "64", precision: str = "fp32", batch: str = "1") -> onnx.ModelProto:
    """A fresh copy of the exported graph, without metadata."""
    return onnx.load_model_from_string(_graph(variant, resolution, precision, batch))
