"""Checkpoints: what is written comes back bit for bit; everything else is refused with the reason."""

from __future__ import annotations

import dataclasses
import functools
import json
import pickle
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from serpent.errors import CheckpointError, SerpentError
from serpent.model import Serpent, create_model, load_model, read_metadata, save_model, set_precision, weights_digest
from serpent.train.networks import save_network

SMALL: dict[str, Any] = {"embed_dim": 8, "num_scales": 1, "depth": 1}


def small(seed: int = 0) -> Serpent:
    return create_model("L", seed=seed, **SMALL)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(small(), path)
    return path


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], object], metadata: dict[str, str] | None = None) -> None:
    """Change the tensors (and perhaps the metadata) of a checkpoint behind our back."""
    with safe_open(path, framework="pt") as file:
        kept = file.metadata()
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={**kept, **(metadata or {})})


def refusal_of(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as refusal:
        load_model(path)
    return refusal.value


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "overrides",
    [{}, {"up_order": "post", "mlp_ratio": 0}, {"skip": "add", "d_state": 5, "global_residual": False}],
    ids=["usual", "K2", "other-fields"],
)
def test_a_network_comes_back_bit_for_bit(overrides: dict[str, Any], tmp_path: Path) -> None:
    model = create_model("L", seed=0, **{**SMALL, **overrides})
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(str(tmp_path / "m.safetensors"))
    assert loaded.config == model.config
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_equal_weights_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_model(small(), tmp_path / name / "m.safetensors", extra={"licence": "none", "data": '\u00e9\n"x"'})
        extra = dict.fromkeys("12345", "")  # in 8! orders, with its own three
        save_network(
            torch.nn.ReLU(), tmp_path / name / "n.safetensors", spec="mine:network", task="deblur", extra=extra
        )
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("precision", ["fp64", "fp16", "bf16"])
def test_other_precisions_are_stored_in_f32(precision: str, tmp_path: Path) -> None:
    model = set_precision(small(), precision)
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    assert weights_digest(loaded) == weights_digest(model)


def test_metadata_says_what_the_weights_are(tmp_path: Path) -> None:
    model = small()
    path = tmp_path / "m.safetensors"
    save_model(model, path, task="denoise", extra={"licence": "CC0-1.0", "task": "ignored", "format": "ignored"})
    metadata = read_metadata(path)
    assert json.loads(metadata.pop("config")) == model.config.to_dict()
    assert metadata == {
        "format": "serpent-checkpoint-v1",
        "task": "denoise",
        "weights_digest": weights_digest(model),
        "licence": "CC0-1.0",
    }


def test_the_digest_sees_names_shapes_and_values() -> None:
    model, other = small(), small()
    assert weights_digest(model) == weights_digest(other)
    with torch.no_grad():
        other.head.bias[0] = torch.nextafter(other.head.bias[0], torch.tensor(9.0))
    assert weights_digest(other) != weights_digest(model)
    states = [{"a": torch.zeros(2, 3)}, {"b": torch.zeros(2, 3)}, {"a": torch.zeros(3, 2)}, {"a": torch.ones(2, 3)}]
    networks: list[Any] = [
        SimpleNamespace(config=model.config, state_dict=lambda state=state: state) for state in states
    ]
    assert len({weights_digest(network) for network in networks}) == 4


def test_the_digest_sees_the_configuration_but_not_its_label() -> None:
    model = small()
    digest = weights_digest(model)
    model.config = dataclasses.replace(model.config, variant="another label")
    assert weights_digest(model) == digest
    model.config = dataclasses.replace(model.config, global_residual=not model.config.global_residual)
    assert weights_digest(model) != digest


def test_every_key_that_does_not_fit_is_named(saved: Path) -> None:
    def change(state: dict[str, Tensor]) -> None:
        del state["head.bias"], state["embed.weight"]
        state["down.9.weight"] = torch.zeros(1)
        state["head_norm.weight"] = torch.zeros(4)
        state["head_norm.bias"] = state["head_norm.bias"].half()

    rewrite(saved, change)
    assert refusal_of(saved).message.splitlines() == [
        f"{saved} does not fit its own configuration (5 keys):",
        "  missing: embed.weight",
        "  missing: head.bias",
        "  unexpected: down.9.weight",
        "  wrong dtype: head_norm.bias is torch.float16, expected torch.float32",
        "  wrong shape: head_norm.weight is (4,), expected (8,)",
    ]


def test_weights_that_were_changed_do_not_match_their_digest(saved: Path) -> None:
    rewrite(saved, lambda state: state["head.bias"].add_(1e-3))
    assert refusal_of(saved).message == (
        f"{saved}: the weights do not match the digest in its metadata; the file was changed"
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("no json", "has an unusable configuration: Expecting value"),
        ("null", "has an unusable configuration: "),
        ("{}", "has an unusable configuration: the configuration lacks the field patch_size"),
        ('{"patch_size": 0}', "has an unusable configuration: SerpentConfig.patch_size is 0"),
        ('{"patch_size": 1, "magic": 2}', "has an unusable configuration: unknown configuration field magic"),
    ],
)
def test_an_unusable_configuration_is_named(saved: Path, config: str, message: str) -> None:
    rewrite(saved, dict, {"config": config})  # dict() leaves its argument as it is
    assert refusal_of(saved).message.startswith(f"{saved} {message}")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.safetensors"
    assert refusal_of(path).message == f"the checkpoint {path} does not exist"


def test_a_file_that_may_not_be_read_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    assert refusal_of(saved).message == f"{saved} cannot be read: Permission denied"


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 100, "header", "half", "almost"])
def test_a_truncated_file_is_refused(saved: Path, kept: int | str) -> None:
    whole = saved.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    named = {"header": header, "half": (header + len(whole)) // 2, "almost": len(whole) - 1}
    saved.write_bytes(whole[: named[kept] if isinstance(kept, str) else kept])
    assert refusal_of(saved).message.startswith(f"{saved} is truncated or no safetensors file: ")


def plain_pickle(protocol: int, value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol))


class Bomb:
    """Pickled, it writes a file when it is opened."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.witness,))


PICKLERS: dict[str, Callable[[Any, Path], object]] = {
    "torch-zip": torch.save,
    "torch-legacy": functools.partial(torch.save, _use_new_zipfile_serialization=False),
    **{f"protocol-{number}": functools.partial(plain_pickle, number) for number in range(2, 6)},
}


@pytest.mark.parametrize("kind", PICKLERS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_pickle_is_refused_unopened(kind: str, suffix: str, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    path = tmp_path / f"weights{suffix}"
    PICKLERS[kind]({"head.bias": torch.zeros(3), "bomb": Bomb(witness)}, path)
    refusal = refusal_of(path)
    assert f"{path} is a pickle" in refusal.message
    assert refusal.hint is not None
    assert "serpent.save_model" in refusal.hint
    assert not witness.exists()


@pytest.mark.parametrize("length", [0x4B50, 0x10280], ids=["zip", "pickle"])
def test_a_header_length_that_looks_like_a_pickle_is_none(length: int, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(small(), path, extra={"note": ""})
    (header,) = struct.unpack("<Q", path.read_bytes()[:8])
    save_model(small(), path, extra={"note": "n" * (length - header)})
    assert struct.unpack("<Q", path.read_bytes()[:8]) == (length,)
    assert path.read_bytes()[:2] in (b"PK", b"\x80\x02")
    assert weights_digest(load_model(path)) == weights_digest(small())


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "serpent-checkpoint-v2"}])
def test_a_foreign_safetensors_file_is_refused(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    found = metadata["format"] if metadata else None
    assert f"no Serpent checkpoint: its metadata has format {found!r}, expected 'serpent-checkpoint-v1'" in str(
        refusal_of(path)
    )
    with pytest.raises(CheckpointError, match="no Serpent checkpoint"):
        read_metadata(path)


def test_weights_of_another_network_are_called_so(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    save_network(torch.nn.Conv2d(3, 3, 1), path, spec="mine:network", task="deblur", extra={})
    assert str(refusal_of(path)).startswith(f"{path} holds the network mine:network, which is no Serpent")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture.safetensors"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert "is truncated or no safetensors file" in refusal_of(path).message


def test_saving_replaces_and_leaves_nothing_beside(saved: Path) -> None:
    save_model(small(seed=1), saved)
    assert weights_digest(load_model(saved)) == weights_digest(small(seed=1))
    assert list(saved.parent.iterdir()) == [saved]
    assert stat.S_IMODE(saved.stat().st_mode) & 0o600 == 0o600


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
def test_a_failed_save_leaves_what_was_there(
    error: BaseException, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, _: bytes) -> None:
        path.write_text("half of it")
        raise error

    before = contents(saved.parent)
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises((SerpentError, KeyboardInterrupt)):
        save_model(small(seed=1), saved)
    assert contents(saved.parent) == before


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files with setrlimit")
def test_a_real_limit_of_the_file_system_is_reported(tmp_path: Path) -> None:
    program = """
import resource, signal, sys, serpent
model = serpent.create_model("L", seed=0, embed_dim=8, num_scales=1, depth=1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    serpent.save_model(model, sys.argv[1])
except serpent.SerpentError as error:
    print(error.message)
"""
    target = tmp_path / "out" / "m.safetensors"
    target.parent.mkdir()
    done = subprocess.run([sys.executable, "-c", program, target], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.startswith(f"cannot write {target}: ")
    assert list(target.parent.iterdir()) == []


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SerpentError, match=r"cannot write into .*nowhere: No such file or directory"):
        save_model(small(), tmp_path / "nowhere" / "m.safetensors")
