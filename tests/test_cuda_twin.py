"""The CUDA kernels on CPU threads, against the f64 oracle: every thread a real one, blocks in shuffled order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cuda_twin import MANY_CHUNKS, Twin, shared_twin
from scan_cases import NAMES, Arguments
from serpent.scan import selective_scan_2d_reference

PASSES = ("forward", "backward")
DTYPES = ("f32", "f16", "bf16")

# B, H, W, D, N, R. Chunks are of 8 tokens here: 15, 16 and 17 tokens are just under, at and just over two of them.
SHAPES = {
    "one-pixel": "1,1,1,5,3,2",
    "one-row": "1,1,19,33,6,2",
    "one-column": "1,19,1,31,6,2",
    "15-tokens": "1,3,5,32,6,2",
    "16-tokens": "1,4,4,32,6,2",
    "17-tokens": "1,17,1,32,6,2",
    "two-pictures": "2,3,3,33,6,2",
    "one-channel": "1,3,7,1,6,2",
    "65-channels": "1,3,3,65,6,2",
    "70-channels": "1,3,3,70,7,3",
    "one-state": "1,3,7,17,1,1",
    "64-states": "1,1,5,9,64,5",
    "rank-64": "1,3,4,9,5,64",
    "64-states-rank-64": "1,1,3,3,64,64",
    "network-c64": "1,3,3,40,11,4",
    "network-c128": "1,3,3,8,22,8",
    "network-c256": "1,3,3,8,43,16",
}
# An element's type matters where it is loaded and stored: the backward pass, slow here, needs few shapes for that.
ANY_TYPE = ("one-pixel", "one-row", "two-pictures", "70-channels")
CASES = [
    pytest.param(which, shape, dtype, id=f"{which}-{name}-{dtype}")
    for which in PASSES
    for name, shape in SHAPES.items()
    for dtype in DTYPES
    if which == "forward" or dtype == "f32" or name in ANY_TYPE
]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Twin:
    return shared_twin(tmp_path_factory)


def check(twin: Twin, *words: str) -> None:
    """Runs the program, which compares with the oracle and requires equal bits of two orders of blocks."""
    result = twin.run("cuda_twin", *words)
    assert result.returncode == 0, f"cuda_twin {' '.join(words)}\n{result.stdout}{result.stderr}"


@pytest.mark.parametrize(("which", "shape", "dtype"), CASES)
def test_error_against_the_oracle(twin: Twin, which: str, shape: str, dtype: str) -> None:
    check(twin, which, f"shape={shape}", f"dtype={dtype}", "chunk=8")


@pytest.mark.parametrize("which", PASSES)
def test_the_entry_points_of_the_library(twin: Twin, which: str) -> None:
    # Without a tuning the program calls what the C interface calls, on a workspace of the size that it states.
    check(twin, which, "shape=2,3,3,33,6,2")


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_variant(twin: Twin, dtype: str) -> None:
    for name, channels_states_ranks in twin.variants():
        shape = f"shape=1,3,4,{channels_states_ranks}"
        check(twin, "forward", f"variant={name}", shape, f"dtype={dtype}", "chunk=8", "runs=1")


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_every_number_of_parts(twin: Twin, parts: int) -> None:
    for shape in ("2,3,7,40,6,2", "1,3,7,33,22,8"):
        check(twin, "forward", f"shape={shape}", f"parts={parts}", "chunk=16")


@pytest.mark.parametrize("warps", [1, 3, 100])
def test_every_split_of_the_channels(twin: Twin, warps: int) -> None:
    check(twin, "backward", "shape=1,3,3,97,6,2", f"warps={warps}", "chunk=8")


@pytest.mark.parametrize(
    ("which", "chunk"),
    [*(("forward", chunk) for chunk in (1, 2, 5, 16, 64)), *(("backward", chunk) for chunk in (8, 16, 24, 64))],
)
def test_every_length_of_chunks(twin: Twin, which: str, chunk: int) -> None:
    check(twin, which, "shape=1,5,7,5,6,2", f"chunk={chunk}")


@pytest.mark.parametrize("which", PASSES)
def test_many_chunks(twin: Twin, which: str) -> None:
    check(twin, which, MANY_CHUNKS, "chunk=8", "runs=1")


def test_an_unknown_variant_is_refused_by_name(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERPENT_CUDA_VARIANT", "fastest")
    result = twin.run("cuda_twin", "forward")
    assert result.returncode == 2
    assert "'fastest' is no CUDA variant" in result.stdout
    assert all(name in result.stdout for name, _ in twin.variants())


@pytest.mark.parametrize("which", PASSES)
def test_error_of_slow_decay(twin: Twin, which: str) -> None:
    check(twin, which, "shape=1,16,16,3,6,2", "data=slow-decay", "runs=1")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [32, 33])
@pytest.mark.parametrize("which", PASSES)
def test_pointers_are_aligned_to_their_element_only(twin: Twin, which: str, channels: int, dtype: str) -> None:
    check(twin, which, f"shape=1,3,3,{channels},6,2", f"dtype={dtype}", "chunk=8", "offset=1")


# Two pictures of 3 x 4 pixels, 5 channels, 3 states, rank 2: x has rows of 5, x_dbl rows of 4 * (2 + 2 * 3) = 32.
# Pixel 5 of picture 0, channel 3; dt, B and C of direction 1.
PLACES = {"x": 5 * 5 + 3, "grad_y": 5 * 5 + 3}
COLUMNS = {"dt": 8, "B": 8 + 2 + 1, "C": 8 + 2 + 3 + 1}
SPOILT = {name: f"{name}:{index}" for name, index in PLACES.items()} | {
    name: f"x_dbl:{5 * 32 + column}" for name, column in COLUMNS.items()
}


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize(
    ("which", "place"),
    [(which, place) for which in PASSES for place in SPOILT if (which, place) != ("forward", "grad_y")],
)
def test_a_number_that_is_not_finite_stays_where_the_oracle_has_it(
    twin: Twin, which: str, place: str, value: str
) -> None:
    check(twin, which, "shape=2,3,4,5,3,2", "chunk=4", f"spoil={SPOILT[place]}:{value}")


@pytest.mark.parametrize(
    ("shape", "data"),
    [((2, 3, 5, 4, 3, 2), "usual"), ((1, 1, 1, 2, 1, 1), "usual"), ((1, 4, 3, 3, 5, 2), "slow-decay")],
)
def test_the_oracle_of_the_program_is_the_reference(
    twin: Twin, tmp_path: Path, shape: tuple[int, ...], data: str
) -> None:
    sizes = ",".join(map(str, shape))
    assert twin.run("cuda_twin", "oracle", f"shape={sizes}", f"data={data}", f"dump={tmp_path}").returncode == 0
    batch, height, width, channels, states, rank = shape
    shapes = {
        "x": (batch, height, width, channels),
        "x_dbl": (batch, height, width, 4 * (rank + 2 * states)),
        "dt_weight": (4, channels, rank),
        "dt_bias": (4, channels),
        "A": (4, channels, states),
        "D_skip": (4, channels),
    }

    def read(name: str, like: str) -> torch.Tensor:
        return torch.from_numpy(np.fromfile(tmp_path / f"{name}.f64").reshape(shapes[like]))

    inputs: Arguments = tuple(read(name, name).requires_grad_() for name in NAMES)  # type: ignore[assignment]
    y = selective_scan_2d_reference(*inputs)
    y.backward(read("grad_y", "x"))  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(read("y", "x"), y.detach(), rtol=1e-12, atol=1e-13)
    for name, tensor in zip(NAMES, inputs, strict=True):
        scale = float(tensor.grad.abs().max())  # type: ignore[union-attr]
        np.testing.assert_allclose(read(f"grad_{name}", name), tensor.grad, rtol=1e-11, atol=1e-13 * scale)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("leave-before-a-barrier", "threads wait for each other: thread 0 waits at after_one_left, thread 5 has left"),
        ("meet-at-two-barriers", "threads meet at different barriers, "),
        ("shuffle-with-half-a-warp", "thread 0 waits at a shuffle, thread 1 waits at after_half_a_warp"),
        ("shuffle-differently", "lanes of one warp take part in different shuffles"),
        ("shuffle-beyond-the-warp", "a shuffle with mask 32; expected 0 .. 31"),
        ("copy-unaligned", "copy_async of a pointer that is not aligned to 16 bytes"),
        ("too-many-blocks", "grid.y is 65536; expected 1 .. 65535"),
        ("part-of-a-warp", "threads modulo 32 is 16; expected 0 .. 0"),
        ("too-much-shared-memory", "shared_bytes is 49153; expected 0 .. 49152"),
    ],
)
def test_what_no_kernel_may_do_is_an_error(twin: Twin, name: str, expected: str) -> None:
    result = twin.run("cuda_twin", "misuse", name)
    assert result.returncode == 2
    assert expected in result.stdout
