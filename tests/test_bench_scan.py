"""The scan benchmark: what it runs, what it calls wrong, and what it writes."""

from __future__ import annotations

import ctypes
import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import bench_scan
from scan_bench import build, ceilings, group, rows, scalar
from scan_bench.problem import NAMED, Error, error_of, make_inputs, parse_shapes, scan_bound
from scan_bench.records import Ceiling
from scan_bench.rows import Row
from scan_bench.timing import Plan
from scan_cases import Sizes, arguments, converted, exact, relative
from serpent.errors import ArgumentError, SerpentError, UsageError
from serpent.scan import selective_scan_2d

CPU = torch.device("cpu")
TINY = "8x3x1x6x5"  # the scan of a VSS block of 4 channels
QUICK = Plan(rounds=3, min_burst=0.0, warm_up=0.0)


@pytest.fixture(autouse=True)
def _same_threads_afterwards() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


# The scalar loop


@pytest.mark.parametrize("slow_decay", [False, True], ids=["usual", "slow-decay"])
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_scalar_loop_in_f64_is_the_oracle(threads: int, slow_decay: bool) -> None:
    inputs = arguments(Sizes(2, 5, 9, 6, 3, 2), slow_decay=slow_decay)
    result = scalar.exact_scan(*inputs, threads=threads)
    np.testing.assert_allclose(result.numpy(), exact(inputs).numpy(), rtol=1e-12, atol=1e-13)


def test_scalar_loop_in_f32_is_as_good_as_f32() -> None:
    inputs = arguments(Sizes(1, 20, 30), torch.float32)
    truth = exact(inputs)
    assert 0 < relative(scalar.scan(*inputs, threads=2) - truth, truth) <= 1e-6


def test_scalar_loop_refuses_what_it_would_misread() -> None:
    inputs = arguments(Sizes())
    with pytest.raises(ArgumentError, match="f32 or f64"):
        scalar.scan(inputs[0].half(), inputs[1].half(), *converted(inputs, torch.float32)[2:], threads=1)
    with pytest.raises(ArgumentError, match="not contiguous"):
        scalar.scan(inputs[0].transpose(1, 2).contiguous().transpose(1, 2), *inputs[1:], threads=1)


# Problems and errors


def test_named_shapes_are_those_of_the_networks() -> None:
    sizes = [(s.channels, s.d_state, s.dt_rank, s.height, s.width) for s in NAMED.values()]
    assert sizes[:4] == [(64, 6, 2, 512, 512), (128, 11, 4, 256, 256), (256, 22, 8, 128, 128), (512, 43, 16, 64, 64)]
    assert sizes[4:] == [(64, 6, 2, 128, 128), (128, 11, 4, 64, 64), (256, 22, 8, 32, 32), (512, 43, 16, 16, 16)]


def test_bytes_and_exps_by_hand() -> None:
    (shape,) = parse_shapes("10x3x2x4x5")
    assert shape.exps == 4 * 10 * 20 * 3
    assert shape.minimal_bytes("scan core", 4) == 4 * 20 * (10 + 10 + 4 * (2 + 6))
    assert shape.minimal_bytes("SS2D", 2) == 2 * 20 * (10 + 10)
    assert shape.minimal_bytes("VSS block", 4) == 4 * 20 * (5 + 5)


@pytest.mark.parametrize("text", ["s4", "64x6x2x40", "64x6x2x40x0", "64x6x2x40x3x1", "", "s0,"])
def test_unknown_shapes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is neither one of s0, s1"):
        parse_shapes(text)


def test_x_dbl_of_the_inputs_is_about_unit_normal() -> None:
    inputs = make_inputs(parse_shapes("32x4x2x30x30")[0], torch.float32, CPU)
    assert 0.9 < float(torch.nn.functional.linear(inputs.x, inputs.x_proj).square().mean().sqrt()) < 1.1


def test_error_is_relative_to_what_the_base_leaves() -> None:
    truth = torch.tensor([[[[3.0, 4.0]]], [[[0.0, 1.0]]]], dtype=torch.float64)
    error = error_of(truth + torch.tensor([0.3, 0.0]), truth)
    assert error.relative_l2 == pytest.approx(math.sqrt(2 * 0.09 / 26))
    assert error.worst_channel == pytest.approx(math.sqrt(2 * 0.09 / 9))
    assert error_of(truth + 100, truth + 100, torch.tensor(100.0)).relative_l2 == 0
    assert error_of(truth + 100.3, truth + 100, torch.tensor(100.0)).relative_l2 > 0.1


def test_nan_is_within_no_bound() -> None:
    assert not Error(math.nan, 0.0).within(Error(1.0, 1.0))
    assert not Error(0.0, math.nan).within(Error(1.0, 1.0))


def test_scan_bounds_by_hand() -> None:
    assert scan_bound(torch.float32, peer=False) == Error(2e-6, 1e-5)
    assert scan_bound(torch.bfloat16, peer=False).relative_l2 == pytest.approx(2**-8 + 2e-6)
    assert scan_bound(torch.float16, peer=True).worst_channel == pytest.approx(4 * (2**-11 + 1e-5))


# Rows


def run_of(*chosen: Row, dtype: str = "f32", plan: Plan = QUICK, threads: int = 1) -> group.Run:
    return group.Run(CPU, dtype, [threads], list(chosen), plan)


@pytest.mark.parametrize("boundary", ["scan core", "SS2D", "VSS block"])
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda y: y * torch.linspace(1, 1.001, y.shape[-1]), id="scaled"),
        pytest.param(lambda y: y.index_fill(3, torch.tensor([2]), 0.0), id="one-channel-lost"),
        pytest.param(lambda y: y.masked_fill(y == y.max(), math.nan), id="nan"),
    ],
)
def test_a_wrong_row_is_reported_and_not_timed(boundary: Any, spoil: Any) -> None:
    wrong = Row("chunked", lambda *inputs: spoil(selective_scan_2d(*inputs)))
    right = Row("mamba", selective_scan_2d)
    bad, good = group.measure(run_of(wrong, right), boundary, parse_shapes(TINY)[0])
    assert (bad.status, bad.timings) == ("wrong", {})
    assert "relative L2" in bad.reason
    assert good.status == "measured"
    assert set(good.timings) == {"cold", "warm"}


def test_a_row_that_cannot_run_says_why() -> None:
    def breaks(*_: Tensor) -> Tensor:
        raise RuntimeError("no such\ndevice")

    ours, peer = group.measure(
        run_of(Row("chunked", breaks), Row("serpent", breaks, peer=False)), "SS2D", parse_shapes(TINY)[0]
    )
    assert (peer.status, peer.reason) == ("not measured", "RuntimeError: no such device")
    assert ours.status == "wrong"  # a kernel of this project that does not run is a fault, not a gap


def test_no_failure_of_a_peer_ends_the_run() -> None:
    def breaks(*_: Tensor) -> Tensor:
        raise subprocess.CalledProcessError(1, ["gcc"])

    ours, peer = group.measure(
        run_of(Row("compiled", breaks), Row("serpent", selective_scan_2d, peer=False)), "SS2D", parse_shapes(TINY)[0]
    )
    assert (peer.status, peer.reason.partition(":")[0]) == ("not measured", "CalledProcessError")
    assert ours.status == "measured"
    with pytest.raises(subprocess.CalledProcessError):  # what nobody expects of our own code is no row of a table
        group.measure(run_of(Row("serpent", breaks, peer=False)), "SS2D", parse_shapes(TINY)[0])


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("decay", ["usual", "slow"])
def test_real_rows_are_within_their_bounds(dtype: str, decay: Any) -> None:
    chosen = rows.rows_for(CPU, ["scalar", "serpent", "reference", "chunked"])
    run = group.Run(CPU, dtype, [1], chosen, QUICK, decay)
    for boundary in ("scan core", "SS2D", "VSS block"):
        for record in group.measure(run, boundary, parse_shapes("32x3x1x9x12")[0]):  # type: ignore[arg-type]
            expected = {"serpent avx2", "serpent avx512"}  # where the processor has them
            if record.status != "measured":
                assert record.label in expected | ({"scalar"} if dtype != "f32" else set()), record
            else:
                assert record.error is not None
                assert record.error.relative_l2 > 0


def test_the_sequential_row_is_not_run_on_long_sequences() -> None:
    chosen = rows.rows_for(CPU, ["reference"])
    (record,) = group.measure(run_of(*chosen), "scan core", parse_shapes("1x1x1x1x5000")[0])
    assert (record.status, record.reason) == ("not measured", "sequential: 5000 steps; run only up to 4096")


def test_each_variant_runs_in_its_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("SERPENT_ISA", "before")
    with Row("serpent", selective_scan_2d, environment={"SERPENT_ISA": "portable", "SERPENT_OTHER": "1"}).settings(1):
        assert (os.environ["SERPENT_ISA"], os.environ["SERPENT_OTHER"]) == ("portable", "1")
    assert os.environ["SERPENT_ISA"] == "before"
    assert "SERPENT_OTHER" not in os.environ


def test_cuda_variants_are_read_from_the_refusal() -> None:
    message = "'?' is no CUDA variant; SERPENT_CUDA_VARIANT may be n22-single, n6, any16"
    assert rows.parse_variants(message) == ["n22-single", "n6", "any16"]
    with pytest.raises(SerpentError, match="no CUDA variants are listed"):
        rows.parse_variants("unsupported")


# Ceilings


@pytest.mark.parametrize("isa", rows.INSTRUCTION_SETS)
def test_the_polynomial_of_the_exp_ceiling_is_an_exp(isa: str) -> None:
    if why := rows.available_instruction_sets()[isa]:
        pytest.skip(why)
    library = build.cpp_library("ceilings_cpu.cpp", *ceilings.INSTRUCTION_FLAGS[isa])
    library.ceiling_exp_of.restype = ctypes.c_float
    xs = np.linspace(-2, 0, 2001, dtype=np.float32)
    found = np.array([library.ceiling_exp_of(ctypes.c_float(x)) for x in xs])
    np.testing.assert_allclose(found, np.exp(xs.astype(np.float64)), rtol=5e-7)
    assert library.ceiling_exp_of(ctypes.c_float(0.0)) == 1.0


def test_cpu_ceilings_are_measured() -> None:
    found = ceilings.cpu_ceilings(["portable"], [1, 2], seconds=0.001)
    assert [(ceiling.name, ceiling.variant, ceiling.threads) for ceiling in found] == [
        ("exp", "portable", 1), ("copy", "", 1), ("exp", "portable", 2), ("copy", "", 2),
    ]  # fmt: skip
    assert all(1e6 < ceiling.per_second < 1e13 for ceiling in found)
    doubled = [Ceiling(c.name, c.variant, c.threads, 2 * c.per_second) for c in found]
    assert ceilings.best_of(found, doubled) == ceilings.best_of(doubled, found) == doubled


def test_a_compiler_that_refuses_is_heard() -> None:
    with pytest.raises(SerpentError, match=r"(?s)scalar_scan.cpp failed:.*no-such-flag"):
        build.cpp_library("scalar_scan.cpp", "-fno-such-flag")


@pytest.mark.slow
def test_the_cuda_ceilings_compile() -> None:
    nvcc = build.cuda_compiler()
    if nvcc is None:
        pytest.skip("no nvcc on this machine")
    library = ctypes.CDLL(ceilings.compile_cuda(nvcc, "sm_90"))
    library.ceiling_fma.restype = library.ceiling_copy.restype = library.ceiling_exp.restype = ctypes.c_double
    library.ceiling_status_text.restype = ctypes.c_char_p
    if not torch.cuda.is_available():  # then each says so, as the negative CUDA status
        rates = (library.ceiling_exp(None, 1), library.ceiling_fma(None, 1))
        rates += (library.ceiling_copy(None, None, ctypes.c_int64(16), 1),)
        assert [rate < 0 for rate in rates] == [True] * 3
        assert b"CUDA" in library.ceiling_status_text(int(-rates[0]))


# The whole


def test_a_small_run_writes_json_and_markdown(tmp_path: Path) -> None:
    files = {name: tmp_path / f"figures.{name}" for name in ("json", "md")}
    quick = ["--repeats", "2", "--min-time", "0", "--warm-up", "0", "--threads", "1,2"]
    code = bench_scan.main(
        [
            *("--shapes", TINY, "--rows", "serpent,scalar,chunked,mamba", *quick),
            *("--json", str(files["json"]), "--markdown", str(files["md"])),
        ]
    )
    assert code == 0
    report = json.loads(files["json"].read_text())
    assert set(report) == {
        "benchmark", "schema", "date", "device", "machine", "versions", "options", "seconds", "shapes", "ceilings",
        "results", "verdicts",
    }  # fmt: skip
    assert {"cpu", "cores", "load_before"} <= set(report["machine"])
    measured = [result for result in report["results"] if result["status"] == "measured"]
    assert {(result["boundary"], result["row"], result["threads"]) for result in measured} >= {
        (boundary, row, threads)
        for boundary in ("scan core", "SS2D", "VSS block")
        for row in ("serpent", "chunked")
        for threads in (1, 2)
    }
    for result in measured:
        assert len(result["timings"]["cold"]["samples_s"]) == 2
        assert 0 < result["timings"]["cold"]["min_s"] <= result["timings"]["cold"]["median_s"]
        assert result["exp_share"] > 0
        assert result["copy_share"] > 0
        assert result["error"]["relative_l2"] <= result["bound"]["relative_l2"]
    mamba = [result for result in report["results"] if result["row"] == "mamba"]
    assert {result["status"] for result in mamba} == {"not measured"}
    assert all(verdict["outcome"] == "not measured" for verdict in report["verdicts"])
    page = files["md"].read_text()
    for line in ("## scan core", "## SS2D", "## VSS block", "## Verdicts", "| 8x3x1x6x5 | scalar | 2 |"):
        assert line in page
    assert "mamba, not measured (" in page


def test_a_time_limit_is_stated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    code = bench_scan.main(["--shapes", TINY, "--rows", "serpent", "--time-limit", "0", "--json", str(path)])
    assert code == 0
    assert {result["reason"] for result in json.loads(path.read_text())["results"]} == {"time limit"}
    printed = capsys.readouterr()
    assert "rows not measured (time limit of 0 s)" in printed.err
    assert "not measured (time limit)" in printed.out


def test_what_takes_long_to_begin_is_not_begun_shortly_before_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    quick = ["--boundaries", "core", "--threads", "1", "--repeats", "1", "--min-time", "0", "--warm-up", "0"]
    limit = str(bench_scan.LATE_S)
    bench_scan.main(
        ["--shapes", TINY, "--rows", "serpent,reference", *quick, "--time-limit", limit, "--json", str(path)]
    )
    results = json.loads(path.read_text())["results"]
    assert {
        result["status"] for result in results if result["row"] == "serpent" and result["variant"] == "portable"
    } == {"measured"}
    assert [result["reason"] for result in results if result["row"] == "reference"] == ["time limit"]


@pytest.mark.parametrize(
    ("failure", "code", "why"),
    [
        pytest.param(KeyboardInterrupt(), 130, "interrupted", id="Ctrl-C"),
        pytest.param(RuntimeError("CUDA error:\nan illegal access"), 1, "RuntimeError: CUDA error: an illegal access"),
    ],
)
def test_what_was_measured_before_an_early_end_is_written(
    failure: BaseException, code: int, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measure(run: group.Run, boundary: Any, shape: Any) -> Any:
        if boundary == "SS2D":
            raise failure
        return group.measure(run, boundary, shape)

    path = tmp_path / "figures.json"
    quick = ["--boundaries", "core,ss2d", "--threads", "1", "--repeats", "1", "--min-time", "0", "--warm-up", "0"]
    monkeypatch.setattr(bench_scan, "measure", measure)
    assert bench_scan.main(["--shapes", TINY, "--rows", "serpent", *quick, "--json", str(path)]) == code
    report = json.loads(path.read_text())
    assert report["ended_early"] == why
    assert {result["boundary"] for result in report["results"] if result["status"] == "measured"} == {"scan core"}


def test_a_wrong_kernel_fails_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = Row("serpent", lambda *inputs: selective_scan_2d(*inputs) * 1.01, peer=False)
    monkeypatch.setattr(bench_scan, "rows_for", lambda *_: [wrong])
    assert bench_scan.main(["--shapes", TINY, "--boundaries", "core", "--threads", "1", "--warm-up", "0"]) == 1
    assert "| WRONG: relative L2 1.0e-02" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shapes", "s9"], "shape 's9' is neither"),
        (["--rows", "serpent,ours"], "--rows: ours is unknown; expected serpent"),
        (["--boundaries", "net"], "--boundaries: net is unknown; expected core"),
        (["--threads", "0"], "expected at least 1"),
        (["--repeats", "0"], "--repeats must be at least 1"),
    ],
)
def test_bad_options(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        bench_scan.main(options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_forced_variant_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SERPENT_ISA", "portable")
    with pytest.raises(SystemExit):
        bench_scan.main([])
    assert "SERPENT_ISA is set" in capsys.readouterr().err
