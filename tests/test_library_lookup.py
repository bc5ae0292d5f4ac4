"""How the native library is found, and what a wrong one gets. Installs are in test_packaging.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serpent import native
from serpent.errors import NativeLibraryError


@pytest.fixture
def own_lookup(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A library cache of this test's own, and no override from outside."""
    monkeypatch.delenv("SERPENT_LIBRARY", raising=False)
    monkeypatch.setattr(native, "library", native.functools.cache(native.library.__wrapped__))
    return monkeypatch


@pytest.mark.usefixtures("own_lookup")
def test_the_installed_library_loads() -> None:
    found = native.library()
    assert found.path.name == native.library_file_name()
    assert found.abi_version == native.ABI_VERSION
    assert found.schema >= 1


def test_the_environment_overrides_the_installed_library(own_lookup: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "chosen.bin"  # the name is the user's business
    shutil.copy(native.find_library(), other)
    own_lookup.setenv("SERPENT_LIBRARY", str(other))
    assert native.library().path == other


def test_an_override_may_be_a_name_in_the_current_folder(own_lookup: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = Path(shutil.copy(native.find_library(), tmp_path / "chosen.bin"))
    own_lookup.chdir(tmp_path)
    own_lookup.setenv("SERPENT_LIBRARY", "chosen.bin")
    assert native.library().path == other


def test_an_override_that_is_no_file_is_named(own_lookup: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = tmp_path / "missing.so"
    own_lookup.setenv("SERPENT_LIBRARY", str(missing))
    with pytest.raises(NativeLibraryError, match=r"SERPENT_LIBRARY is .*missing\.so.*no file"):
        native.library()


def test_an_override_that_is_no_library_is_refused(own_lookup: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("not a shared object")
    own_lookup.setenv("SERPENT_LIBRARY", str(text))
    with pytest.raises(NativeLibraryError, match=r"text\.so is not a usable native library"):
        native.library()


def test_a_library_that_is_not_ours_is_refused(own_lookup: pytest.MonkeyPatch, tmp_path: Path) -> None:
    foreign = compiled(tmp_path, "int something_else(void) { return 1; }")
    own_lookup.setenv("SERPENT_LIBRARY", str(foreign))
    with pytest.raises(NativeLibraryError, match=r"is not a usable native library.*serpent_abi_version"):
        native.library()


def test_a_library_of_another_abi_is_refused(own_lookup: pytest.MonkeyPatch, tmp_path: Path) -> None:
    newer = compiled(tmp_path, "int serpent_abi_version(void) { return 99; }")
    own_lookup.setenv("SERPENT_LIBRARY", str(newer))
    with pytest.raises(NativeLibraryError, match=f"has ABI 99, this package needs {native.ABI_VERSION}"):
        native.library()


def test_no_library_at_all_lists_where_it_was_sought(own_lookup: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_lookup.setattr(native, "__file__", str(tmp_path / "serpent" / "native.py"))
    own_lookup.setattr(native, "installed_files", lambda name: [tmp_path / "site-packages" / name])
    with pytest.raises(NativeLibraryError) as refusal:
        native.find_library()
    for place in ("serpent/lib", "site-packages", "build/plugins"):
        assert str(tmp_path / place / native.library_file_name()) in refusal.value.message
    assert refusal.value.hint is not None
    assert "SERPENT_LIBRARY" in refusal.value.hint


def compiled(folder: Path, source: str) -> Path:
    """A shared library made of one line of C."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform == "win32":
        pytest.skip("no C compiler to make a foreign library with")
    (folder / "foreign.c").write_text(source)
    library = folder / "foreign.so"
    subprocess.run([compiler, "-shared", "-fPIC", str(folder / "foreign.c"), "-o", str(library)], check=True)
    return library
