"""Small networks and their exported graphs, each made once per test process."""

from __future__ import annotations

import functools

import onnx

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
    raw = trace(network(variant), profile(variant, resolution, batch), precision)
    return finish(raw, name="network").SerializeToString(deterministic=True)


def graph(variant: str = "B", resolution: str = "64", precision: str = "fp32", batch: str = "1") -> onnx.ModelProto:
    """A fresh copy of the exported graph, without metadata."""
    return onnx.load_model_from_string(_graph(variant, resolution, precision, batch))
