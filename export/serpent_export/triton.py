"""A model repository for NVIDIA's Triton Inference Server, from the files of an export.

Triton's TensorRT backend runs plans of TensorRT, not of TensorRT-RTX, and only those of its own version; it must load
the plugin before it reads the plan. The ONNX file needs no plugin and runs on Triton's ONNX Runtime, slowly.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from serpent.errors import NativeLibraryError, SerpentError, UsageError
from serpent.files import sha256_file
from serpent.manifest import Manifest, load_manifest
from serpent.runtime.border import border_named
from serpent.runtime.plugin_library import autoreg_library, plugin_library
from serpent.runtime.tensorrt_library import TRT
from serpent.shapes import Range, ShapeProfile
from serpent_export.triton_texts import readme, start_script

_ELSEWHERE = "choose another folder: --triton DIR"
_STORED = "model_repository"
NO_BF16 = "ONNX Runtime has no bf16 kernels on the CPU, and its bf16 on a GPU was not tried"
_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "uint8": "TYPE_UINT8"}


@dataclass(frozen=True)
class TritonRepository:
    """What was written, and what to tell the user."""

    folder: Path
    models: tuple[str, ...]
    notes: tuple[str, ...]


def check_target(folder: Path, *, overwrite: bool) -> None:
    """Refuse early what :func:`write_repository` could not finish.

    Raises:
        UsageError: something is there already, or its parent is not.
        SerpentError: its parent cannot be written.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder", hint="choose another one: --triton DIR")
        if not overwrite:
            raise UsageError(f"{folder} is not empty", hint="choose another one, or --overwrite an earlier repository")
        if (foreign := _foreign_file(folder)) is not None:
            raise UsageError(
                f"{folder} is not empty, and {foreign} in it is of no earlier repository: it would be lost",
                hint="move it away, or choose another folder: --triton DIR",
            )
    if folder.name in ("", ".."):
        raise UsageError(f"{folder} cannot be replaced from within", hint="name another folder: --triton DIR")
    if not folder.parent.is_dir():
        raise UsageError(f"the folder {folder.parent} does not exist", hint=f"mkdir -p {folder.parent}")
    # Tried rather than asked: access() says nothing of file systems that refuse new names.
    _folder_beside(folder).rmdir()


def write_repository(folder: Path, manifest_file: Path, *, overwrite: bool = False) -> TritonRepository:
    """Write ``folder`` whole or not at all: model_repository/, plugins/, start.sh and README.md.

    Args:
        folder: to be made; an empty one, or with ``overwrite`` an earlier repository, is replaced.
        manifest_file: of the export; the files lie beside it.
        overwrite: replace an earlier repository.

    Raises:
        UsageError: the folder is taken.
        ModelFileError: a file is missing or changed.
        SerpentError: the folder cannot be written.
    """
    check_target(folder, overwrite=overwrite)
    manifest = load_manifest(manifest_file)
    aside = _folder_beside(folder)
    try:
        made = _fill(aside / "new", manifest)
        _swap(aside / "new", folder, aside / "old")
    except OSError as error:
        raise SerpentError(f"cannot write {folder}: {error.strerror or error}", hint=_ELSEWHERE) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return TritonRepository(folder, tuple(made.models), tuple(made.notes))


def _folder_beside(folder: Path) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise SerpentError(f"cannot write into {folder.parent}: {error.strerror}", hint=_ELSEWHERE) from None


def _foreign_file(folder: Path) -> str | None:
    """A file in ``folder`` that the README of an earlier repository does not list; None where there is none."""
    texts = ("README.md", "start.sh")
    try:
        listed = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        listed = ""
    files = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir())
    ours = texts if f"| {_STORED}" in listed else ()
    return next((name for name in files if name not in ours and f"| {name} | " not in listed), None)


def _swap(new: Path, folder: Path, old: Path) -> None:
    """Put ``new`` in the place of ``folder``, which goes to ``old``, or comes back where that fails."""
    replaced = folder.exists()
    if replaced:
        folder.replace(old)
    try:
        new.replace(folder)
    except BaseException:  # an interruption, too
        if replaced:
            old.replace(folder)
        raise


@dataclass
class _Made:
    models: list[str]
    notes: list[str]


def _fill(folder: Path, manifest: Manifest) -> _Made:
    made = _Made([], [])
    files = {name: manifest.path.with_name(name) for name in manifest.fields["files"]}
    plan = next((path for path in files.values() if path.suffix == ".plan"), None)
    onnx = next((path for name, path in files.items() if name == f"{manifest.path.stem}.onnx"), None)
    plugins: tuple[Path, ...] = ()
    if plan is not None:
        engine = manifest.engine(plan)
        if engine.get("flavour") == TRT.key:
            manifest.check_digest(plan)
            _add_model(folder, manifest, plan, "tensorrt", made)
            plugins = _add_plugins(folder / "plugins", int(str(engine["version"]).partition(".")[0]), made)
        else:
            made.notes.append(
                f"{plan.name} is left out of the Triton repository: Triton runs plans of TensorRT alone; "
                "export with --engine trt on a machine with the server's GPU and TensorRT version"
            )
            plan = None
    if onnx is not None and manifest.precision == "bf16":
        made.notes.append(f"{onnx.name} is left out of the Triton repository: {NO_BF16}")
    elif onnx is not None:
        manifest.check_digest(onnx)
        _add_model(folder, manifest, onnx, "onnxruntime", made)
    if not made.models:
        raise UsageError(f"{manifest.path} describes no file that Triton runs", hint="export with --format all or onnx")
    versions = {} if plan is None else dict(manifest.engine(plan))
    sums = {str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    plugin = plugins[0].name if plugins else ""
    (folder / "README.md").write_text(readme(manifest, versions, plugin, made.models, sums), encoding="utf-8")
    script = folder / "start.sh"
    script.write_text(start_script(plugin, str(versions.get("version", ""))), encoding="utf-8")
    script.chmod(0o755)
    return made


def _add_model(folder: Path, manifest: Manifest, file: Path, backend: str, made: _Made) -> None:
    name = f"{file.stem}-{'tensorrt' if backend == 'tensorrt' else 'onnx'}"
    model = folder / _STORED / name
    (model / "1").mkdir(parents=True)
    stored = f"model{file.suffix}"
    shutil.copyfile(file, model / "1" / stored)
    (model / "config.pbtxt").write_text(model_config(name, backend, stored, manifest), encoding="utf-8")
    made.models.append(name)


def _add_plugins(folder: Path, major: int, made: _Made) -> tuple[Path, ...]:
    """Copy the library that registers the plugin, and the one that it needs beside it; first of them the former."""
    try:
        sources = (autoreg_library(major), plugin_library())
    except NativeLibraryError as error:
        made.notes.append(f"the Triton repository lacks the plugin for TensorRT {major}: {error.message}; {error.hint}")
        return ()
    folder.mkdir()
    return tuple(Path(shutil.copyfile(source, folder / source.name)) for source in sources)


def model_config(name: str, backend: str, file: str, manifest: Manifest) -> str:
    """The text of ``config.pbtxt``: sizes that the profile leaves free are -1; one warm-up run at its optimum.

    Args:
        name: of the model, its folder's too.
        backend: "tensorrt" or "onnxruntime".
        file: name of the model file in the version's folder.
        manifest: of the export.
    """
    profile, border = manifest.profile, border_named(manifest.io)
    kind = _TYPES[border.dtype_name]
    free = [_free(size) for size in (profile.batch, profile.height, profile.width)]
    dims, optimum = border.shape(free[0], free[1], free[2]), border.shape(*_optimum(profile))
    tensors = [
        f'{role} [ {{ name: "{tensor}" data_type: {kind} dims: {_list(dims)} }} ]'
        for role, tensor in (("input", "image"), ("output", "restored"))
    ]
    warm = f'inputs {{ key: "image" value {{ data_type: {kind} dims: {_list(optimum)} zero_data: true }} }}'
    lines = [
        f'name: "{name}"',
        f'backend: "{backend}"',
        f'default_model_filename: "{file}"',
        "# 0: the batch is a dimension like the others.",
        "max_batch_size: 0",
        *tensors,
        "instance_group [ { count: 1 kind: KIND_GPU } ]",
        "# The first run of a shape prepares it; no request should wait for that.",
        f'model_warmup [ {{ name: "optimum" batch_size: 1 {warm} }} ]',
    ]
    return "\n".join(lines) + "\n"


def _optimum(profile: ShapeProfile) -> tuple[int, int, int]:
    return profile.batch.opt, profile.height.opt, profile.width.opt


def _free(size: Range) -> int:
    return size.min if size.is_static else -1


def _list(values: Iterable[int]) -> str:
    return f"[ {', '.join(map(str, values))} ]"
