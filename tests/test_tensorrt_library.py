"""Finding, checking and loading the flavours of TensorRT."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from serpent.errors import EngineError, MissingExtraError
from serpent.runtime import tensorrt_library as library
from serpent.runtime.tensorrt_library import FLAVOURS, RTX, TRT, check_installed, installed_version, supported_targets

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
needs_rtx = pytest.mark.skipif(installed_version(RTX) is None, reason=f"needs {RTX.title}: {RTX.install_command}")


def test_flavours_are_found_by_the_name_of_their_extra() -> None:
    assert {key: flavour.module for key, flavour in FLAVOURS.items()} == {"rtx": "tensorrt_rtx", "trt": "tensorrt"}


@needs_rtx
def test_the_version_is_read_without_importing() -> None:
    code = (
        "import sys; from serpent.runtime.tensorrt_library import RTX, check_installed; print(check_installed(RTX));"
        "assert not any(name.startswith('tensorrt') for name in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment())
    assert run.stdout.strip() == installed_version(RTX), run.stderr


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=FLAVOURS)
def test_an_absent_flavour_names_its_extra(monkeypatch: pytest.MonkeyPatch, flavour: library.Flavour) -> None:
    monkeypatch.setitem(sys.modules, flavour.module, None)
    assert installed_version(flavour) is None
    with pytest.raises(MissingExtraError, match=rf"{flavour.title} is not installed\n.*restoration\[{flavour.key}\]"):
        check_installed(flavour)


@pytest.mark.parametrize(
    ("flavour", "version", "needed"),
    [(RTX, "1.6.1.120", "1.7.1"), (RTX, "1.7.0.9", "1.7.1"), (TRT, "10.6.0", "10.7.0"), (TRT, "8.6.1.post1", "10.7.0")],
)
def test_an_old_version_is_refused(
    monkeypatch: pytest.MonkeyPatch, flavour: library.Flavour, version: str, needed: str
) -> None:
    _pretend_installed(monkeypatch, version)
    with pytest.raises(EngineError, match=rf"{flavour.title} {version} is too old: .* needs {needed} or later"):
        check_installed(flavour)


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=FLAVOURS)
def test_the_extra_asks_for_the_version_that_is_checked(flavour: library.Flavour) -> None:
    extras = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    versions = dict(entry.split(">=") for entry in extras[flavour.key])
    (found,) = [versions[name] for name in flavour.distributions if name in versions]
    assert found == ".".join(map(str, flavour.minimum)).removesuffix(".0")


@pytest.mark.parametrize("version", ["1.7.1", "1.7.1.116", "1.10.0", "2.0"])
def test_a_recent_version_is_accepted(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    _pretend_installed(monkeypatch, version)
    assert check_installed(RTX) == version


@pytest.mark.parametrize("problem", ["version `GLIBC_2.38' not found", "No usable temporary directory found"])
def test_what_keeps_the_parser_from_loading_is_no_traceback(monkeypatch: pytest.MonkeyPatch, problem: str) -> None:
    def fail() -> None:
        raise OSError(problem)

    _pretend_installed(monkeypatch, "1.7.1")
    monkeypatch.delitem(sys.modules, RTX.module, raising=False)
    monkeypatch.setattr(library, "_satisfy_rtx_parser", fail)
    with pytest.raises(MissingExtraError, match=f"TensorRT-RTX is installed but cannot be loaded: {problem}"):
        library.load.__wrapped__(RTX)


@needs_rtx
def test_the_targets_are_the_enumeration_of_the_module() -> None:
    targets = supported_targets(library.load(RTX))
    assert targets == tuple(sorted(targets, key=lambda target: int(target[2:])))
    assert {"sm86", "sm89", "sm120"} <= set(targets)
    assert not {"sm90", "sm100"} & set(targets)


def test_a_module_that_builds_for_its_own_gpu_has_no_targets() -> None:
    assert supported_targets(SimpleNamespace()) == ()


@needs_rtx
def test_the_logger_keeps_errors_only_and_each_once() -> None:
    trt = library.load(RTX)
    logger = library.make_logger(trt)
    severity = trt.ILogger.Severity
    logger.sentence()
    assert logger.sentence() == ""
    for kind, message in [
        (severity.WARNING, "a warning"),
        (severity.ERROR, "first\n  line"),
        (severity.INTERNAL_ERROR, "second"),
        (severity.ERROR, "first line"),
    ]:
        logger.log(kind, message)
    assert logger.sentence() == "first line; second"
    assert logger.sentence() == ""
    assert library.make_logger(trt) is logger


@needs_rtx
@pytest.mark.skipif(sys.platform != "linux", reason="only the Linux wheels lack the library's unversioned name")
def test_loading_leaves_site_packages_and_the_temporary_folder_as_they_were(tmp_path: Path) -> None:
    code = """
import os, tempfile
from pathlib import Path
from serpent.runtime.tensorrt_library import RTX, load
load(RTX)
(folder,) = Path(tempfile.gettempdir()).iterdir()
assert (folder / "libtensorrt_rtx.so").resolve().name.startswith("libtensorrt_rtx.so.")
mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libtensorrt" in line}
assert len(mapped) == 2, mapped  # each library once, not once a name
"""
    spec = importlib.util.find_spec("tensorrt_rtx_libs")
    assert spec is not None
    assert spec.origin is not None
    before = sorted(Path(spec.origin).parent.iterdir())
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=_environment() | {"TMPDIR": str(tmp_path)}
    )
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.iterdir()) == []
    assert sorted(Path(spec.origin).parent.iterdir()) == before


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def _pretend_installed(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: SimpleNamespace())
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: version)
