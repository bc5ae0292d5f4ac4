"""The backend follows from the file's suffix; what does not fit is refused before anything heavy is imported."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import serpent.runtime
from serpent.errors import ArgumentError, MissingExtraError, ModelFileError, SerpentError, UsageError
from serpent.extras import is_installed, require
from serpent.pictures import Encoding
from serpent.runtime import Session, open_session, restore
from tests.fakes import FakeSession

BACKENDS = {
    ".safetensors": ("serpent.runtime.torch_session", "TorchSession"),
    ".onnx": ("serpent.runtime.onnx_session", "OnnxSession"),
    ".plan": ("serpent.runtime.tensorrt_session", "TensorRTSession"),
}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Replace all backends; the list collects (class name, arguments, keyword arguments)."""
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    for module_name, class_name in BACKENDS.values():

        def make(*arguments: Any, _name: str = class_name, **named: Any) -> Session:
            calls.append((_name, arguments, named))
            return FakeSession(arguments[0])

        module = ModuleType(module_name)
        setattr(module, class_name, make)
        monkeypatch.setitem(sys.modules, module_name, module)
    return calls


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.safetensors", {}, ("TorchSession", "auto", {"threads": None, "precision": None})),
        (
            "a.safetensors",
            {"device": "cuda:1", "threads": 2, "precision": "bf16"},
            ("TorchSession", "cuda:1", {"threads": 2, "precision": "bf16"}),
        ),
        ("a.onnx", {}, ("OnnxSession", "auto", {"scan": None, "threads": None})),
        ("A.ONNX", {"scan": "function", "threads": 1}, ("OnnxSession", "auto", {"scan": "function", "threads": 1})),
        ("a.plan", {"device": "cuda:0"}, ("TensorRTSession", "cuda:0", {})),
    ],
)
def test_the_suffix_chooses_the_backend(
    tmp_path: Path, opened: list[Any], name: str, options: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    path = tmp_path / name
    path.write_bytes(b"model")
    open_session(str(path), **options)
    assert opened == [(expected[0], (path, expected[1]), expected[2])]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
def test_a_pickle_is_refused_unopened(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UsageError, match="pickled checkpoint.*refused") as caught:
        open_session(tmp_path / f"a{suffix}")
    assert ".safetensors" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.xyz", {}, r"a\.xyz is no model file; expected .safetensors .* .onnx .* .plan"),
        ("a.json", {}, r"no model file[^\0]*a\.onnx"),
        ("a.plan", {"scan": "native"}, "scan 'native' was asked for .*only .onnx"),
        ("a.safetensors", {"scan": "function"}, "only .onnx"),
        ("a.onnx", {"scan": "fast"}, "unknown scan 'fast'; expected one of native, function"),
        ("a.plan", {"threads": 2}, "threads 2 was asked for"),
        ("a.onnx", {"threads": 0}, "threads is 0"),
        ("a.onnx", {"precision": "fp16"}, "an exported file has its own"),
        ("a.safetensors", {"precision": "int8"}, "unknown precision 'int8'; expected one of fp32, fp16, bf16"),
    ],
)
def test_what_a_backend_cannot_do_is_refused(
    tmp_path: Path, opened: list[Any], name: str, options: dict[str, Any], message: str
) -> None:
    (tmp_path / name).write_bytes(b"model")
    with pytest.raises(UsageError, match=message):
        open_session(tmp_path / name, **options)
    assert opened == []


def test_a_missing_model_is_named_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist") as caught:
        open_session(tmp_path / "absent.onnx")
    assert "serpent-export" in str(caught.value.hint)
    (tmp_path / "folder.plan").mkdir()
    with pytest.raises(ModelFileError, match="is a folder"):
        open_session(tmp_path / "folder.plan")


def test_the_lazy_names_are_all_there_even_after_their_modules_were_imported() -> None:
    importlib.import_module("serpent.runtime.open")
    importlib.import_module("serpent.runtime.restoration")
    for name in serpent.runtime.__all__:
        assert callable(getattr(serpent.runtime, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        serpent.runtime.nonsense  # noqa: B018


LEVELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
UNIT = LEVELS.astype(np.float32) / 255


def test_restores_arrays_of_both_kinds_and_files_alike(tmp_path: Path) -> None:
    Image.fromarray(LEVELS).save(tmp_path / "a.png")
    for picture in (LEVELS, UNIT, tmp_path / "a.png", str(tmp_path / "a.png")):
        restored = restore(picture, FakeSession())
        assert restored.dtype == np.float32
        np.testing.assert_allclose(restored, 1 - UNIT, atol=1e-6)


def test_restore_writes_its_output_and_closes_the_session_it_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = FakeSession()
    monkeypatch.setattr("serpent.runtime.restoration.open_session", lambda *_, **__: session)
    restore(LEVELS, "a.onnx", output=tmp_path / "out.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), 255 - LEVELS)
    assert session.closed
    with pytest.raises(UsageError, match="exists already"):
        restore(LEVELS, "a.onnx", output=tmp_path / "out.png")


def test_restore_leaves_a_given_session_open_and_refuses_its_options() -> None:
    session = FakeSession()
    restore(LEVELS, session)
    assert not session.closed
    with pytest.raises(UsageError, match="belong to the session"):
        restore(LEVELS, session, threads=2)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (UNIT * 255, r"picture spans \[0, 255\]"),
        (UNIT * np.float32(np.nan), "spans"),
        (UNIT.astype(np.float64), r"float64\(20, 30, 3\)"),
        (LEVELS[..., 0], r"uint8\(20, 30\)"),
        (LEVELS[:0], "no pixel"),
    ],
)
def test_restore_refuses_arrays_it_would_have_to_guess_about(picture: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        restore(picture, FakeSession())


def test_restore_refuses_what_it_would_ignore(tmp_path: Path) -> None:
    session = FakeSession()
    with pytest.raises(UsageError, match="encoding says how output is written, and there is no output"):
        restore(LEVELS, session, encoding=Encoding(depth=16))
    with pytest.raises(UsageError, match="tile is 'none'; expected 'auto', 'off' or a number"):
        restore(LEVELS, session, tile="none")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="JPEG has no depth of 16 bits"):
        restore(LEVELS, session, output=tmp_path / "a.jpg", encoding=Encoding(depth=16))
    assert session.shapes == []


def test_restore_warns_of_what_is_not_kept(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([LEVELS, LEVELS[..., :1]])).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="JPEG cannot keep transparency"):
        restore(tmp_path / "a.png", FakeSession(), output=tmp_path / "a.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restore(LEVELS, FakeSession())


def test_require_names_the_extra_of_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match="running an .onnx file needs onnxruntime, which is not") as caught:
        require("onnxruntime", "onnx", "running an .onnx file")
    assert caught.value.hint == "pip install 'serpent-restoration[onnx]'"
    assert require("json", "torch", "this test").__name__ == "json"


def test_require_tells_what_is_broken_from_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_backend.py").write_text("import a_module_that_is_absent")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SerpentError, match="installed but does not load: No module named 'a_module") as caught:
        require("broken_backend", "rtx", "a test")
    assert not isinstance(caught.value, MissingExtraError)
    assert caught.value.hint == "pip install 'serpent-restoration[rtx]' --force-reinstall"


def test_looking_for_a_module_does_not_fail_on_an_absent_parent() -> None:
    assert is_installed("json")
    assert not is_installed("no_such_parent.no_such_child")
