"""Small networks and their exported graphs, each traced once per test session."""

from __future__ import annotations

import functools
from pathlib import Path

import onnx

import session
from serpent.config import SerpentConfig
from serpent.model import Serpent, create_model
from serpent.shapes import ShapeProfile, parse_profile
from serpent_export.canonical import finish
from serpent_export.tracing import trace


@functools.cache
def network(variant: str = "B") -> Serpent:
    return create_model(variant, seed=0)


def profile(variant: str = "B", resolution: str = "64", batch: str = "1") -> ShapeProfile:
    return parse_profile(SerpentConfig.from_variant(variant), resolution, batch)


@functools.cache
def _graph(variant: str, resolution: str, precision: str, batch: str) -> bytes:
    sizes = profile(variant, resolution, batch)

    def make(folder: Path) -> None:
        raw = trace(network(variant), sizes, precision)
        (folder / "graph.onnx").write_bytes(finish(raw, name="network").SerializeToString(deterministic=True))

    # Of a free side the graph holds no bounds.
    sides = [str(side.min) if side.is_static else "free" for side in (sizes.batch, sizes.height, sizes.width)]
    return (session.made_once("-".join([variant, precision, *sides]), make) / "graph.onnx").read_bytes()


def graph(variant: str = "B", resolution: str = "64", precision: str = "fp32", batch: str = "1") -> onnx.ModelProto:
    """A fresh copy of the exported graph, without metadata."""
    return onnx.load_model_from_string(_graph(variant, resolution, precision, batch))
