"""Which graphs the certificate runs, and the proof that a smaller one is the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from serpent.errors import ParityError
from serpent.shapes import ShapeProfile
from serpent_export.rescale import check_same_but_shapes
from serpent_export.subjects import choose_subjects
from traced import graph, profile


def no_trace(_: ShapeProfile) -> onnx.ModelProto:
    raise AssertionError("no other size is needed")


def sizes(subjects: list) -> list[tuple[int, int, int]]:  # type: ignore[type-arg]
    return [(subject.batch, subject.height, subject.width) for subject in subjects]


def test_static_file_is_run_as_it_is() -> None:
    model = graph()
    subjects, description = choose_subjects(model, profile(), no_trace)
    assert sizes(subjects) == [(1, 64, 64)]
    assert subjects[0].model is model
    assert description == "this file"


@pytest.mark.parametrize(
    ("variant", "resolution", "batch", "expected"),
    [
        pytest.param("B", "64:256:1024", "1:1:4", [(1, 256, 256), (3, 256, 512)], id="wide"),
        pytest.param("H", "256:512:2048", "1", [(1, 256, 256), (1, 264, 512)], id="one-picture"),
        pytest.param("B", "64:64:128", "1", [(1, 128, 128), (1, 96, 128)], id="narrow-below"),
        pytest.param("B", "512:1024:2048", "1", [(1, 512, 512), (1, 512, 544)], id="from-512"),
        pytest.param("B", "1024:1024:2048", "1", [(1, 256, 256), (1, 256, 512)], id="above-512"),
        pytest.param("B", "64x32:64x64:64x64", "1", [(1, 64, 64), (1, 64, 32)], id="height-fixed"),
        pytest.param("B", "32x64:64x64:64x64", "1", [(1, 64, 64), (1, 32, 64)], id="width-fixed"),
        pytest.param("B", "64x64:64x64:64x128", "1", [(1, 64, 128), (1, 64, 96)], id="one-side-narrow"),
        pytest.param("B", "64x64:64x64:64x96", "1", [(1, 64, 96), (1, 64, 96)], id="one-size-not-square"),
        pytest.param(
            "B", "1024x512:1024x768:1024x1024", "1", [(1, 1024, 512), (1, 1024, 544)], id="large-height-fixed"
        ),
        pytest.param("B", "64", "1:1:8", [(1, 64, 64), (3, 64, 64)], id="batch-alone"),
    ],
)
def test_dynamic_file_is_run_at_two_sizes(
    variant: str, resolution: str, batch: str, expected: list[tuple[int, int, int]]
) -> None:
    model = graph()  # the choice looks at the profile only
    subjects, _ = choose_subjects(model, profile(variant, resolution, batch), no_trace)
    assert sizes(subjects) == expected


def test_large_static_file_is_run_at_smaller_sizes_after_comparison() -> None:
    asked: list[tuple[int, int]] = []

    def trace_at(size: ShapeProfile) -> onnx.ModelProto:
        asked.append((size.height.min, size.width.min))
        return graph("B", "96")

    subjects, description = choose_subjects(graph(), profile("B", "1024"), trace_at)
    assert asked == [(256, 256), (256, 512)]
    assert "image size rewritten" in description
    assert sizes(subjects) == [(1, 256, 256), (1, 256, 512)]


@pytest.mark.parametrize(
    ("resolution", "expected"),
    [("1024", [(1, 1024, 1024)]), ("1024:1024:2048", [(1, 1024, 1024), (1, 1024, 1056)])],
)
def test_on_request_a_large_file_is_run_at_its_own_sizes(resolution: str, expected: list[tuple[int, int, int]]) -> None:
    model = graph()
    subjects, description = choose_subjects(model, profile("B", resolution), no_trace, full_size=True)
    assert sizes(subjects) == expected
    assert all(subject.model is model for subject in subjects)
    assert description == "this file"


def test_two_sizes_of_one_network_are_the_same_graph() -> None:
    check_same_but_shapes(graph("B", "64"), graph("B", "96"))


def test_another_weight_is_not_the_same_graph() -> None:
    other = graph("B", "96")
    tensor = max(other.graph.initializer, key=lambda t: len(t.raw_data))
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = np.nextafter(values.flat[0], np.inf, dtype=np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(ParityError, match="differ in more than shape constants: .* node"):
        check_same_but_shapes(graph("B", "64"), other)


def test_a_target_shape_that_does_not_scale_with_the_image_is_found() -> None:
    other = graph("B", "96")
    reshape = next(node for node in other.graph.node if node.op_type == "Reshape")
    tensor = next(t for t in other.graph.initializer if t.name == reshape.input[1])
    target = numpy_helper.to_array(tensor).copy()
    target[1], target[-1] = target[1] // 2, target[-1] * 2  # the same number of elements
    tensor.CopyFrom(numpy_helper.from_array(target, tensor.name))
    with pytest.raises(ParityError, match="Reshape and Reshape"):
        check_same_but_shapes(graph("B", "64"), other)


@pytest.mark.parametrize("change", ["operator", "attribute", "source", "missing", "function", "output"])
def test_any_other_difference_is_found(change: str) -> None:
    other = graph("B", "96")
    nodes = other.graph.node
    if change == "operator":
        next(n for n in nodes if n.op_type == "Sigmoid").op_type = "Tanh"
    elif change == "attribute":
        norm = next(n for n in nodes if n.op_type == "LayerNormalization")
        next(a for a in norm.attribute if a.name == "epsilon").f = 1e-3
    elif change == "source":
        add = next(n for n in nodes if n.op_type == "Mul")
        add.input[0], add.input[1] = add.input[1], add.input[0]
    elif change == "missing":
        del nodes[-1]
    elif change == "function":
        other.functions[0].node[0].op_type = "Identity"
    else:
        other.graph.output[0].name = nodes[3].output[0]
    with pytest.raises(ParityError, match="the graphs differ"):
        check_same_but_shapes(graph("B", "64"), other)
