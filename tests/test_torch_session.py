"""A checkpoint through PyTorch: the same numbers as the model itself, at any size."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import serpent
from serpent import native
from serpent.errors import CheckpointError, MissingExtraError, SerpentError, UsageError
from serpent.model import set_precision
from serpent.runtime import open_session
from serpent.runtime.torch_session import TorchSession, thread_budget
from serpent_cli.main import run_infer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights: 2 scales of 8 channels, patches of 2, so multiples of 8 pixels."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    model = serpent.create_model("L", embed_dim=8, num_scales=2, depth=1)
    serpent.save_model(model, path, task="denoise")
    return path


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def test_info_says_what_runs(checkpoint: Path) -> None:
    session = open_session(checkpoint)
    info = session.info
    assert isinstance(session, TorchSession)
    assert (info.backend, info.task, info.precision, info.scan) == ("torch", "denoise", "fp32", "native")
    assert info.device == ("cuda:0" if torch.cuda.is_available() and native.library().has_cuda else "cpu")
    assert len(info.weights) == 64
    assert (info.profile.height.min, info.profile.height.max, info.profile.batch.max) == (8, None, None)


def test_without_cuda_kernels_auto_is_the_cpu_and_says_so(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(native.Library, "has_cuda", False)
    with open_session(checkpoint) as session:
        assert session.info.device == "cpu"
        (note,) = session.info.notes
        assert note.startswith("runs on the CPU, not on cuda:0: ")
        assert note.endswith(" was built without CUDA kernels; reinstall it where nvcc is found")
        assert session(picture(16, 24, 3)).shape == (16, 24, 3)
    placed: list[object] = []
    monkeypatch.setattr(torch.nn.Module, "to", lambda network, place: placed.append(place) or network)
    assert open_session(checkpoint, "cuda").info.notes == ()  # what was asked for by name is no matter of choice
    monkeypatch.setattr(native.Library, "has_cuda", True)
    assert open_session(checkpoint).info.notes == ()
    assert placed == [torch.device("cuda:0")] * 2


def test_one_run_is_the_model_and_a_session_adds_padding_and_clipping(checkpoint: Path) -> None:
    model = serpent.load_model(checkpoint)
    image = picture(2, 24, 32, 3)
    with torch.inference_mode():
        expected = model(torch.from_numpy(image).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    with open_session(checkpoint, "cpu") as session:
        # Not bit for bit: PyTorch's convolutions sum in another order for another memory layout.
        np.testing.assert_allclose(session(image), expected.clip(0, 1), atol=1e-5)
        inner = session(image[:, :21, :27])
    assert inner.shape == (2, 21, 27, 3)
    assert np.isfinite(inner).all()
    assert np.abs(expected - image).max() > 1e-3  # else the comparison above says nothing


def test_a_large_picture_goes_through_whole(checkpoint: Path) -> None:
    steps: list[tuple[int, int]] = []
    with open_session(checkpoint, "cpu") as session:
        assert session(picture(200, 136, 3), on_tile=lambda *step: steps.append(step)).shape == (200, 136, 3)
    assert steps == [(1, 1)]


def test_threads_are_the_session_s_own(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    with open_session(checkpoint, "cpu", threads=before + 1) as session:
        forward = serpent.model.Serpent.forward

        def spy(model: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return forward(model, image)

        monkeypatch.setattr(serpent.model.Serpent, "forward", spy)
        session(picture(8, 8, 3))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:0", "CUDA", "cuda:"])
def test_an_unknown_device_is_refused(checkpoint: Path, device: str) -> None:
    with pytest.raises(UsageError, match=f"unknown device '{device}'"):
        open_session(checkpoint, device)


def test_a_device_that_is_not_there_is_refused(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="cuda:99 is not there"):
        open_session(checkpoint, "cuda:99")


def test_a_closed_session_says_so(checkpoint: Path) -> None:
    with open_session(checkpoint, "cpu") as session:
        pass
    with pytest.raises(SerpentError, match="closed"):
        session(picture(8, 8, 3))


def allocate_too_much() -> torch.Tensor:
    return torch.empty(1 << 60, dtype=torch.uint8)


def fail_as_onednn() -> torch.Tensor:
    raise RuntimeError("could not create a primitive")


@pytest.mark.parametrize("failure", [allocate_too_much, fail_as_onednn])
def test_running_out_of_memory_is_an_error_with_advice(
    failure: Callable[[], torch.Tensor], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> torch.Tensor:
        return failure()

    monkeypatch.setattr(serpent.model.Serpent, "forward", exhausted)
    with open_session(checkpoint, "cpu") as session, pytest.raises(SerpentError, match="16x8 pixels exceed") as caught:
        session(picture(8, 16, 3))
    assert "tiles" in str(caught.value.hint)


def test_other_errors_of_the_network_stay_what_they_are(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("a bug")

    monkeypatch.setattr(serpent.model.Serpent, "forward", broken)
    with open_session(checkpoint, "cpu") as session, pytest.raises(RuntimeError, match="a bug"):
        session(picture(8, 8, 3))


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x80\x02}q", b"\xff" * 64], ids=["empty", "zip", "pickle", "noise"]
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.safetensors"):
        open_session(tmp_path / "a.safetensors")


def test_a_truncated_checkpoint_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    whole = checkpoint.read_bytes()
    for length in (4, 100, len(whole) - 1):
        (tmp_path / "a.safetensors").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="truncated"):
            open_session(tmp_path / "a.safetensors")


def test_without_torch_the_extra_is_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="needs torch, which is not installed") as caught:
        open_session(checkpoint)
    assert caught.value.hint == "pip install 'serpent-restoration[torch]'"


def test_the_command_restores_a_photograph(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "photo.png"
    levels = (picture(30, 41, 3) * 255).astype(np.uint8)
    Image.fromarray(levels).save(photo)
    monkeypatch.setattr(sys, "argv", ["serpent-infer", str(checkpoint), str(photo), "--device", "cpu", "--json"])
    with pytest.raises(SystemExit) as leaving:
        run_infer()
    assert not leaving.value.code
    report = json.loads(capsys.readouterr().out)
    assert (report["backend"], report["width"], report["height"]) == ("torch", 41, 30)
    with open_session(checkpoint, "cpu") as session:
        expected = session(levels.astype(np.float32) / 255)
    written = np.asarray(Image.open(report["output"])).astype(np.float32) / 255
    np.testing.assert_allclose(written, expected, atol=0.5 / 255 + 1e-4)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_another_precision_is_the_network_in_that_precision(checkpoint: Path, precision: Any) -> None:
    image = picture(48, 64, 3)
    model = set_precision(serpent.load_model(checkpoint).eval(), precision)
    with torch.inference_mode():
        expected = model(torch.from_numpy(image.transpose(2, 0, 1)[None].copy())).float().clip(0, 1)
    with open_session(checkpoint) as whole, open_session(checkpoint, precision=precision) as half:
        assert half.info.precision == precision
        exact, rounded = whole(image), half(image)
    np.testing.assert_array_equal(rounded, expected.numpy()[0].transpose(1, 2, 0))
    assert not np.array_equal(rounded, exact)


def test_thread_counts_of_runs_at_once_leave_the_processs_as_it_was() -> None:
    before, first_left = torch.get_num_threads(), threading.Event()
    both = threading.Barrier(2, timeout=30)

    def first() -> None:
        with thread_budget(before + 1):
            both.wait()
            both.wait()
        first_left.set()

    def second() -> None:
        both.wait()
        with thread_budget(before + 1):
            both.wait()
            assert first_left.wait(30)

    threads = [threading.Thread(target=each) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ThreadPoolExecutor(1) as fresh:
        assert fresh.submit(torch.get_num_threads).result() == before
