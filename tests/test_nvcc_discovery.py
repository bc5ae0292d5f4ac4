"""How CMake finds an nvcc, shown with stand-ins: scripts that answer as nvcc does."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-ins are shell scripts")

# Prints what serpent_find_nvcc() answers. The places where toolkits usually lie are set to none: this machine's own
# must not answer.
ASK = f"""
include("{ROOT}/cmake/find_nvcc.cmake")
set(problems "")
serpent_find_nvcc(nvcc problems)
message("nvcc=${{nvcc}}")
message("problems=${{problems}}")
"""


@dataclass(frozen=True)
class Answer:
    """The nvcc that was chosen, why there is none, and what was printed."""

    nvcc: str
    problems: str
    output: str


def stand_in(path: Path, version: str = "13.0", complaint: str = "") -> Path:
    """A script that says it is nvcc ``version`` and can compile, unless it has a ``complaint``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compile_ = f"echo '{complaint}' >&2; exit 1" if complaint else "exit 0"
    path.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = --version ]; then echo "Cuda compilation tools, release {version}, V{version}.1"; exit 0; fi\n'
        f"{compile_}\n"
    )
    path.chmod(0o755)
    return path


def wheel_environment(folder: Path, version: str = "13.0", complaint: str = "") -> tuple[Path, Path]:
    """A Python environment with the layout of NVIDIA's wheels: its interpreter and its nvcc."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    root = site / "nvidia" / f"cu{version.split('.', maxsplit=1)[0]}"
    for name in ("include", "lib", "nvvm"):
        (root / name).mkdir(parents=True)
    (root / "lib" / "libcudart_static.a").touch()
    return folder / "bin" / "python", stand_in(root / "bin" / "nvcc", version, complaint)


def ask(folder: Path, *definitions: str, path: Path | None = None, **environment: str) -> Answer:
    """What CMake finds with ``path`` as the only folder of programs besides the system's."""
    script = folder / "ask.cmake"
    script.write_text(ASK)
    programs = [str(path)] if path else []
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CUDA")}
    run = subprocess.run(
        ["cmake", "-DSERPENT_CUDA_PREFIXES=none", *definitions, "-P", str(script)],
        cwd=folder,  # a script's build folder
        capture_output=True,
        text=True,
        env={**clean, "PATH": os.pathsep.join([*programs, *programs_but_nvcc()]), **environment},
    )
    assert run.returncode == 0, run.stderr
    found = dict(line.split("=", 1) for line in run.stderr.splitlines() if line.startswith(("nvcc=", "problems=")))
    return Answer(found["nvcc"], found["problems"], run.stdout + run.stderr)


def programs_but_nvcc() -> list[str]:
    folders = os.environ["PATH"].split(os.pathsep)
    return [folder for folder in folders if not (Path(folder) / "nvcc").exists()]


@pytest.fixture
def bare_python(tmp_path: Path) -> str:
    """An interpreter whose environment has no packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    return f"-DPython3_EXECUTABLE={tmp_path / 'bare' / 'bin' / 'python'}"


def test_none_is_found_where_there_is_none(tmp_path: Path, bare_python: str) -> None:
    assert ask(tmp_path, bare_python).nvcc == ""
    assert ask(tmp_path, bare_python).problems == "no nvcc found"


def test_one_on_the_path_is_found(tmp_path: Path, bare_python: str) -> None:
    nvcc = stand_in(tmp_path / "programs" / "nvcc")
    assert ask(tmp_path, bare_python, path=nvcc.parent).nvcc == str(nvcc)


def test_one_in_a_usual_place_is_found(tmp_path: Path, bare_python: str) -> None:
    for version in ("12.9", "13.0"):
        stand_in(tmp_path / f"cuda-{version}" / "bin" / "nvcc", version)
    answer = ask(tmp_path, bare_python, f"-DSERPENT_CUDA_PREFIXES={tmp_path}/cuda-*")
    assert answer.nvcc == str(tmp_path / "cuda-13.0" / "bin" / "nvcc")


def test_the_variable_of_the_toolkit_is_followed(tmp_path: Path, bare_python: str) -> None:
    nvcc = stand_in(tmp_path / "toolkit" / "bin" / "nvcc")
    assert ask(tmp_path, bare_python, CUDA_PATH=str(tmp_path / "toolkit")).nvcc == str(nvcc)


@pytest.mark.parametrize("version", ["12.8", "9.2", "11.10"])
def test_an_old_one_is_passed_over_and_named(tmp_path: Path, bare_python: str, version: str) -> None:
    old = stand_in(tmp_path / "programs" / "nvcc", version)
    answer = ask(tmp_path, bare_python, path=old.parent)
    assert answer.nvcc == ""
    assert answer.problems == f"{old} is version {version}"


@pytest.mark.parametrize("version", ["12.9", "13.0", "13.5"])
def test_a_version_that_will_do(tmp_path: Path, bare_python: str, version: str) -> None:
    nvcc = stand_in(tmp_path / "programs" / "nvcc", version)
    assert ask(tmp_path, bare_python, path=nvcc.parent).nvcc == str(nvcc)


def test_one_that_cannot_compile_is_passed_over_for_one_that_can(tmp_path: Path) -> None:
    broken = stand_in(tmp_path / "programs" / "nvcc", complaint="fatal: no host compiler")
    python, nvcc = wheel_environment(tmp_path / "environment")
    answer = ask(tmp_path, f"-DPython3_EXECUTABLE={python}", path=broken.parent)
    assert f"passed over {broken} cannot build a program: fatal: no host compiler" in answer.output
    assert Path(answer.nvcc).resolve() == nvcc.resolve()


def test_every_reason_is_given_where_none_works(tmp_path: Path, bare_python: str) -> None:
    old = stand_in(tmp_path / "programs" / "nvcc", "12.0")
    broken = stand_in(tmp_path / "cuda" / "bin" / "nvcc", complaint="fatal: half of it is missing")
    answer = ask(tmp_path, bare_python, f"-DSERPENT_CUDA_PREFIXES={tmp_path}/cuda", path=old.parent)
    expected = f"{old} is version 12.0; {broken} cannot build a program: fatal: half of it is missing"
    assert answer.problems == expected


def test_a_host_compiler_that_is_too_new_is_the_reason(tmp_path: Path, bare_python: str) -> None:
    headers = "In file included from /cuda/include/cuda_runtime.h:82,\n                 from <command-line>:\n"
    reason = "host_config.h:143:2: error: #error -- gcc versions later than 14 are not supported!"
    complaint = f"{headers}{reason} It may do; at your own risk.\n  143 | #error -- gcc versions"
    nvcc = stand_in(tmp_path / "programs" / "nvcc", "12.9", complaint)
    problems = ask(tmp_path, bare_python, path=nvcc.parent).problems
    assert problems == f"{nvcc} cannot build a program: {reason} It may do"


def test_the_wheels_get_the_folder_tree_that_nvcc_expects(tmp_path: Path) -> None:
    python, nvcc = wheel_environment(tmp_path / "environment")
    answer = ask(tmp_path, f"-DPython3_EXECUTABLE={python}")
    tree = Path(answer.nvcc).parents[1]
    assert tree == tmp_path / "cuda-toolkit"
    assert (tree / "bin" / ".." / "lib64" / "libcudart_static.a").is_file()  # as nvcc looks for it
    assert {name: (tree / name).resolve() for name in ("include", "lib", "nvvm")} == {
        name: nvcc.parents[1].resolve() / name for name in ("include", "lib", "nvvm")
    }


def test_the_newest_wheels_come_first(tmp_path: Path) -> None:
    python, old = wheel_environment(tmp_path / "environment")
    new = stand_in(old.parents[2] / "cu14" / "bin" / "nvcc", "14.0")
    assert ask(tmp_path, f"-DPython3_EXECUTABLE={python}").nvcc == str(new)


@pytest.mark.parametrize("how", ["-DCMAKE_CUDA_COMPILER", "CUDACXX"])
def test_one_that_is_named_stands_alone(tmp_path: Path, bare_python: str, how: str) -> None:
    good = stand_in(tmp_path / "programs" / "nvcc")
    named = stand_in(tmp_path / "named" / "nvcc", complaint="fatal: broken")
    definitions = [bare_python, f"{how}={named}"] if how.startswith("-D") else [bare_python]
    environment = {} if how.startswith("-D") else {how: str(named)}
    answer = ask(tmp_path, *definitions, path=good.parent, **environment)
    assert answer.nvcc == ""
    assert answer.problems == f"{named} cannot build a program: fatal: broken"


def configure(folder: Path, *definitions: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["cmake", "-S", str(ROOT), "-B", str(folder), *definitions], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("wanted", ["ON", "AUTO"])
def test_a_named_nvcc_that_does_not_work_stops_the_configuration(tmp_path: Path, wanted: str) -> None:
    run = configure(tmp_path, f"-DSERPENT_CUDA={wanted}", f"-DCMAKE_CUDA_COMPILER={tmp_path}/absent/nvcc")
    assert run.returncode != 0
    said = " ".join(run.stderr.split())
    assert f"they need nvcc >= 12.9 ({tmp_path}/absent/nvcc does not run); install the CUDA toolkit" in said
    assert "pip install '.[cuda-build]'" in said


def test_an_unknown_wish_is_refused(tmp_path: Path) -> None:
    run = configure(tmp_path, "-DSERPENT_CUDA=perhaps")
    assert run.returncode != 0
    assert "SERPENT_CUDA is perhaps; expected AUTO, ON or OFF" in run.stderr


def test_without_any_nvcc_the_rest_is_configured(tmp_path: Path, bare_python: str) -> None:
    run = subprocess.run(
        ["cmake", "-S", str(ROOT), "-B", str(tmp_path / "build"), "-DSERPENT_CUDA_PREFIXES=none", bare_python],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": os.pathsep.join(programs_but_nvcc()), "CUDACXX": "", "CUDA_PATH": ""},
    )
    assert run.returncode == 0, run.stderr
    (line,) = [line for line in run.stdout.splitlines() if "CUDA kernels" in line]
    assert line.startswith("-- CUDA kernels: not built, they need nvcc >= 12.9 (no nvcc found); install the CUDA")
