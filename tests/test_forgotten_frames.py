"""What failed keeps no array alive until the garbage collector comes by: a run in smaller tiles may need its memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serpent.errors import EngineError, SerpentError
from serpent.files import written_aside
from serpent.runtime import onnx_cuda, onnx_session, tensorrt_runner

IMAGE = np.zeros((1, 3, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("opened", "error"),
    [
        pytest.param(written_aside, OSError(28, "No space left on device"), id="a file"),
        pytest.param(lambda _: onnx_session._explained(IMAGE), RuntimeError("bad_alloc"), id="ONNX Runtime"),
        pytest.param(lambda _: onnx_cuda._explained("here"), RuntimeError("no memory"), id="ONNX Runtime, CUDA"),
        pytest.param(lambda _: tensorrt_runner._named("a.plan"), EngineError("no memory"), id="TensorRT"),
    ],
)
def test_an_error_that_is_replaced_keeps_nothing_alive(
    opened: Callable[[Path], AbstractContextManager[Any]], error: Exception, tmp_path: Path
) -> None:
    """From Python 3.12 on a generator of contextlib that raises another error would."""
    seen: list[weakref.ref[Any]] = []

    def fail() -> None:
        array = np.zeros(4)
        seen.append(weakref.ref(array))
        raise error

    gc.disable()
    try:
        with pytest.raises(SerpentError), opened(tmp_path / "a.png"):
            fail()
        assert seen[0]() is None
    finally:
        gc.enable()
