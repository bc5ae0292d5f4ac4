"""``--io``: conversions at the border of a file, and sessions that hide them."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import serpent_export
from serpent.errors import ModelFileError, ParityError
from serpent.pictures import Picture
from serpent.runtime import open_session, restore_picture, verify_file
from serpent.runtime.border import from_border, to_border
from serpent.runtime.onnx_session import RunTimes, make_runner
from serpent.runtime.sample_picture import make_picture, picture_recipe
from serpent_cli.main import run_inspect
from serpent_export.io_border import with_border
from serpent_export.parity import ParitySubject
from serpent_export.same_result import check_same_result
from tests.fakes import FakeSession
from traced import graph

pytestmark = pytest.mark.usefixtures("traced_once")

KINDS = {"f16-nchw": TensorProto.FLOAT16, "u8-nhwc": TensorProto.UINT8}


def test_values_at_the_border() -> None:
    image = np.linspace(-0.1, 1.1, 24, dtype=np.float32).reshape(1, 3, 2, 4)
    eight = to_border(image, "u8-nhwc")
    assert (eight.dtype, eight.shape, eight.min(), eight.max()) == (np.uint8, (1, 2, 4, 3), 0, 255)
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    np.testing.assert_array_equal(to_border(from_border(levels, "u8-nhwc"), "u8-nhwc"), levels)
    assert from_border(levels, "u8-nhwc").shape == (1, 3, 16, 16)
    assert to_border(image, "f16-nchw").dtype == np.float16
    assert to_border(image, "f32-nchw") is image
    # Halves go to the even neighbour, as ONNX Round has it.
    halves = np.array([0.5, 1.5, 2.5], np.float32).reshape(1, 3, 1, 1) / np.float32(255)
    assert to_border(halves, "u8-nhwc").ravel().tolist() == [0, 2, 2]
    with pytest.raises(ModelFileError, match="the border 'u16-nhwc' is unknown"):
        to_border(image, "u16-nhwc")


@pytest.mark.parametrize("io", KINDS)
@pytest.mark.parametrize(
    ("resolution", "batch", "size"),
    [("64", "1", (1, 64, 64)), pytest.param("32:64:128", "1:1:4", (2, 32, 64), marks=pytest.mark.slow)],
)
def test_the_graph_converts_as_the_session_would(
    io: str, resolution: str, batch: str, size: tuple[int, int, int]
) -> None:
    inner = graph("B", resolution, "fp32", batch)
    outer = with_border(inner, io)
    check_same_result(ParitySubject(inner, *size), outer, io=io, scan="native")
    for info in (outer.graph.input[0], outer.graph.output[0]):
        assert info.type.tensor_type.elem_type == KINDS[io]
    dims = outer.graph.input[0].type.tensor_type.shape.dim
    assert dims[3 if io == "u8-nhwc" else 1].dim_value == 3
    # TensorRT takes 8-bit tensors only where a cast is next to them.
    assert outer.graph.node[0].op_type == outer.graph.node[-1].op_type == "Cast"
    assert with_border(inner, "f32-nchw") == inner


def test_results_outside_of_the_range_are_clamped_and_rounded() -> None:
    """restored = image * 2 - 0.2, for all 256 levels."""
    nodes = [
        onnx.helper.make_node("Mul", ["image", "two"], ["doubled"]),
        onnx.helper.make_node("Sub", ["doubled", "offset"], ["restored"]),
    ]
    constants = [onnx.numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("two", 2), ("offset", 0.2))]
    border = [onnx.helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 16, 16]) for n in ("image", "restored")]
    body = onnx.helper.make_graph(nodes, "small", border[:1], border[1:], constants)
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    result = make_runner(with_border(model, "u8-nhwc"), "function", 1, RunTimes())(levels)
    expected = np.rint(np.clip(levels.astype(np.float64) / 255 * 2 - 0.2, 0, 1) * 255)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


def test_a_border_that_changes_the_result_is_noticed() -> None:
    inner = graph()
    outer = with_border(inner, "u8-nhwc")
    scale = next(tensor for tensor in outer.graph.initializer if tensor.name == "border_255")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.array(256, np.float32), scale.name))
    with pytest.raises(ParityError, match=r"border u8-nhwc\) changes the result: \d+ of 12288 values differ"):
        check_same_result(ParitySubject(inner, 1, 64, 64), outer, io="u8-nhwc", scan="native")


@pytest.fixture(scope="module")
def eight_bit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same network with both borders."""
    folder = tmp_path_factory.mktemp("border")
    for io in ("u8-nhwc", "f32-nchw"):
        serpent_export.export(variant="B", resolution="32", formats="onnx", io=io, out=folder)
    return folder / "serpent-b-32-fp32-u8-nhwc.onnx", folder / "serpent-b-32-fp32.onnx"


@pytest.mark.slow
def test_sessions_of_both_borders_restore_alike(eight_bit: tuple[Path, Path]) -> None:
    pictures = make_picture(30, 20, batch=2)  # padded, and picture by picture
    with open_session(eight_bit[0]) as small, open_session(eight_bit[1]) as usual:
        assert (small.info.io, usual.info.io) == ("u8-nhwc", "f32-nchw")
        as_bytes = small(pictures)
        as_floats = small(pictures.astype(np.float32) / np.float32(255))
        expected = usual(pictures)
    assert as_bytes.dtype == expected.dtype == np.uint8
    assert as_floats.dtype == np.float32
    np.testing.assert_array_equal(as_bytes, expected)
    np.testing.assert_array_equal(np.rint(as_floats * 255), as_bytes)


@pytest.mark.slow
def test_the_manifest_records_the_border_and_verify_allows_for_it(
    eight_bit: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads(eight_bit[0].with_suffix(".json").read_text())["io"] == "u8-nhwc"
    result = verify_file(eight_bit[0])
    assert result.passed
    (case,) = result.cases
    assert 0.4 / 255 < case.max_error <= case.max_limit < 0.501 / 255
    monkeypatch.setattr(sys, "argv", ["serpent-inspect", str(eight_bit[0])])
    with pytest.raises(SystemExit) as leaving:
        run_inspect()
    assert not leaving.value.code
    assert "io               u8-nhwc" in capsys.readouterr().out


def test_a_picture_in_f16_is_certified_as_it_is_seen() -> None:
    _, picture = picture_recipe(32, 32)
    image = from_border(to_border(picture, "f16-nchw"), "f16-nchw")
    assert not np.array_equal(image, picture)
    np.testing.assert_array_equal(image, from_border(to_border(image, "f16-nchw"), "f16-nchw"))


@pytest.mark.parametrize(
    ("io", "bits", "kind"),
    [
        ("u8-nhwc", 8, None),
        ("u8-nhwc", 10, "10-bit"),
        ("u8-nhwc", 32, "float"),
        ("f16-nchw", 10, None),
        ("f16-nchw", 16, "16-bit"),
        ("f32-nchw", 32, None),
    ],
)
def test_samples_that_a_border_rounds_are_named(io: str, bits: int, kind: str | None) -> None:
    session = FakeSession()
    session.info = dataclasses.replace(session.info, io=io)
    found = restore_picture(session, Picture(np.zeros((8, 8, 3), np.float32), bits=bits)).notes
    expected = [] if kind is None else [f"fake.onnx takes and gives {io}: the {kind} samples were rounded to that"]
    assert list(found) == expected
