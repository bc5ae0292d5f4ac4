"""Which TensorRT builds, and for which GPUs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from serpent.errors import EngineError, MissingExtraError, UsageError
from serpent.runtime import cuda_device
from serpent.runtime.gpu import Gpu
from serpent.runtime.tensorrt_library import RTX, TRT, installed_version
from serpent_export import targets
from serpent_export.targets import choose_engine, choose_targets, gpu_note, own_target, parse_targets
from tests import nvidia_smi
from tests.cuda_stand_in import Cuda

needs_rtx = pytest.mark.skipif(installed_version(RTX) is None, reason=f"needs {RTX.title}: {RTX.install_command}")

RTX_4090 = Gpu(0, "RTX 4090", (8, 9), "580")
H100 = Gpu(0, "H100", (9, 0), "580")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Pretend that exactly the flavours of the parameter, by key, are installed; RTX with three targets."""
    versions = {"rtx": "1.7.1.116", "trt": "10.13.0"}
    present = {
        name: versions[flavour.key]
        for flavour in (RTX, TRT)
        if flavour.key in request.param
        for name in (flavour.module, *flavour.distributions)
    }

    def version(name: str) -> str:
        if name not in present:
            raise importlib.metadata.PackageNotFoundError(name)
        return present[name]

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace() if name in present else None)
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(targets, "load", lambda _flavour: None)
    monkeypatch.setattr(targets, "targets_of", lambda _module: ("sm86", "sm89", "sm120"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sm89", ("sm89",)),
        ("sm120,sm86,SM89", ("sm86", "sm89", "sm120")),
        (" sm_86 , sm86", ("sm86",)),
        ("sm90", ("sm90",)),
    ],
)
def test_targets_are_normalised(text: str, expected: tuple[str, ...]) -> None:
    assert parse_targets(text) == expected


@pytest.mark.parametrize("text", ["", "sm86,", "rtx4090", "8.6", "sm8", "sm86;sm89", "sm86+"])
def test_a_text_that_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no GPU target\n.*--targets sm86,sm89,sm120"):
        parse_targets(text)


@needs_rtx
def test_the_default_targets_are_known_to_the_installed_version() -> None:
    assert choose_targets(None, RTX, []) == ("sm86", "sm89", "sm120")
    assert choose_targets("sm75", RTX, [H100]) == ("sm75",)


@needs_rtx
@pytest.mark.parametrize("text", ["sm90", "sm86,sm100"])
def test_a_data_centre_gpu_needs_tensorrt_proper(text: str) -> None:
    with pytest.raises(UsageError, match=r"this GPU needs TensorRT proper\n.*restoration\[trt\].*--engine trt"):
        choose_targets(text, RTX, [])


def test_tensorrt_builds_for_its_own_gpu() -> None:
    assert choose_targets(None, TRT, [H100]) == ()  # the process that builds asks CUDA
    assert choose_targets("sm90", TRT, [H100]) == ("sm90",)
    assert choose_targets("sm90", TRT, [RTX_4090, H100]) == ("sm90",)  # which is first is CUDA's business
    with pytest.raises(UsageError, match=r"--targets sm89 cannot be built by TensorRT.*\(sm90\) alone\n.*--engine rtx"):
        choose_targets("sm89", TRT, [H100])
    with pytest.raises(EngineError, match="only on the GPU that will run them; there is none"):
        choose_targets(None, TRT, [])


def test_the_target_is_cudas_device_and_not_nvidia_smis_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi.install(tmp_path / "bin", monkeypatch, nvidia_smi.RTX_4090)
    cuda = Cuda((9, 0), (8, 9))
    monkeypatch.setattr(cuda_device, "require", lambda *_: cuda)
    assert own_target([]) == own_target(["sm90"]) == ("sm90",)
    with pytest.raises(UsageError, match=r"--targets sm89 .* that CUDA counts first, which is sm90\n.*VISIBLE_DEVICES"):
        own_target(["sm89"])
    cuda.device = 1
    assert own_target([]) == ("sm89",)


def test_without_cudas_bindings_nvidia_smi_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    nvidia_smi.install(tmp_path / "bin", monkeypatch, nvidia_smi.H100)
    assert own_target([]) == ("sm90",)
    nvidia_smi.remove(tmp_path / "none", monkeypatch)
    with pytest.raises(EngineError, match=r"builds plans on a GPU, and nvidia-smi is not on the PATH"):
        own_target([])


@pytest.mark.parametrize(
    ("installed", "engine", "gpus", "expected"),
    [
        (["rtx"], "auto", [], RTX),
        (["rtx"], "auto", [RTX_4090], RTX),
        (["rtx"], "auto", [H100], RTX),
        (["rtx", "trt"], "auto", [], RTX),
        (["rtx", "trt"], "auto", [RTX_4090], RTX),
        (["rtx", "trt"], "auto", [H100], TRT),
        (["rtx", "trt"], "auto", [H100, RTX_4090], RTX),
        (["trt"], "auto", [RTX_4090], TRT),
        (["rtx", "trt"], "rtx", [H100], RTX),
        (["rtx", "trt"], "trt", [RTX_4090], TRT),
    ],
    indirect=["installed"],
)
@pytest.mark.usefixtures("installed")
def test_the_engine(engine: targets.Engine, gpus: list[Gpu], expected: object) -> None:
    assert choose_engine(engine, gpus).flavour is expected


@pytest.mark.parametrize("installed", [[], ["trt"]], indirect=True, ids=["none", "TensorRT without a GPU"])
@pytest.mark.usefixtures("installed")
def test_without_a_usable_engine_one_line_says_what_adds_the_plan() -> None:
    choice = choose_engine("auto", [])
    assert choice.flavour is None
    assert choice.reason == (
        "no plan, because TensorRT-RTX is not installed; "
        "to add it: pip install 'serpent-restoration[rtx]', then export again with --overwrite"
    )


def test_an_old_tensorrt_rtx_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace() if name == RTX.module else None)
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "1.6.1.120")
    choice = choose_engine("auto", [])
    assert choice.flavour is None
    assert "TensorRT-RTX 1.6.1.120 is too old" in choice.reason
    with pytest.raises(EngineError, match=r"1\.6\.1\.120 is too old"):
        choose_engine("rtx", [])


@pytest.mark.parametrize("engine", ["rtx", "trt"])
def test_an_engine_asked_for_by_name_must_be_there(engine: targets.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for flavour in (RTX, TRT):
        monkeypatch.setitem(sys.modules, flavour.module, None)
    with pytest.raises(MissingExtraError, match=rf"restoration\[{engine}\]"):
        choose_engine(engine, [RTX_4090])


@pytest.mark.parametrize("installed", [["trt"]], indirect=True)
@pytest.mark.usefixtures("installed")
def test_tensorrt_without_a_gpu_is_refused_by_name() -> None:
    with pytest.raises(EngineError, match=r"there is none\n.*--engine rtx"):
        choose_engine("trt", [])


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown engine 'tpu'; expected auto, rtx or trt"):
        choose_engine("tpu", [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gpus", "note"),
    [
        ([], "this machine has no NVIDIA GPU: the plan runs on sm86, sm89"),
        ([RTX_4090], None),
        ([H100, RTX_4090], None),
        ([H100], "the GPU of this machine, H100 (sm90), cannot run the plan, which is for sm86, sm89"),
    ],
)
def test_a_note_where_the_plan_cannot_run(gpus: list[Gpu], note: str | None) -> None:
    assert gpu_note(("sm86", "sm89"), gpus) == note
