"""Plans of the real network: every target and precision, 14 plugin layers, the same bytes twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from serpent.errors import EngineError, UsageError
from serpent.runtime.tensorrt_library import RTX, installed_version
from serpent_export.engine import EngineResult, build_engine
from serpent_export.engine_options import EngineOptions
from serpent_export.targets import DEFAULT_TARGETS
from traced import graph, network, profile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(installed_version(RTX) is None, reason="TensorRT-RTX is not installed (extra rtx)"),
]
DYNAMIC = ("64:96:256", "1:1:4")


def build(
    folder: Path,
    precision: str,
    targets: tuple[str, ...],
    sizes: tuple[str, str] = ("64", "1"),
    options: EngineOptions | None = None,
) -> EngineResult:
    folder.mkdir()
    (folder / "network.onnx").write_bytes(graph("B", sizes[0], precision, sizes[1]).SerializeToString())
    return build_engine(
        folder / "network.onnx",
        folder / "network.plan",
        flavour=RTX,
        targets=targets,
        profile=profile("B", *sizes),
        expected_scans=14,
        options=options,
    )


@pytest.mark.parametrize(
    ("precision", "sizes"),
    [("fp32", ("64", "1")), ("fp16", ("64", "1")), ("bf16", ("64", "1")), ("fp32", DYNAMIC)],
    ids=["fp32", "fp16", "bf16", "fp32-dynamic"],
)
def test_default_plan_has_its_plugins_and_the_same_bytes_twice(
    tmp_path: Path, precision: str, sizes: tuple[str, str]
) -> None:
    results = [build(tmp_path / name, precision, DEFAULT_TARGETS, sizes) for name in ("one", "two")]
    assert [result.plugin_layers for result in results] == [14, 14]
    plans = [(tmp_path / name / "network.plan").read_bytes() for name in ("one", "two")]
    assert len(plans[0]) > 1_000_000
    assert plans[0] == plans[1]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("target", ["sm75", "sm80", "sm86", "sm89", "sm120", "sm121"])
def test_every_target_alone(tmp_path: Path, precision: str, target: str) -> None:
    if target == "sm75" and precision != "fp16":
        # Turing has neither bf16 nor, in TensorRT-RTX 1.7, f32 matrix products.
        with pytest.raises(EngineError, match="--precision fp16"):
            build(tmp_path / "one", precision, (target,))
        assert not (tmp_path / "one" / "network.plan").exists()
        return
    result = build(tmp_path / "one", precision, (target,))
    assert result.plugin_layers == 14
    assert result.targets == (target,)


def test_the_least_workspace_that_is_not_refused_builds(tmp_path: Path) -> None:
    """With a byte less, TensorRT-RTX 1.7 ends its process."""
    sizes = profile("B", "64")
    with pytest.raises(UsageError) as caught:
        EngineOptions(workspace=1).check_workspace(network("B").config, sizes)
    least = int(caught.value.message.split(" a scan needs ")[1].split()[0])
    assert build(tmp_path / "one", "fp32", ("sm89",), options=EngineOptions(workspace=least)).plugin_layers == 14
