"""Builds a TensorRT plan from an exported ONNX file, in a process of its own.

TensorRT's parser can abort the process that calls it; a child process turns that into an error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serpent import errors
from serpent.errors import EngineError, ModelFileError, SerpentError
from serpent.files import written_aside
from serpent.runtime.plugin_library import plugin_library
from serpent.runtime.tensorrt_library import Flavour, check_installed
from serpent.shapes import ShapeProfile
from serpent_export.engine_options import EngineOptions
from serpent_export.progress import StageCallback, silent


@dataclass(frozen=True)
class PluginIdentity:
    """What the plan asks for when it is loaded.

    Attributes:
        name: with version and namespace, what TensorRT looks for.
        version: see name.
        namespace: see name.
        schema: the serialised field; the loading plugin must have the same.
        library: name of the file whose code the build asked for sizes, without its folder.
        library_sha256: its digest; other builds of the same schema will do.
        embedded: whether the plan carries that file.
    """

    name: str
    version: str
    namespace: str
    schema: int
    library: str
    library_sha256: str
    embedded: bool


@dataclass(frozen=True)
class EngineResult:
    """A plan that was built.

    Attributes:
        flavour: "rtx" or "trt".
        version: of TensorRT; the plan runs with this version only.
        cuda: major version of CUDA that this TensorRT was made for, such as "13"; None where its package does not say.
        network: name of the network inside the plan.
        targets: GPUs that it runs on, such as ("sm86", "sm89").
        layers: of the network, before TensorRT fused them.
        plugin_layers: how many of them are selective scans.
        plugin: what must be registered before the plan is loaded.
        profiles: accepted shapes, as the plan's optimization profiles.
        options: what was asked of the builder, beyond shapes and targets.
        seconds: wall time of the build, process start included.
    """

    flavour: str
    version: str
    cuda: str | None
    network: str
    targets: tuple[str, ...]
    layers: int
    plugin_layers: int
    plugin: PluginIdentity
    profiles: tuple[ShapeProfile, ...]
    options: EngineOptions
    seconds: float

    def to_manifest(self) -> dict[str, Any]:
        """The manifest's ``engine`` entry: everything but the time taken."""
        fields = asdict(self) | {
            "targets": list(self.targets),
            "profiles": [profile.to_dict() for profile in self.profiles],
            "options": self.options.to_manifest(),
        }
        del fields["seconds"]
        return fields


def build_engine(
    onnx_path: Path,
    plan_path: Path,
    *,
    flavour: Flavour,
    targets: Sequence[str],
    profile: ShapeProfile,
    expected_scans: int,
    name: str = "serpent",
    io: str = "f32-nchw",
    options: EngineOptions | None = None,
    on_stage: StageCallback = silent,
) -> EngineResult:
    """Build the plan of an ONNX file; with TensorRT-RTX equal input gives equal bytes, and no GPU is needed.

    Args:
        onnx_path: input ``image`` (B, 3, H, W), scans as nodes ``SelectiveScan2D`` with a ``plugin_namespace``.
        plan_path: written whole or not at all; replaced when it exists.
        flavour: who builds.
        targets: GPUs to build for; for TensorRT none, or the one that CUDA counts first here.
        profile: accepted shapes, all with a largest size.
        expected_scans: how many scans of the file must become plugin layers.
        name: of the network inside the plan: the ONNX parser does not pass the graph's own on.
        io: what the file's border is, a key of ``serpent.runtime.border.BORDERS``.
        options: for the builder.
        on_stage: told what is being done.

    Raises:
        UsageError: an option that the flavour does not have, or a target that is not this machine's.
        MissingExtraError: the flavour is not installed.
        NativeLibraryError: the C++ plugin library is to be embedded and is not there.
        EngineError: too old, the file cannot be parsed or built, or the build process died.
        ModelFileError: the ONNX file does not exist.
        SerpentError: the folder of the plan cannot be written.
    """
    options = options or EngineOptions()
    options.check(flavour)
    check_installed(flavour)
    plugin_file = plugin_library() if options.embed_plugin else None
    if not onnx_path.is_file():
        raise ModelFileError(f"the ONNX file {onnx_path} does not exist", hint="run serpent-export with --format onnx")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="serpent-engine-") as scratch, written_aside(plan_path) as aside:
        spec = {
            "onnx": str(onnx_path.resolve()),
            "plan": str(aside.resolve()),
            "flavour": flavour.key,
            "targets": list(targets),
            "profile": profile.to_dict(),
            "expected_scans": expected_scans,
            "name": name,
            "io": io,
            "workspace": options.workspace,
            "optimization_level": options.optimization_level,
            "timing_cache": None if options.timing_cache is None else str(options.timing_cache.resolve()),
            "embed_plugin": None if plugin_file is None else str(plugin_file.resolve()),
        }
        fields = _run_child(spec, Path(scratch), on_stage)
    plugin = PluginIdentity(**fields.pop("plugin"))
    return EngineResult(
        flavour=flavour.key,
        targets=tuple(fields.pop("targets")),
        plugin=plugin,
        network=name,
        profiles=(profile,),
        options=options,
        seconds=time.perf_counter() - start,
        **fields,
    )


def _child_command() -> list[str]:
    # -P keeps the current folder, which may hold anything, off the child's import path.
    return [sys.executable, "-P", "-m", "serpent_export.engine_child"]


def _run_child(spec: dict[str, Any], scratch: Path, on_stage: StageCallback) -> dict[str, Any]:
    """Send ``spec`` to a build process and follow its messages, one JSON object a line.

    Raises:
        SerpentError: the error that the child reports, or an EngineError when it dies without a report.
    """
    paths = [path or str(Path.cwd()) for path in sys.path]
    # The child finds the packages where this process found them, and leaves its temporary files, of which an
    # aborted process removes none, where this process removes them.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(scratch)}
    complaints = scratch / "stderr.txt"
    result: dict[str, Any] | None = None
    with (
        complaints.open("wb") as stderr,
        subprocess.Popen(
            _child_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            encoding="utf-8",
        ) as child,
    ):
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                child.stdin.write(json.dumps(spec))
                child.stdin.close()
            except BrokenPipeError:
                pass  # it died at its start; the exit status below says how
            for line in child.stdout:
                message = json.loads(line)
                if "error" in message:
                    raise _rebuild_error(message["error"])
                if "result" in message:
                    result = message["result"]
                else:
                    on_stage(message["stage"])
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0 or result is None:
        raise EngineError(_obituary(child.returncode, complaints), hint="export the ONNX file alone: --format onnx")
    return result


def _rebuild_error(fields: dict[str, Any]) -> SerpentError:
    kind: type[SerpentError] = getattr(errors, fields["kind"])
    return kind(fields["message"], hint=fields["hint"])


def _obituary(status: int, complaints: Path) -> str:
    """Why the child died: its exit status and the last thing that it wrote."""
    if status < 0:
        how = f"was ended by signal {signal.Signals(-status).name}"
        if -status == signal.SIGKILL:
            how += " (the machine may have run out of memory)"
    else:
        how = f"failed with exit code {status}"
    lines = complaints.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"the process that builds the plan {how}" + (f": {last}" if last else "")
