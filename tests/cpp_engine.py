"""Builds the C++ engine library with its stand-in adapter, and calls the C interface through ctypes."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import session
from cmake_build import REPOSITORY, CMakeBuild
from serpent.runtime.border import BORDERS

OK, INVALID_ARGUMENT, UNSUPPORTED, OUT_OF_MEMORY, INTERNAL, CUDA, MODEL_FILE, TENSORRT, BUSY = range(9)

PLANS = {
    "f32-nchw": b"serpent-standin 1\ninput image FLOAT 1 3 16 16 2 3 64 48\noutput restored FLOAT\n",
    "f16-nchw": b"serpent-standin 1\ninput image HALF 1 3 16 16 2 3 64 48\noutput restored HALF\n",
    "u8-nhwc": b"serpent-standin 1\ninput image UINT8 1 16 16 3 2 64 48 3\noutput restored UINT8\n",
}
"""What the stand-in runs, by io: B 1 to 2, H 16 to 64, W 16 to 48 (plugins/tests/engine/standin.h)."""

PLAN = PLANS["f32-nchw"]

PROFILE = {"batch": [1, 1, 2], "height": [16, 32, 64], "width": [16, 32, 48], "multiple": 8}


def manifest_fields(name: str, plan: bytes, io: str = "f32-nchw") -> dict[str, Any]:
    """A manifest of ``plan`` with the fields that serpent-export writes and the C++ runtime reads."""
    plugin = {"name": "SelectiveScan2D", "version": "1", "namespace": "serpent", "schema": 1}
    engine = {"flavour": "rtx", "version": "1.7.1.116", "targets": ["sm86", "sm89"], "plugin": plugin}
    return {
        "format": "serpent-manifest",
        "format_version": 1,
        "variant": "H",
        "task": "deblur",
        "precision": "fp32",
        "io": io,
        "weights": "untrained",
        "profile": PROFILE,
        "files": {name: {"kind": "plan", "sha256": hashlib.sha256(plan).hexdigest(), "engine": engine}},
    }


def write_plan(folder: Path, plan: bytes | None = None, io: str = "f32-nchw") -> Path:
    """A plan and its manifest, which belong together."""
    plan = PLANS[io] if plan is None else plan
    path = folder / "net.plan"
    path.write_bytes(plan)
    path.with_suffix(".json").write_text(json.dumps(manifest_fields(path.name, plan, io)))
    return path


def network(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the stand-in computes of (B, 3, H, W) float32, in the same order of operations."""
    half, quarter, eighth = np.float32(0.5), np.float32(0.25), np.float32(0.125)
    sums = image * half + image[:, :, ::-1] * quarter + image[..., ::-1] * quarter
    return sums + image[::-1] * eighth


class Options(ctypes.Structure):
    _fields_ = [
        ("tensorrt_library", ctypes.c_char_p),
        ("plugin_library", ctypes.c_char_p),
        ("device", ctypes.c_int32),
        ("contexts", ctypes.c_int32),
        ("when_busy", ctypes.c_int32),
        ("allow_native_code", ctypes.c_int32),
    ]


class Pictures(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("batch", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("io", ctypes.c_int32),
        ("memory", ctypes.c_int32),
    ]


class Error(ctypes.Structure):
    _fields_ = [("message", ctypes.c_char * 1024)]


class EngineError(Exception):
    """A call of the C interface failed: its status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


class Engine:
    """An open plan."""

    def __init__(self, library: Path, plan: Path, **options: Any) -> None:
        self._c = ctypes.CDLL(str(library))
        chosen = Options()
        self._c.serpent_engine_default_options(ctypes.byref(chosen))
        for name, value in options.items():
            setattr(chosen, name, os.fsencode(value) if isinstance(value, (str, Path)) else value)
        self._handle = ctypes.c_void_p()
        self._call("open", os.fsencode(plan), ctypes.byref(chosen), ctypes.byref(self._handle))

    def run(self, image: NDArray[Any]) -> NDArray[Any]:
        """An array of one of the types and layouts of ``BORDERS``, in host memory; the same back."""
        restored = np.empty_like(image)
        io, border = next((at, one) for at, one in enumerate(BORDERS.values()) if one.dtype == image.dtype)
        sides = image.shape[1:3] if border.channels_last else image.shape[2:]
        sizes = (image.shape[0], *sides, io, 0)
        source, target = Pictures(image.ctypes.data, *sizes), Pictures(restored.ctypes.data, *sizes)
        self._call("run", self._handle, ctypes.byref(source), ctypes.byref(target), None)
        return restored

    def close(self) -> None:
        self._c.serpent_engine_close(self._handle)

    def _call(self, name: str, *arguments: Any) -> None:
        error = Error()
        status = getattr(self._c, f"serpent_engine_{name}")(*arguments, ctypes.byref(error))
        if status != OK:
            raise EngineError(status, error.message.decode("utf-8", "replace"))


class Build(CMakeBuild):
    """The libraries, their adapters and their tests."""

    def __init__(self, folder: Path) -> None:
        options = ("-DSERPENT_CUDA=OFF", "-DSERPENT_TESTS=ON", "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON")
        super().__init__(folder, REPOSITORY, *options)

    @property
    def library(self) -> Path:
        self.target("serpent_engine")
        return self.folder / "plugins" / "libserpent_engine.so"

    @property
    def stand_in(self) -> Path:
        self.target("serpent_engine_standin")
        return self.folder / "plugins" / "libserpent_engine_standin.so"


def shared_build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The session's."""
    return Build(session.open_folder(tmp_path_factory) / "cpp_engine")
