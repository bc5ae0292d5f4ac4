"""Sizes whose tensors TensorRT 10 cannot index are refused before a build."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest

from serpent.errors import UsageError
from serpent.runtime.tensorrt_library import RTX, TRT
from serpent.shapes import MAX_ELEMENTS, Range, ShapeProfile
from serpent_export import volumes
from serpent_export.io_border import with_border
from serpent_export.volumes import check_volumes, largest_volume
from traced import graph, profile

FREE = ("32:64:128", "1:1:4")


def free_graph() -> onnx.ModelProto:
    return graph("B", FREE[0], "fp32", FREE[1])


def at(side: int, width: int | None = None) -> ShapeProfile:
    free = profile("B", *FREE)
    return replace(free, batch=Range(1, 1, 1), height=Range(32, 64, side), width=Range(32, 64, width or side))


@pytest.fixture
def tensorrt_10(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "check_installed", lambda _flavour: "10.16.1")


def test_the_largest_tensor_is_that_of_the_graph_itself() -> None:
    """A static graph records its shapes; the same network with free sizes must give the same number."""
    static = graph("B", "96")
    sizes = [
        (info.name, [dim.dim_value for dim in info.type.tensor_type.shape.dim])
        for info in [*static.graph.value_info, *static.graph.output]
    ]
    expected = max(batch * a * b * c for _, dims in sizes if len(dims) == 4 for batch, a, b, c in [dims])
    assert largest_volume(static, profile("B", "96")).elements == expected
    free = free_graph()
    assert largest_volume(free, at(96)).elements == expected
    assert largest_volume(with_border(free, "u8-nhwc"), at(96)).elements == expected


def test_elements_grow_with_pixels_and_pictures() -> None:
    free = free_graph()
    one = largest_volume(free, at(64)).elements
    assert largest_volume(free, at(128)).elements == 4 * one
    assert largest_volume(free, replace(at(64), batch=Range(1, 1, 4))).elements == 4 * one


@pytest.mark.usefixtures("tensorrt_10")
def test_the_largest_size_that_fits_is_named_and_does_fit() -> None:
    free = free_graph()
    with pytest.raises(
        UsageError, match=r"at 20000x20000 the tensor \w+ has 3200000000 elements, more than the"
    ) as caught:
        check_volumes(free, at(20000), TRT)
    assert caught.value.hint is not None
    fitting = int(caught.value.hint.split("fits is ")[1].split(";")[0])
    check_volumes(free, at(fitting), TRT)
    assert largest_volume(free, at(fitting + 32)).elements > MAX_ELEMENTS
    with pytest.raises(UsageError, match="the largest size that fits is 11584x23168"):
        check_volumes(free, at(16000, 32000), TRT)


def test_other_versions_have_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    huge: onnx.ModelProto = free_graph()
    check_volumes(huge, at(20000), RTX)
    monkeypatch.setattr(volumes, "check_installed", lambda _flavour: "11.1.0")
    check_volumes(huge, at(20000), TRT)
