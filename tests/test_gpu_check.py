"""The script behind `make gpu-check`: what it says where something is missing, and what it writes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from scan_bench import machine

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu_check.py"

PLUGIN = "built with the headers of 10.16.0 and 11.1.0"

REPORT = """<?xml version="1.0"?><testsuites><testsuite>
<testcase classname="tests.gpu.test_a" name="test_one"/>
<testcase classname="tests.gpu.test_a" name="test_two[f16]"><failure message="wrong">...</failure></testcase>
<testcase classname="tests.gpu.test_a" name="test_three"><skipped message="no sanitizer">...</skipped></testcase>
<testcase classname="tests.gpu.test_b" name="test_four"/>
<testcase classname="tests.gpu.test_b" name="test_five"><skipped message="cuda.bindings is not installed"/></testcase>
<testcase classname="tests.gpu.test_b" name="test_six"><skipped message="cuda.bindings is not installed"/></testcase>
<testcase classname="" name="tests.gpu.test_c"><skipped message="collection skipped"
>('tests/gpu/test_c.py', 9, 'Skipped: plans need numpy')</skipped></testcase>
</testsuite></testsuites>
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module that builds and writes under ``tmp_path``."""
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    for name, place in {"ROOT": "", "BUILD": "build", "LIBRARY": "build/libserpent.so", "RESULTS": "results"}.items():
        monkeypatch.setattr(module, name, tmp_path / place)
    (tmp_path / "build").mkdir()
    return module


class Machine:
    """Takes the place of every command: remembers it and does what a step would leave behind."""

    def __init__(self, script: ModuleType, failing: str = "") -> None:
        self.commands: list[list[str]] = []
        self._script, self._failing = script, failing
        self.plugin = PLUGIN

    def run(
        self, command: list[str], limit_s: float, *, quiet: bool = False, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        assert limit_s > 0
        self.commands.append(command)
        build, stage = self._script.BUILD, "compile"
        if "-S" in command:
            stage = "configure"
            lines = {
                "CMAKE_CUDA_COMPILER:FILEPATH": "/wheel/bin/nvcc",
                "SERPENT_CUDA_STATE:INTERNAL": "built by nvcc 13.0.88 for 90-real",
                "SERPENT_TENSORRT_STATE:INTERNAL": self.plugin,
            }
            (build / "CMakeCache.txt").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        elif "pytest" in command:
            stage = "tests"
            assert variables["PATH"].endswith(":/wheel/bin")  # where compute-sanitizer is, too
            (build / "tests.xml").write_text(REPORT)
        elif command[0] == str(self._script.HARNESS):
            said = "H0 f32 ok\nplugin harness: 36 scans, 0 wrong\n"
            return subprocess.CompletedProcess(command, int(self._failing == "plugin"), said, "")
        elif "plugin_harness" in command:
            stage = "harness"
        elif "engine_over_cuda" in command:
            stage = "programs"
        elif Path(command[0]) in self._script.ENGINE_TESTS:
            assert command[1] == str(self._script.ENGINE_STAND_IN)
            stage = Path(command[0]).name
        elif "benchmarks/bench_scan.py" in command:
            stage = "benchmark"
            assert variables == {"CUDACXX": "/wheel/bin/nvcc"}
            Path(command[command.index("--json") + 1]).write_text('{"rows": [1, 2]}')
        else:
            self._script.LIBRARY.write_bytes(b"1234")
        said = "CMake Error: CUDA kernels: not built, they need nvcc >= 12.9\n  (no nvcc found); name one with CUDACXX"
        return subprocess.CompletedProcess(command, int(stage == self._failing), "", said if quiet else "")


def survey(script: ModuleType) -> object:
    device = {"name": "NVIDIA H100 80GB HBM3", "capability": [9, 0], "driver": "580.1"}
    return script.Record(device, {"torch": "2.13.0"})


def outcome(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    failing: str = "",
    plugin: str = PLUGIN,
    driver: tuple[int, int] | None = (13, 0),
) -> tuple[int, list[dict], list[list[str]]]:
    """Exit status, the records written, and the commands that ran."""
    machine = Machine(script, failing)
    machine.plugin = plugin
    monkeypatch.setattr(script, "run", machine.run)
    monkeypatch.setattr(script, "survey", lambda: survey(script))
    monkeypatch.setattr(script, "driver_cuda", lambda: driver)
    status = script.main()
    records = [json.loads(path.read_text()) for path in sorted(script.RESULTS.glob("*.json"))]
    return status, records, machine.commands


def test_everything_that_was_found_is_written(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, (record,), commands = outcome(script, monkeypatch)
    (path,) = script.RESULTS.glob("*.json")
    assert status == 0
    assert path.name == f"nvidia-h100-80gb-hbm3-{record['date']}.json"
    assert record["device"]["driver"] == "580.1"
    assert record["versions"] == {"torch": "2.13.0", "nvcc": "13.0.88"}
    assert record["build"] == {"architectures": "90-real", "library_bytes": 4}
    assert record["benchmark"] == {"rows": [1, 2]}
    assert set(record["seconds"]) == {"build", "tests", "engine", "plugin", "benchmark", "total"}
    assert record["engine"] == "all checks passed"
    assert record["plugin"] == "plugin harness: 36 scans, 0 wrong (built with the headers of 10.16.0 and 11.1.0)"
    assert {key: record["tests"][key] for key in ("passed", "failed", "skipped")} == {
        "passed": 2,
        "failed": 1,
        "skipped": 4,
    }
    assert record["tests"]["failures"] == ["tests.gpu.test_a::test_two[f16]"]
    assert record["tests"]["skips"] == {
        "tests.gpu.test_a::test_three": "no sanitizer",
        "tests.gpu.test_b::test_five": "cuda.bindings is not installed",
        "tests.gpu.test_b::test_six": "cuda.bindings is not installed",
        "tests.gpu.test_c": "plans need numpy",
    }
    said = capsys.readouterr().out.splitlines()
    assert "gpu-check: tests left out: 1, no sanitizer" in said
    assert "gpu-check: tests left out: 2, cuda.bindings is not installed" in said
    assert "-DCMAKE_CUDA_ARCHITECTURES=90-real" in commands[0]


def test_the_tests_of_the_scan_need_nothing_but_torch_and_pytest() -> None:
    """A file that needs more must not keep the others from being collected."""
    code = """
import sys
sys.modules.update(dict.fromkeys(["numpy", "safetensors", "PIL", "pyvips", "click", "rich", "onnx", "hypothesis"]))
import pytest
sys.exit(pytest.main(["-q", "--collect-only", "-p", "no:cacheprovider", "-k", "require", "tests/gpu"]))
"""
    root = SCRIPT.parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=environment)
    assert run.returncode == 0, run.stdout
    collected = set(re.findall(r"^tests/gpu/(\w+)\.py::", run.stdout, re.MULTILINE))
    assert collected == {path.stem for path in (root / "tests" / "gpu").glob("test_scan_*.py")}
    assert run.stdout.count("plans need numpy") == 2


@pytest.mark.parametrize("failing", ["tests", "plugin", "benchmark"])
def test_a_failed_step_is_written_and_fails_the_whole(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    status, (record,), commands = outcome(script, monkeypatch, failing)
    assert status == 1
    assert len(commands) == 9
    assert [failing in problem for problem in record["problems"]] == [True]


@pytest.mark.parametrize(
    ("failure", "problem", "benchmarked"),
    [
        pytest.param(FileNotFoundError("plugin_harness"), "the plugin step broke off: FileNotFoundError(", True),
        pytest.param(KeyboardInterrupt(), "interrupted", False, id="Ctrl-C"),
    ],
)
def test_a_step_that_breaks_off_leaves_what_the_others_found(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    problem: str,
    benchmarked: bool,
) -> None:
    def plugin(*_: object) -> None:
        raise failure

    monkeypatch.setattr(script, "plugin", plugin)
    status, (record,), _ = outcome(script, monkeypatch)
    assert status == 1
    assert [found.startswith(problem) for found in record["problems"]] == [True]
    assert record["tests"]["passed"] == 2
    assert (record["benchmark"] is not None) == benchmarked


@pytest.mark.parametrize(
    ("failing", "named"), [("programs", "the build"), ("test_engine_refusals_cuda", "test_engine_refusals_cuda")]
)
def test_failures_of_the_engine_are_named(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, failing: str, named: str
) -> None:
    status, (record,), _ = outcome(script, monkeypatch, failing)
    assert (status, record["engine"]) == (1, f"failed: {named}")
    assert record["problems"] == [f"the tests of the C++ engine failed: {named}"]


@pytest.mark.parametrize("folder", ["engine", "tensorrt"])
def test_a_warning_of_an_untried_compiler_fails_no_step(folder: str) -> None:
    listed = (SCRIPT.parents[1] / "plugins" / "tests" / folder / "CMakeLists.txt").read_text()
    assert "-Werror" not in listed


def test_a_harness_that_does_not_compile_fails_the_whole(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    status, (record,), commands = outcome(script, monkeypatch, "harness")
    assert status == 1
    assert record["plugin"] == f"failed: no result ({PLUGIN})"
    assert [str(script.HARNESS)] not in [command[:1] for command in commands]


def test_without_the_headers_the_plugin_is_not_run_and_says_why(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, (record,), commands = outcome(script, monkeypatch, plugin="not built, it needs NvInfer.h; unpack an SDK")
    assert status == 0
    assert record["plugin"] == "not run: not built, it needs NvInfer.h; unpack an SDK"
    assert "TensorRT plugin: not run: not built" in capsys.readouterr().out
    assert not any("plugin_harness" in command for command in commands)


def test_after_a_failed_build_nothing_runs(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    status, (record,), commands = outcome(script, monkeypatch, "compile")
    assert status == 1
    assert record["problems"] == ["the build failed"]
    assert len(commands) == 2


def test_ctrl_c_before_the_tests_leaves_no_record(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "build", build)
    assert outcome(script, monkeypatch)[:2] == (130, [])
    assert capsys.readouterr().err == "gpu-check: interrupted before the tests; nothing is written\n"


def test_without_nvcc_one_line_says_so(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, records, _ = outcome(script, monkeypatch, "configure")
    assert (status, records) == (2, [])
    expected = "gpu-check: no usable nvcc: they need nvcc >= 12.9 (no nvcc found); name one with CUDACXX\n"
    assert capsys.readouterr().err == expected


def test_a_driver_older_than_nvcc_is_named_before_anything_is_built(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, records, commands = outcome(script, monkeypatch, driver=(12, 8))
    assert (status, records, len(commands)) == (2, [], 1)
    said = "gpu-check: the driver is for CUDA 12.8 and runs nothing of nvcc 13.0.88; update it, or delete"
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("driver", [None, (13, 0), (14, 1)])
def test_a_driver_as_new_as_nvcc_or_one_that_does_not_say_is_no_obstacle(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, driver: tuple[int, int] | None
) -> None:
    assert outcome(script, monkeypatch, driver=driver)[0] == 0


def stand_in_torch(folder: Path, available: bool) -> None:
    (folder / "torch.py").write_text(f"""
class cuda:
    @staticmethod
    def is_available():
        return {available}

    @staticmethod
    def get_device_properties(index):
        class properties:
            name, major, minor, multi_processor_count, total_memory = "NVIDIA Test", 8, 9, 76, 2**34
            uuid = "7a5e"
        return properties

class version:
    cuda = "13.0"

__version__ = "9.9"
""")


def test_the_survey_asks_torch(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_torch(tmp_path, available=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    record = script.survey()
    assert record.device["name"] == "NVIDIA Test"
    assert record.device["capability"] == [8, 9]
    assert record.versions["torch"] == "9.9"
    assert record.versions["cmake"].count(".") >= 1


def test_without_a_gpu_one_line_says_so(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in_torch(tmp_path, available=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert script.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gpu-check: torch 9.9 sees no GPU (built for CUDA 13.0); run on a machine with")


@pytest.mark.parametrize(("known", "clock"), [("GPU-7a5e", "1980 MHz"), ("0", "1410 MHz")], ids=["uuid", "MIG"])
def test_the_clocks_are_of_the_gpu_that_torch_was_shown(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str, clock: str
) -> None:
    stand_in_torch(tmp_path, available=True)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *--id={known}*) echo "580.1, {clock}, 2619 MHz, 700 W";; *) exit 6;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    device = script.survey().device
    assert (device["driver"], device["max_sm_clock"]) == ("580.1", clock)
    assert "uuid" not in device
    assert machine._nvidia_smi("7a5e")["driver_version"] == "580.1"


@pytest.mark.parametrize(("name", "said"), [("PYTHON", "is older than Python 99.9"), ("PYTEST", "older than 99.9")])
def test_an_older_python_or_pytest_is_refused_before_minutes_have_passed(
    script: ModuleType, name: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, name, (99, 9))
    assert script.main() == 2
    assert f"{said}; name another: make gpu-check PYTHON=..." in capsys.readouterr().err


@pytest.mark.parametrize("name", ["torch", "pytest"])
def test_without_a_package_one_line_says_so(
    script: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None if package == name else find(package))
    assert script.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"has no {name}; name one that has" in line


def test_without_cmake_one_line_says_so(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert script.main() == 2
    assert capsys.readouterr().err == "gpu-check: cmake is not on the PATH; install CMake 3.22 or later\n"


def test_a_command_that_takes_too_long_is_stopped(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    finished = script.run([sys.executable, "-c", "import time; time.sleep(60)"], 0.5)
    assert finished.returncode == 124
    assert capsys.readouterr().err.startswith("stopped after 0 s:")


def test_a_stopped_command_may_still_write_what_it_has_found(script: ModuleType, tmp_path: Path) -> None:
    report = tmp_path / "report"
    program = f"""
import time
from pathlib import Path
try:
    time.sleep(60)
except KeyboardInterrupt:
    Path({str(report)!r}).write_text("found so far")
"""
    assert script.run([sys.executable, "-c", program], 5).returncode == 124
    assert report.read_text() == "found so far"


def test_packages_that_only_pythonpath_leads_to_are_found(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "found_there.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    code = f"import sys, found_there; sys.exit({str(tmp_path)!r} not in sys.path)"
    assert script.run([sys.executable, "-c", code], 60).returncode == 0
