"""Build the CUDA kernels for this machine's GPU, test them on it, time them, and write down everything.

    python3 benchmarks/gpu_check.py            (make gpu-check)

Offline: needs cmake, nvcc, and Python 3.11 with torch (built for CUDA) and pytest; nothing is installed. Builds in
build/gpu, runs tests/gpu and the test of the ptxas report, the C++ runtime over CUDA memory, the TensorRT plugin's
harness where TensorRT's headers are, then benchmarks/bench_scan.py, and writes benchmarks/results/<gpu>-<date>.json.
Tests that were left out are counted at the end, by reason: those of plans over CUDA memory need numpy and cuda-python.
Exit status: 0 all that ran passed, 1 a step failed, 2 something is missing here, 130 interrupted before the tests.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "gpu"
LIBRARY = BUILD / "plugins" / "libserpent.so"
PLUGIN = BUILD / "plugins" / "libserpent_trt.so"
HARNESS = BUILD / "plugins" / "tests" / "tensorrt" / "plugin_harness"
ENGINE_TESTS = [BUILD / "plugins" / "tests" / "engine" / f"test_engine_{name}_cuda" for name in ("engine", "refusals")]
ENGINE_STAND_IN = BUILD / "plugins" / "libserpent_engine_standin_cuda.so"
RESULTS = ROOT / "benchmarks" / "results"

PYTHON = (3, 11)
PYTEST = (8, 3)
"""The oldest that the project runs on and is tested with; see pyproject.toml."""

BUDGET_S = 460.0
"""For everything: the whole is to end in 8 minutes on a current GPU."""
BENCHMARK_S = 90.0
"""Kept for the benchmark, whatever the steps before it take."""
GRACE_S = 20.0
"""After which a command that should have ended is stopped."""

# Asked of a process of its own: this one stays free of torch, and of the memory that its CUDA context takes.
SURVEY = """
import json, torch
if not torch.cuda.is_available():
    print(json.dumps({"problem": f"torch {torch.__version__} sees no GPU (built for CUDA {torch.version.cuda})"}))
else:
    properties = torch.cuda.get_device_properties(0)
    print(json.dumps({
        "name": properties.name, "capability": [properties.major, properties.minor],
        "multiprocessors": properties.multi_processor_count, "memory_bytes": properties.total_memory,
        "uuid": str(getattr(properties, "uuid", "")),
        "torch": torch.__version__, "torch_cuda": torch.version.cuda,
    }))
"""


class MissingError(Exception):
    """What this machine lacks, in one line that says how to get it."""


@dataclass
class Record:
    """What is written at the end, whatever has failed."""

    device: dict[str, Any]
    versions: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)
    build: dict[str, Any] = field(default_factory=dict)
    tests: dict[str, Any] = field(default_factory=dict)
    engine: str = "not run"
    plugin: str = "not run"
    benchmark: Any = None
    problems: list[str] = field(default_factory=list)


def main() -> int:
    """Run all steps.

    Returns:
        The exit status.
    """
    start = time.monotonic()

    def left() -> float:
        return max(BUDGET_S - BENCHMARK_S - (time.monotonic() - start), 1.0)

    try:
        record = survey()
        step("build", record, lambda given: build(given, left))
    except MissingError as missing:
        print(f"gpu-check: {missing}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gpu-check: interrupted before the tests; nothing is written", file=sys.stderr)
        return 130
    try:
        if not record.problems:
            step("tests", record, lambda given: test(given, left()))
            step("engine", record, lambda given: engine(given, left))
            step("plugin", record, lambda given: plugin(given, left()))
            step("benchmark", record, lambda given: benchmark(given, left() + BENCHMARK_S))
    except KeyboardInterrupt:
        record.problems.append("interrupted")
    record.seconds["total"] = round(time.monotonic() - start, 1)
    path = write(record)
    for problem in record.problems:
        print(f"gpu-check: {problem}", file=sys.stderr)
    tests = record.tests
    print(f"gpu-check: C++ runtime over CUDA memory: {record.engine}")
    print(f"gpu-check: TensorRT plugin: {record.plugin}")
    counts = f"{tests.get('passed', 0)} passed, {tests.get('failed', 0)} failed, {tests.get('skipped', 0)} skipped"
    for reason, count in Counter(tests.get("skips", {}).values()).items():
        print(f"gpu-check: tests left out: {count}, {reason}")
    print(f"gpu-check: tests {counts}; {record.seconds['total']:.0f} s; written to {path.relative_to(ROOT)}")
    return 1 if record.problems else 0


def step(name: str, record: Record, run: Any) -> None:
    """Run one step and note how long it took; one that breaks off is a problem, and the steps after it go on."""
    print(f"\n== {name}", flush=True)
    start = time.monotonic()
    try:
        run(record)
    except MissingError:
        raise
    except Exception as error:  # noqa: BLE001 (whatever it is, what the other steps find is to be written)
        record.problems.append(f"the {name} step broke off: {error!r}")
    record.seconds[name] = round(time.monotonic() - start, 1)


def survey() -> Record:
    """The GPU, the driver and the versions of the tools.

    Raises:
        MissingError: a tool or the GPU.
    """
    if sys.version_info < PYTHON:
        wanted = ".".join(map(str, PYTHON))
        raise MissingError(f"{sys.executable} is older than Python {wanted}; name another: make gpu-check PYTHON=...")
    if shutil.which("cmake") is None:
        raise MissingError("cmake is not on the PATH; install CMake 3.22 or later")
    for package in ("torch", "pytest"):
        if importlib.util.find_spec(package) is None:
            raise MissingError(f"{sys.executable} has no {package}; name one that has: make gpu-check PYTHON=...")
    pytest = importlib.metadata.version("pytest")
    if tuple(map(int, pytest.split(".")[:2])) < PYTEST:
        wanted = ".".join(map(str, PYTEST))
        raise MissingError(
            f"{sys.executable} has pytest {pytest}, older than {wanted}; name another: make gpu-check PYTHON=..."
        )
    answer = json.loads(checked([sys.executable, "-c", SURVEY]).splitlines()[-1])
    if "problem" in answer:
        raise MissingError(f"{answer['problem']}; run on a machine with an NVIDIA GPU, with a torch built for CUDA")
    versions = {
        "python": platform.python_version(),
        "torch": answer.pop("torch"),
        "torch_cuda": answer.pop("torch_cuda"),
        "cmake": first_number(checked(["cmake", "--version"])),
        "commit": optional(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]),
        "platform": platform.platform(),
    }
    if importlib.util.find_spec("triton") is not None:
        versions["triton"] = optional([sys.executable, "-c", "import triton; print(triton.__version__)"])
    asked = "--query-gpu=driver_version,clocks.max.sm,clocks.max.mem,power.limit"
    # The GPU that torch was shown, which need not be the machine's first; a part of one (MIG) is not to be asked about.
    chosen = (f"GPU-{answer.pop('uuid').removeprefix('GPU-')}", "0")
    answers = (optional(["nvidia-smi", asked, "--format=csv,noheader", f"--id={gpu}"]) for gpu in chosen)
    smi = next((found for found in answers if found != "unknown"), "unknown").split(", ")
    names = ("driver", "max_sm_clock", "max_memory_clock", "power_limit")
    return Record({**answer, **dict(zip(names, smi, strict=False))}, versions)


def build(record: Record, left: Callable[[], float]) -> None:
    """Configure and compile for the one architecture that the tests will use, in the seconds that are left.

    Raises:
        MissingError: no usable nvcc.
    """
    # Not "native": that would take the first GPU of the machine, which torch may not have been shown.
    architecture = "{}{}-real".format(*record.device["capability"])
    configure = [
        "cmake",
        "-S",
        str(ROOT),
        "-B",
        str(BUILD),
        "-DSERPENT_CUDA=ON",
        f"-DPython3_EXECUTABLE={sys.executable}",
    ]
    configured = run([*configure, f"-DCMAKE_CUDA_ARCHITECTURES={architecture}"], left(), quiet=True)
    if configured.returncode != 0:
        said = " ".join(configured.stderr.split())
        reason = re.search(r"CUDA kernels: not built, (.*?CUDACXX)", said)
        raise MissingError(f"no usable nvcc: {reason.group(1)}" if reason else f"cmake failed: {said}")
    record.versions["nvcc"] = nvcc = first_number(cached("SERPENT_CUDA_STATE"))
    driver = driver_cuda()
    if driver is not None and int(nvcc.split(".")[0]) > driver[0]:
        raise MissingError(
            f"the driver is for CUDA {driver[0]}.{driver[1]} and runs nothing of nvcc {nvcc}; update it, or delete "
            f"{BUILD} and name an nvcc of CUDA {driver[0]} with CUDACXX"
        )
    compiled = run(["cmake", "--build", str(BUILD), "--parallel", jobs()], left())
    record.build = {"architectures": architecture, "library_bytes": LIBRARY.stat().st_size if LIBRARY.is_file() else 0}
    if compiled.returncode != 0:
        record.problems.append("the build failed")


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that the driver runs; None where it does not say."""
    version = ctypes.c_int()
    try:
        status = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return None
    return (version.value // 1000, version.value % 1000 // 10) if status == 0 else None


def jobs() -> str:
    """How many files to compile at once."""
    return str(os.cpu_count() or 1)


def cached(name: str) -> str:
    """An entry of the build's CMake cache."""
    (value,) = re.findall(rf"^{name}:\w+=(.*)$", (BUILD / "CMakeCache.txt").read_text(), re.MULTILINE)
    return str(value)


def test(record: Record, seconds: float) -> None:
    """Run what needs a GPU, and the test that no kernel spills registers."""
    report = BUILD / "tests.xml"
    report.unlink(missing_ok=True)
    chosen = ["tests/gpu", "tests/test_cuda_build.py::test_no_kernel_spills_registers"]
    # The tests of that folder run on the CPU, too; here only those that carry the mark `require`.
    options = ["-k", "require or spills", "--require=cuda", f"--cuda-build={BUILD}", f"--junitxml={report}"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *chosen]
    # compute-sanitizer lies beside nvcc, which CMake also finds where the PATH does not lead.
    places = [os.environ.get("PATH", os.defpath), str(Path(cached("CMAKE_CUDA_COMPILER")).parent)]
    finished = run(command, seconds, PATH=os.pathsep.join(places))
    if report.is_file():
        record.tests = read_report(report)
    if finished.returncode != 0:
        record.problems.append(f"the tests failed (pytest ended with {finished.returncode})")


def engine(record: Record, left: Callable[[], float]) -> None:
    """The C++ runtime's own tests with CUDA's memory, streams and events, over a stand-in for TensorRT alone."""
    built = run(["cmake", "--build", str(BUILD), "--target", "engine_over_cuda", "--parallel", jobs()], left())
    failed = ["the build"] if built.returncode != 0 else []
    for program in ENGINE_TESTS if not failed else []:
        finished = run([str(program), str(ENGINE_STAND_IN)], left())
        failed += [program.name] if finished.returncode != 0 else []
    record.engine = f"failed: {', '.join(failed)}" if failed else "all checks passed"
    if failed:
        record.problems.append(f"the tests of the C++ engine failed: {', '.join(failed)}")


def plugin(record: Record, seconds: float) -> None:
    """Drive the finished plugin library as TensorRT would, without TensorRT; its headers are needed to build it."""
    state = cached("SERPENT_TENSORRT_STATE")
    if not state.startswith("built"):
        record.plugin = f"not run: {state}"
        return
    built = run(["cmake", "--build", str(BUILD), "--target", "plugin_harness"], seconds)
    finished = run([str(HARNESS), str(PLUGIN)], seconds, quiet=True) if built.returncode == 0 else built
    print(finished.stdout or "", finished.stderr or "", sep="", end="")
    last = ((finished.stdout or "").strip().splitlines() or ["no result"])[-1]
    record.plugin = f"{last} ({state})" if finished.returncode == 0 else f"failed: {last} ({state})"
    if finished.returncode != 0:
        record.problems.append(f"the plugin harness failed (it ended with {finished.returncode})")


def read_report(report: Path) -> dict[str, Any]:
    """Counts, and by name what failed and what was skipped with the reason, from pytest's XML."""
    cases = list(ET.parse(report).getroot().iter("testcase"))  # noqa: S314 (our own file)
    failed = {name_of(case) for case in cases if case.find("failure") is not None or case.find("error") is not None}
    skipped = {name_of(case): reason_of(mark) for case in cases if (mark := case.find("skipped")) is not None}
    return {
        "passed": len(cases) - len(failed) - len(skipped),
        "failed": len(failed),
        "skipped": len(skipped),
        "failures": sorted(failed),
        "skips": skipped,
    }


def name_of(case: ET.Element) -> str:
    """Module and test of one entry of pytest's XML; a module alone where all of it was left out."""
    return "::".join(filter(None, (case.get("classname"), case.get("name"))))


def reason_of(mark: ET.Element) -> str:
    """Why a test was left out; of a whole module pytest says it in the text alone."""
    of_module = re.search(r"'Skipped: (.*)'\)$", mark.text or "")
    return of_module[1] if of_module else str(mark.get("message"))


def benchmark(record: Record, seconds: float) -> None:
    """Time the scan; its figures go into the record as they are."""
    figures = BUILD / "bench_scan.json"
    figures.unlink(missing_ok=True)
    options = ["--device", "cuda", "--json", str(figures), "--time-limit", str(int(seconds))]
    command = [sys.executable, "benchmarks/bench_scan.py", *options]
    # It measures the GPU's ceilings with kernels of its own, compiled by the nvcc that CMake found, wherever that is.
    finished = run(command, seconds + GRACE_S, CUDACXX=cached("CMAKE_CUDA_COMPILER"))
    if figures.is_file():
        record.benchmark = json.loads(figures.read_text())
    if finished.returncode != 0 or record.benchmark is None:
        record.problems.append(f"the benchmark failed (it ended with {finished.returncode})")


def write(record: Record) -> Path:
    """Write the record under the GPU's name and today's date."""
    gpu = re.sub(r"[^a-z0-9]+", "-", record.device["name"].lower()).strip("-")
    today = dt.datetime.now(tz=dt.UTC).date()
    path = RESULTS / f"{gpu}-{today}.json"
    RESULTS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"date": str(today), **vars(record)}, indent=2) + "\n")
    return path


def run(
    command: list[str], limit_s: float, *, quiet: bool = False, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository with the library just built; its output goes to the terminal unless quiet."""
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]  # torch itself may lie in one of the caller's
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "SERPENT_LIBRARY": str(LIBRARY), **variables}
    pipe = subprocess.PIPE if quiet else None
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            said, complained = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            print(f"stopped after {limit_s:.0f} s: {' '.join(command)}", file=sys.stderr)
            interrupt(process)
            return subprocess.CompletedProcess(command, 124, "", "")
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, said, complained)


def interrupt(process: subprocess.Popen[str]) -> None:
    """End a command as Ctrl-C would: pytest then ends its own children and writes the report of what has run."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def checked(command: list[str]) -> str:
    """What a command prints.

    Raises:
        MissingError: it fails.
    """
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        last = (finished.stderr.strip().splitlines() or ["no message"])[-1]
        raise MissingError(f"{Path(command[0]).name} failed: {last}")
    return finished.stdout


def optional(command: list[str]) -> str:
    """What a command prints, or "unknown" where it is not there or fails."""
    if shutil.which(command[0]) is None:
        return "unknown"
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    return finished.stdout.strip() if finished.returncode == 0 else "unknown"


def first_number(text: str) -> str:
    """The first version number in a text."""
    match = re.search(r"\d+(\.\d+)+", text)
    return match.group() if match else "unknown"


if __name__ == "__main__":
    sys.exit(main())
