"""Identities that exporter, runtime and plugin share: of the scan operator, of weights, of a network inside a plan."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NAME = "SelectiveScan2D"
"""Operator type of the ONNX node, name of its function and of the TensorRT plugin."""

NAMESPACE = "serpent"
"""ONNX domain and plugin namespace."""

VERSION = "1"
"""Operator version; a change of contract is a new version beside this one."""

INPUTS = ("x", "x_dbl", "dt_weight", "dt_bias", "A", "D_skip")
"""Inputs in order; shapes and types are those of ``serpent/scan.h``, without f64."""

_NETWORK = re.compile(rb"serpent-([a-z0-9]+)-(fp32|fp16|bf16)-schema([0-9]+)-([0-9a-f]{16})(?![0-9a-f])")


@dataclass(frozen=True)
class NetworkName:
    """The name of an exported graph, which plans keep: what a plan without its manifest can still say.

    Attributes:
        variant: "B", "L" or "H".
        precision: "fp32", "fp16" or "bf16".
        schema: revision of the scan's workspace layout.
        weights: the first 16 hexadecimal digits of the weights' digest.
    """

    variant: str
    precision: str
    schema: int
    weights: str

    def __str__(self) -> str:
        return f"serpent-{self.variant.lower()}-{self.precision}-schema{self.schema}-{self.weights}"

    @classmethod
    def find(cls, data: bytes) -> NetworkName | None:
        """The first such name in a file's bytes, if there is one."""
        match = _NETWORK.search(data)
        if match is None:
            return None
        variant, precision, schema, weights = (part.decode("ascii") for part in match.groups())
        return cls(variant.upper(), precision, int(schema), weights)


def digest_weights(config: Mapping[str, Any], tensors: Iterable[tuple[str, tuple[int, ...], bytes]]) -> str:
    """SHA-256 of a network: its configuration (but its label) and its parameters.

    Args:
        config: fields of ``SerpentConfig``.
        tensors: name, shape and the bytes of the f32 values (little-endian, row-major); in any order.
    """
    digest = hashlib.sha256()
    structure = {key: value for key, value in config.items() if key != "variant"}
    digest.update(json.dumps(structure, sort_keys=True).encode())
    for name, shape, values in sorted(tensors):
        digest.update(f"{name}{shape}\n".encode())
        digest.update(values)
    return digest.hexdigest()
