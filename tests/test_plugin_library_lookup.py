"""How the TensorRT plugin's library files are found, and what is said where they were not built."""

from __future__ import annotations

from pathlib import Path

import pytest

from serpent.errors import NativeLibraryError
from serpent.runtime.plugin_library import autoreg_library, plugin_library


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the native library, which is of any name where the user names it."""
    (tmp_path / "chosen.so").touch()
    monkeypatch.setenv("SERPENT_LIBRARY", str(tmp_path / "chosen.so"))
    return tmp_path


def test_the_libraries_lie_beside_the_native_one(folder: Path) -> None:
    names = ["libserpent_trt.so", "libserpent_trt_autoreg10.so", "libserpent_trt_autoreg11.so"]
    for name in names:
        (folder / name).touch()
    found = [plugin_library(), autoreg_library(10), autoreg_library(11)]
    assert found == [folder / name for name in names]


def test_a_library_that_was_not_built_is_named_with_the_way_to_build_it(folder: Path) -> None:
    with pytest.raises(NativeLibraryError) as refusal:
        plugin_library()
    assert refusal.value.message == f"the TensorRT plugin library {folder / 'libserpent_trt.so'} does not exist"
    assert refusal.value.hint is not None
    assert "TENSORRT_ROOT" in refusal.value.hint
    with pytest.raises(NativeLibraryError, match=r"libserpent_trt_autoreg12\.so does not exist"):
        autoreg_library(12)


def test_without_a_native_library_the_message_is_its(folder: Path) -> None:
    (folder / "chosen.so").unlink()
    with pytest.raises(NativeLibraryError, match="SERPENT_LIBRARY is"):
        plugin_library()
