"""Where the tests of this folder run: on the GPU and, so that the tests themselves are tried everywhere, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from serpent import native
from serpent.runtime.cuda_device import Cuda, CudaDevice
from standin_device import HostDevice


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On the CPU one dtype is enough: there it is these tests that are tried, and others that try its kernel."""
    left_out = []
    for item in items:
        chosen = getattr(item, "callspec", None)
        given = chosen.params if chosen is not None and item.path.is_relative_to(Path(__file__).parent) else {}
        if given.get("device") == "cpu" and given.get("dtype", torch.bfloat16) not in (torch.bfloat16, "bf16"):
            left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.require("cuda"))])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each test once per device; on the CPU with sizes that take no time."""
    if request.param == "cuda":
        check_cuda(request.config)
    return torch.device(request.param)


@pytest.fixture
def gpu(pytestconfig: pytest.Config) -> torch.device:
    """For what only a GPU has; such a test carries ``require("cuda")`` itself."""
    check_cuda(pytestconfig)
    return torch.device("cuda")


@pytest.fixture(params=["host", pytest.param("cuda", marks=pytest.mark.require("cuda"))])
def machine(request: pytest.FixtureRequest) -> Any:
    """The device of a plan: host memory, or CUDA's through the real bindings."""
    if request.param == "host":
        return HostDevice()
    request.getfixturevalue("gpu")
    reason = "cuda.bindings is not installed; pip install 'cuda-python>=13.0'"
    modules = (pytest.importorskip(f"cuda.bindings.{part}", reason=reason) for part in ("runtime", "driver"))
    return CudaDevice(Cuda(*modules), 0)


def check_cuda(config: pytest.Config) -> None:
    """Skip, or fail under --require=cuda, where torch or the native library cannot use the GPU."""
    if not torch.cuda.is_available():
        reason = f"torch {torch.__version__} sees no GPU"
    elif not native.library().has_cuda:
        reason = f"{native.library().path} has no CUDA kernels; make gpu-check builds and uses one that has"
    else:
        return
    if "cuda" in config.getoption("--require").split(","):
        pytest.fail(f"--require=cuda: {reason}", pytrace=False)
    pytest.skip(f"needs cuda: {reason}")
