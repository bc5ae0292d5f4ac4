"""The PTX that nvcc made of the CUDA kernels, on CPU threads, against the f64 oracle (plugins/tests/ptx).

The host twin (test_cuda_twin.py) runs the kernels' source; this is what a GPU is given: the archive of kernels as it is
linked into every library, its launches and its PTX, with inline PTX, asynchronous copies and approximate exp2 and
reciprocal, whose errors are as large as PTX permits. `make test-cuda-build` runs it on the build for all architectures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cmake_build import REPOSITORY, CMakeBuild, run
from cuda_build import finished_build
from ptx_to_cpp import UnknownError, translate

DTYPES = ("f32", "f16", "bf16")


def made(build: CMakeBuild, target: str) -> Path:
    """A program of plugins/tests/ptx, brought up to date."""
    if not build.has_target(target):
        pytest.skip(f"{target} is not built: cuobjdump is missing, or TensorRT's headers for the plugin's harness")
    build.target(target)
    return build.folder / "plugins" / "tests" / "ptx" / target


@pytest.fixture(scope="module")
def newest(pytestconfig: pytest.Config) -> CMakeBuild:
    """The build; its PTX is for GPUs after the newest."""
    return CMakeBuild(finished_build(pytestconfig).folder)


@pytest.fixture(scope="module")
def oldest(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> CMakeBuild:
    """A build of PTX for the oldest GPUs, which copy and round bf16 in another way."""
    architecture = finished_build(pytestconfig).architectures[0].partition("-")[0]
    return CMakeBuild(
        tmp_path_factory.mktemp("oldest"),
        REPOSITORY,
        "-DSERPENT_CUDA=ON",
        f"-DCMAKE_CUDA_ARCHITECTURES={architecture}-virtual",
        f"-DPython3_EXECUTABLE={sys.executable}",
    )


@pytest.fixture(scope="module")
def program(newest: CMakeBuild) -> Path:
    return made(newest, "cuda_ptx")


@pytest.fixture(scope="module", params=["newest", "oldest"])
def either(request: pytest.FixtureRequest) -> Path:
    return made(request.getfixturevalue(request.param), "cuda_ptx")


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_variant(either: Path, dtype: str) -> None:
    variants = [line.split() for line in run(either, "variants").splitlines()]
    assert len(variants) > 1
    for place, (name, states, ranks, tile) in enumerate(variants, start=DTYPES.index(dtype)):
        channels = (int(tile) + 1, 2 * int(tile))[place % 2]  # copied one by one, or as vectors; two tiles
        shape = f"shape=1,3,4,{channels},{states},{ranks}"
        run(either, "forward", f"variant={name}", shape, f"dtype={dtype}", "chunk=8", "runs=1")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ["1,1,1,5,3,2", "1,1,19,33,6,2", "1,3,3,70,7,3", "1,1,3,9,64,5"])
def test_gradients(either: Path, shape: str, dtype: str) -> None:
    run(either, "backward", f"shape={shape}", f"dtype={dtype}", "chunk=8")


@pytest.mark.parametrize("which", ["forward", "backward"])
def test_the_entry_points_of_the_library(program: Path, which: str) -> None:
    run(program, which, "shape=2,3,3,33,6,2")


@pytest.mark.parametrize("which", ["forward", "backward"])
def test_slow_decay(program: Path, which: str) -> None:
    run(program, which, "shape=1,16,16,3,6,2", "data=slow-decay", "runs=1")


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_every_number_of_parts(program: Path, parts: int) -> None:
    run(program, "forward", "shape=1,3,7,33,22,8", f"parts={parts}", "chunk=16", "dtype=f16")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", ["forward", "backward"])
def test_pointers_are_aligned_to_their_element_only(program: Path, which: str, dtype: str) -> None:
    run(program, which, "shape=1,3,3,32,6,2", f"dtype={dtype}", "chunk=8", "offset=1", "runs=1")


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("which", ["forward", "backward"])
def test_a_number_that_is_not_finite_stays_where_the_oracle_has_it(program: Path, which: str, value: str) -> None:
    run(program, which, "shape=2,3,4,5,3,2", "chunk=4", f"spoil=x:28:{value}", "dtype=bf16", "runs=1")


def test_the_plugin_in_a_captured_graph(newest: CMakeBuild) -> None:
    # The program of `make gpu-check`: all scales of the network, of a picture of 8 x 8 here.
    said = run(made(newest, "plugin_harness_ptx"), "", "8").splitlines()
    assert said[-1] == "plugin harness: 36 scans, 0 wrong, each also from a captured graph"
    assert [line.split()[2] for line in said[:-1]] == ["ok:"] * 36


KERNEL = """.visible .entry f(
	.param .u64 f_param_0
)
.maxntid 64, 1, 1
{
	.reg .b32 	%r<3>;
	INSTRUCTION
	ret;
}
"""


def test_an_instruction_is_one_statement() -> None:
    ptx = KERNEL.replace("INSTRUCTION", "@!%p1 mad.lo.s32 %r1, %r2, -7, %ctaid.x;")
    statement = "  if (!p1) put(r1, ptx_mad_lo<int32_t>(r2, integer(-7LL), current().block_index.x));"
    assert statement in translate(ptx).splitlines()


@pytest.mark.parametrize(
    ("instruction", "unknown"),
    [
        ("mov.u32 %r1, %clock;", "the operand '%clock'"),
        ("ld.global.u32 %r1, [%r2*4];", "the address '[%r2*4]'"),
        (".local .b8 depot[8];", "the line '.local .b8 depot[8];'"),
    ],
)
def test_what_the_translation_does_not_know_is_an_error(instruction: str, unknown: str) -> None:
    with pytest.raises(UnknownError) as error:
        translate(KERNEL.replace("INSTRUCTION", instruction))
    assert str(error.value) == unknown


def test_a_kernel_with_another_head_is_an_error() -> None:
    with pytest.raises(UnknownError, match="the head of a kernel"):
        translate(KERNEL.replace(".maxntid 64, 1, 1\n", "").replace("INSTRUCTION", "ret;"))
