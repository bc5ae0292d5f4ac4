"""Reading an exported ONNX file: its metadata, its digest, its manifest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from serpent.config import SerpentConfig
from serpent.errors import ModelFileError, SerpentError
from serpent.identity import NAME
from serpent.manifest import load_manifest, manifest_path
from serpent.shapes import ShapeProfile

FORMAT = "serpent-onnx-1"
ORT_TRT_FORMAT = "serpent-ort-trt-1"
"""In place of ``FORMAT`` in the variant for ONNX Runtime's TensorRT provider, which our sessions cannot run."""
METADATA_PREFIX = "serpent."
GRAPH_DIGEST = "graph_sha256"
_EXPORT_AGAIN = "export it again with serpent-export"


@dataclass(frozen=True)
class OnnxFile:
    """A verified file: the model and what its metadata says (keys without the ``serpent.`` prefix)."""

    path: Path
    model: onnx.ModelProto
    metadata: dict[str, str]
    config: SerpentConfig
    profile: ShapeProfile


def serialize(model: onnx.ModelProto) -> bytes:
    """Deterministic bytes of a model."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def graph_digest(model: onnx.ModelProto) -> str:
    """SHA-256 of the serialised model without its ``metadata_props``."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:]
    return hashlib.sha256(serialize(bare)).hexdigest()


def read_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """Our metadata of a model, without the prefix; empty for a foreign file."""
    prefix = METADATA_PREFIX
    return {p.key.removeprefix(prefix): p.value for p in model.metadata_props if p.key.startswith(prefix)}


def read_onnx(path: Path) -> OnnxFile:
    """Read and verify a file written by ``serpent-export``.

    The graph must match the digest inside the file and, where a manifest lies beside it, the manifest's.

    Raises:
        ModelFileError: missing, no ONNX, without our metadata, changed after its export, or for another runtime.
    """
    if not path.is_file():
        raise ModelFileError(f"the model {path} does not exist")
    sidecar = manifest_path(path)
    if sidecar.exists():
        load_manifest(sidecar).check_digest(path)
    model, metadata = _load(path)
    if metadata["format"] == ORT_TRT_FORMAT:
        raise ModelFileError(
            f"{path} is the variant for ONNX Runtime's TensorRT provider; nothing else runs it",
            hint=f"name the usual file, for example {manifest_path(path).with_suffix('.onnx')}",
        )
    if metadata.get(GRAPH_DIGEST) != graph_digest(model):
        raise ModelFileError(f"{path}: the graph does not match the digest in its metadata", hint=_EXPORT_AGAIN)
    try:
        config = SerpentConfig.from_dict(json.loads(metadata["config"]))
        profile = ShapeProfile.from_dict(json.loads(metadata["profile"]))
        _ = (metadata["task"], metadata["precision"], metadata["weights"])
    except (KeyError, TypeError, ValueError, RecursionError, SerpentError) as error:
        raise ModelFileError(f"{path} has damaged Serpent metadata: {error!r}", hint=_EXPORT_AGAIN) from None
    return OnnxFile(path, model, metadata, config, profile)


def describe_onnx(path: Path) -> tuple[dict[str, Any], list[str]]:
    """What a file written by ``serpent-export`` says of itself, and where it contradicts its own digest.

    Raises:
        ModelFileError: no ONNX, or without our metadata.
    """
    model, metadata = _load(path)
    digest = graph_digest(model)
    texts = ("task", "precision", "weights", "weights_sha256", "weights_license")
    facts: dict[str, Any] = {"format": metadata["format"], "name": model.graph.name}
    try:
        parsed = {key: json.loads(metadata[key]) for key in ("config", "profile", "tools")}
        facts |= {"variant": parsed["config"]["variant"], **{key: metadata[key] for key in texts}, **parsed}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} has damaged Serpent metadata: {error!r}", hint=_EXPORT_AGAIN) from None
    facts |= {
        "io": metadata.get("io", "f32-nchw"),
        "scan": metadata.get("scan", "node"),
        "scans": sum(node.op_type == NAME for node in model.graph.node),
        "opset": max((entry.version for entry in model.opset_import if entry.domain == ""), default=None),
        "graph_sha256": digest,
    }
    stated = metadata.get(GRAPH_DIGEST)
    differences = [] if stated == digest else [f"graph_sha256 is {digest}; the file's metadata says {stated}"]
    return facts, differences


def _load(path: Path) -> tuple[onnx.ModelProto, dict[str, str]]:
    try:
        model = onnx.load_model(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ModelFileError(f"{path} is no ONNX file: {error}", hint=_EXPORT_AGAIN) from None
    metadata = read_metadata(model)
    if metadata.get("format") not in (FORMAT, ORT_TRT_FORMAT):
        raise ModelFileError(
            f"{path} has no Serpent metadata (format is {metadata.get('format')!r}, expected {FORMAT!r}): "
            "it was not written by serpent-export",
            hint=_EXPORT_AGAIN,
        )
    return model, metadata
