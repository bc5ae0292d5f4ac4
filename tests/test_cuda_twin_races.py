"""Sanitizers on the CUDA kernels' host twin, and the proof that they would see a missing barrier."""

from __future__ import annotations

import pytest

from cuda_twin import BARRIERS, MANY_CHUNKS, Twin, shared_twin

pytestmark = pytest.mark.slow

# Several chunks of several steps, of which the last are shorter; two channel tiles; two pictures; blocks of several
# warps: what one thread hands to another, and one step to the next, happens in each.
BACKWARD = [
    ("backward", "shape=2,5,9,33,6,2", "chunk=24", "warps=1"),
    ("backward", "shape=1,5,9,33,11,4", "chunk=24"),
    ("backward", MANY_CHUNKS, "chunk=8"),
]
FORWARD = [
    ("forward", "shape=2,5,9,40,22,8", "chunk=20", "parts=4"),
    ("forward", MANY_CHUNKS, "chunk=8"),
]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Twin:
    return shared_twin(tmp_path_factory)


def commands(twin: Twin, *, backward_first: bool = False) -> list[tuple[str, ...]]:
    """Runs of every kernel and variant."""
    forward = [
        ("forward", f"variant={name}", f"shape=2,5,9,{channels_states_ranks}", "chunk=20")
        for name, channels_states_ranks in twin.variants()
    ]
    return [*BACKWARD, *FORWARD, *forward] if backward_first else [*FORWARD, *forward, *BACKWARD]


# For races bf16 is as f16: the same instructions read and write it, of the same width.
@pytest.mark.parametrize(
    ("program", "dtype"),
    [("thread", "f32"), ("thread", "f16"), ("address", "f32"), ("address", "f16"), ("address", "bf16")],
)
def test_sanitizers_find_nothing(twin: Twin, program: str, dtype: str) -> None:
    for words in commands(twin):
        result = twin.run(f"cuda_twin_{program}", *words, f"dtype={dtype}", "runs=1")
        assert result.returncode == 0, f"{program} {' '.join(words)}\n{result.stdout}{result.stderr}"


@pytest.mark.parametrize("name", BARRIERS)
def test_a_missing_barrier_is_noticed(twin: Twin, name: str) -> None:
    """Without it one of the runs that the intact program passes has a race, a wrong result or a wild pointer."""
    program = f"cuda_twin_without_{name}"
    for words in commands(twin, backward_first=BARRIERS[name].startswith("backward")):
        result = twin.run(program, *words, "runs=1")
        if result.returncode != 0:
            race = result.returncode == 66 and "WARNING: ThreadSanitizer: data race" in result.stderr
            wrong = result.returncode == 1 and "WRONG" in result.stdout
            fault = result.returncode == 2 and "failure 4: block" in result.stdout
            assert race or wrong or fault, f"{program} {' '.join(words)}\n{result.stdout}{result.stderr}"
            return
    pytest.fail(f"nothing is noticed without the barrier {name} of {BARRIERS[name]}: is it needed?")
