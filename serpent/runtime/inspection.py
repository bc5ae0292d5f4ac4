"""What an exported file, a plan or a checkpoint is, with digests, and whether its manifest agrees."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serpent.errors import CheckpointError, ModelFileError, UsageError
from serpent.extras import require
from serpent.files import check_model_file, sha256_file
from serpent.identity import NetworkName, digest_weights
from serpent.manifest import Manifest, load_manifest, manifest_path
from serpent.runtime.native_code import carries_native_code
from serpent.runtime.tensorrt_plan import read_header

_SHARED = ("variant", "task", "precision", "io", "weights", "weights_sha256", "weights_license", "profile", "config")
"""What an ONNX file and its manifest both say."""


@dataclass(frozen=True)
class Inspection:
    """A file as it is.

    Attributes:
        path: the file.
        kind: "onnx", "plan" or "safetensors".
        facts: what it says of itself, in the order to show; values are JSON values.
        manifest: the manifest beside it; None where there is none.
        differences: where file and manifest, or file and its own digests, do not agree.
    """

    path: Path
    kind: str
    facts: dict[str, Any]
    manifest: Path | None
    differences: tuple[str, ...]


def inspect_file(path: Path | str) -> Inspection:
    """Examine a file; nothing in it is run.

    Args:
        path: ``.onnx``, ``.plan`` or ``.safetensors``.

    Raises:
        UsageError: another kind of file.
        ModelFileError, CheckpointError: missing, or not written by this project.
        MissingExtraError: an ONNX file, and onnx is not installed.
    """
    path = Path(path)
    kinds = {".onnx": _inspect_onnx, ".plan": _inspect_plan, ".safetensors": _inspect_checkpoint}
    suffix = path.suffix.lower()
    if suffix not in kinds:
        hint = f"name the model file beside it, for example {path.with_suffix('.onnx')}" if suffix == ".json" else None
        raise UsageError(f"{path} is no model file; expected {', '.join(kinds)}", hint=hint)
    check_model_file(path)
    manifest = _manifest_of(path)
    digest = sha256_file(path)
    facts, differences = kinds[suffix](path, manifest)
    if manifest is not None and suffix != ".safetensors":
        differences = [*_digest_differences(manifest, path, digest), *differences]
    sidecar = None if manifest is None else manifest.path
    whole: dict[str, Any] = {"bytes": path.stat().st_size, "sha256": digest} | facts
    return Inspection(path, suffix[1:], whole, sidecar, tuple(differences))


def _manifest_of(path: Path) -> Manifest | None:
    sidecar = manifest_path(path)
    if not sidecar.exists():
        return None
    try:
        return load_manifest(sidecar)
    except ModelFileError:
        if path.suffix.lower() != ".safetensors":
            raise
        return None  # beside a checkpoint any .json may lie; only exports always have a manifest


def _digest_differences(manifest: Manifest, path: Path, digest: str) -> list[str]:
    entry = manifest.fields["files"].get(path.name)
    if entry is None:
        return [f"the manifest lists {', '.join(manifest.fields['files']) or 'no file'}, not {path.name}"]
    if entry["sha256"] != digest:
        return [f"sha256 is {digest}; the manifest says {entry['sha256']}"]
    return []


def _inspect_onnx(path: Path, manifest: Manifest | None) -> tuple[dict[str, Any], list[str]]:
    require("onnx", "onnx", f"inspecting {path.name}")
    from serpent.runtime.onnx_file import FORMAT, describe_onnx

    facts, differences = describe_onnx(path)
    if manifest is not None:
        ours = {key: value for key in _SHARED if (value := manifest.fields.get(key)) is not None}
        ours["name"] = manifest.fields.get("name", facts["name"])
        if facts["format"] == FORMAT:  # the digest in the manifest is of the usual file's graph
            ours["graph_sha256"] = manifest.fields.get("graph_sha256")
        differences += _unequal(facts, ours)
    return facts, differences


def _inspect_plan(path: Path, manifest: Manifest | None) -> tuple[dict[str, Any], list[str]]:
    engine = manifest.fields["files"].get(path.name, {}).get("engine") if manifest is not None else None
    name = NetworkName.find(path.read_bytes())
    flavour = engine.get("flavour") if isinstance(engine, dict) else None
    verdict = read_header(path, flavour if isinstance(flavour, str) else None)
    if name is None and manifest is None:
        raise ModelFileError(
            f"{path} holds no network of serpent-export, and no manifest lies beside it",
            hint="keep the .json of an export beside its .plan",
        )
    facts: dict[str, Any] = {"name": None if name is None else str(name)}
    facts |= _name_facts(name)
    if manifest is not None:
        said = {key: manifest.fields.get(key) for key in ("task", "io", "weights", "weights_sha256", "profile")}
        facts |= {key: value for key, value in said.items() if value is not None}
        facts["engine"] = engine
    facts["header"] = verdict.sentence
    differences = [f"the header is malformed, says {verdict.read_by}"] if verdict.malformed else []
    if manifest is not None:
        differences += _plan_differences(name, manifest, engine)
        plugin = engine.get("plugin") if isinstance(engine, dict) else None
        if carries_native_code(path) and not (isinstance(plugin, dict) and plugin.get("embedded")):
            differences.append("the plan carries native code; the manifest names no embedded plugin")
    return facts, differences


def _name_facts(name: NetworkName | None) -> dict[str, Any]:
    if name is None:
        return {}
    return {
        "variant": name.variant,
        "precision": name.precision,
        "schema": name.schema,
        "weights_sha256": f"{name.weights}...",
    }


def _plan_differences(name: NetworkName | None, manifest: Manifest, engine: Any) -> list[str]:
    if not isinstance(engine, dict):
        return ["the manifest does not describe the file as a plan"]
    if name is None:
        return ["the plan holds no network name of serpent-export"] if "network" in engine else []
    plugin = engine.get("plugin")
    found = {"name": str(name), "variant": name.variant, "precision": name.precision, "schema": name.schema}
    expected = {
        "name": engine.get("network", str(name)),
        "variant": str(manifest.fields.get("variant")).upper(),  # the name has no case
        "precision": manifest.precision,
        "schema": plugin.get("schema") if isinstance(plugin, dict) else None,
    }
    differences = _unequal(found, expected)
    digest = str(manifest.fields.get("weights_sha256", ""))
    if not digest.startswith(name.weights):
        differences.append(f"weights_sha256 begins with {name.weights}; the manifest says {digest}")
    return differences


def _inspect_checkpoint(path: Path, manifest: Manifest | None) -> tuple[dict[str, Any], list[str]]:
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        config = json.loads(metadata["config"])
        stated = metadata["weights_digest"]
        if not isinstance(config, dict):
            raise TypeError(f"its config is {config!r}")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is truncated, or no Serpent checkpoint: {error!r}",
            hint="write checkpoints with serpent.save_model(model, path)",
        ) from None
    tensors = ((name, array.shape, np.ascontiguousarray(array, "<f4").tobytes()) for name, array in arrays.items())
    digest = digest_weights(config, tensors)
    facts = {
        "variant": config.get("variant"),
        "task": metadata.get("task"),
        "weights_sha256": digest,
        "parameters": sum(array.size for array in arrays.values()),
        "config": config,
        "metadata": {key: value for key, value in sorted(metadata.items()) if key not in ("config", "weights_digest")},
    }
    differences = [] if digest == stated else [f"weights_sha256 is {digest}; the file's metadata says {stated}"]
    if manifest is not None:
        differences += _unequal(facts, {"weights_sha256": manifest.fields.get("weights_sha256")})
    return facts, differences


def _unequal(facts: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} is {facts.get(key)}; the manifest says {value}"
        for key, value in expected.items()
        if facts.get(key) != value
    ]
