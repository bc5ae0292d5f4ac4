"""The manifest: a JSON sidecar that says what exported files are and certifies them.

It lies beside the files under their common stem: ``serpent-h-512-fp32.json`` describes
``serpent-h-512-fp32.onnx`` and ``serpent-h-512-fp32.plan``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serpent.config import SerpentConfig
from serpent.errors import ModelFileError, SerpentError
from serpent.files import check_model_file, sha256_file
from serpent.shapes import ShapeProfile

FORMAT = "serpent-manifest"
FORMAT_VERSION = 1
ORT_TRT_SUFFIX = ".ort-trt.onnx"
"""Ending of an ONNX file's variant for ONNX Runtime's TensorRT provider, which the same manifest describes."""


@dataclass(frozen=True)
class Manifest:
    """A parsed manifest; ``fields`` keeps everything, the properties what the runtime needs."""

    path: Path
    fields: dict[str, Any]

    @property
    def config(self) -> SerpentConfig:
        return SerpentConfig.from_dict(self.fields["config"])

    @property
    def profile(self) -> ShapeProfile:
        return ShapeProfile.from_dict(self.fields["profile"])

    @property
    def task(self) -> str:
        return str(self.fields["task"])

    @property
    def precision(self) -> str:
        return str(self.fields["precision"])

    @property
    def io(self) -> str:
        """Types and layout of ``image`` and ``restored``, a key of ``serpent.runtime.border.BORDERS``."""
        return str(self.fields.get("io", "f32-nchw"))

    @property
    def weights(self) -> str:
        """Digest of the weights, or "untrained"."""
        return str(self.fields["weights"])

    def engine(self, file: Path) -> dict[str, Any]:
        """What the plan ``file`` was built with: flavour, version, targets, plugin.

        Raises:
            ModelFileError: the manifest does not describe ``file`` as a plan.
        """
        entry = self.fields["files"].get(file.name, {})
        if "engine" not in entry:
            raise ModelFileError(f"{self.path} does not describe {file.name} as a plan", hint=_EXPORT_AGAIN)
        if not isinstance(entry["engine"], dict):
            raise ModelFileError(f"{self.path} is damaged: its engine is {entry['engine']!r}", hint=_EXPORT_AGAIN)
        return dict(entry["engine"])

    def check_digest(self, file: Path) -> None:
        """Compare the file's SHA-256 with the manifest's.

        Raises:
            ModelFileError: they differ, the file is not there, or the manifest does not list it.
        """
        check_model_file(file)
        entry = self.fields["files"].get(file.name)
        if entry is None:
            listed = ", ".join(self.fields["files"]) or "no file"
            raise ModelFileError(f"{self.path} lists {listed}, not {file.name}", hint=_EXPORT_AGAIN)
        digest = sha256_file(file)
        if digest != entry["sha256"]:
            raise ModelFileError(
                f"{file} has sha256 {digest[:16]}..., its manifest {self.path.name} says {entry['sha256'][:16]}...: "
                "the file was changed or damaged after its export",
                hint=_EXPORT_AGAIN,
            )


_EXPORT_AGAIN = "run serpent-export again, or restore the files as they were exported"


def manifest_path(file: Path) -> Path:
    """Where the manifest of an exported file lies."""
    stem = file.name.removesuffix(ORT_TRT_SUFFIX)
    return file.with_suffix(".json") if stem in ("", file.name) else file.with_name(f"{stem}.json")


def load_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        ModelFileError: missing, no JSON, or no manifest of this format.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFileError(f"the manifest {path} does not exist", hint=_EXPORT_AGAIN) from None
    except OSError as error:
        raise ModelFileError(f"the manifest {path} cannot be read: {error.strerror}", hint=_EXPORT_AGAIN) from None
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is not readable as a manifest: {error}", hint=_EXPORT_AGAIN) from None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise ModelFileError(f"{path} is no {FORMAT}", hint=_EXPORT_AGAIN)
    if fields.get("format_version") != FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has manifest version {fields.get('format_version')!r}, this version reads {FORMAT_VERSION}",
            hint=_EXPORT_AGAIN,
        )
    manifest = Manifest(path, fields)
    try:
        _ = (manifest.config, manifest.profile, manifest.task, manifest.precision, manifest.weights)
        _ = [bytes.fromhex(entry["sha256"]) for entry in fields["files"].values()]
    except (KeyError, TypeError, ValueError, AttributeError, SerpentError) as error:
        raise ModelFileError(f"{path} is damaged: {error!r}", hint=_EXPORT_AGAIN) from None
    return manifest
