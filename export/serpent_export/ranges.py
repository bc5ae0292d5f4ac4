"""How large the 16-bit tensors of a graph become, measured on sample pictures, and which of them f16 cannot hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serpent import native
from serpent.errors import ParityError
from serpent.runtime.onnx_session import RunTimes, make_runner
from serpent.runtime.onnx_twins import f32_twin
from serpent.runtime.sample_picture import network_input, sample_pictures
from serpent_export.parity import ParitySubject
from serpent_export.progress import StageCallback, silent

F16_LARGEST = 65504.0
MARGIN = 4.0
"""Other pictures than the samples may drive a tensor further: what comes within 1/4 of the largest f16 stays in f32."""


@dataclass(frozen=True)
class Ranges:
    """What was measured.

    Attributes:
        peaks: largest magnitude over all samples, by the name of the f16 tensor.
        pictures: kinds of the samples.
        sizes: B, H, W of each run.
    """

    peaks: dict[str, float]
    pictures: tuple[str, ...]
    sizes: tuple[tuple[int, int, int], ...]

    @property
    def overflowing(self) -> tuple[str, ...]:
        """Tensors to keep in f32, in the graph's order. "not <=" rather than ">": a NaN counts."""
        return tuple(name for name, peak in self.peaks.items() if not peak * MARGIN <= F16_LARGEST)

    def to_manifest(self) -> dict[str, Any]:
        """Peaks to three digits: the last ones depend on the machine."""
        kept = set(self.overflowing)
        largest = max(((peak, name) for name, peak in self.peaks.items() if name not in kept), default=(0.0, ""))
        return {
            "what": f"largest magnitudes on sample pictures; tensors beyond {F16_LARGEST:g} / {MARGIN:g} stay in f32",
            "pictures": list(self.pictures),
            "sizes": [list(size) for size in self.sizes],
            "kept_in_f32": {name: float(f"{self.peaks[name]:.3g}") for name in self.overflowing},
            "largest_in_f16": {largest[1]: float(f"{largest[0]:.3g}")},
        }


def measure_ranges(subjects: Sequence[ParitySubject], on_stage: StageCallback = silent) -> Ranges:
    """Run the f32 twin of an f16 graph on the sample pictures and note how large each f16 tensor becomes.

    Args:
        subjects: the graph, f16 inside and f32 at its border, at each size to run.
        on_stage: called with what is being done.

    Raises:
        ParityError: a weight is beyond the range of f16.
    """
    names = half_tensors(subjects[0].model)
    peaks = np.zeros(len(names), np.float32)
    kinds: tuple[str, ...] = ()
    for subject in subjects:
        _check_weights(subject.model)
        run = make_runner(_peak_graph(subject.model, names), "native", native.default_threads(), RunTimes())
        samples = sample_pictures(subject.height, subject.width, batch=subject.batch)
        kinds = tuple(samples)
        for kind, picture in samples.items():
            on_stage(f"activation ranges at {subject.size}: {kind}")
            peaks = np.maximum(peaks, run(network_input(picture)))  # keeps a NaN
    sizes = tuple((subject.batch, subject.height, subject.width) for subject in subjects)
    return Ranges(dict(zip(names, peaks.tolist(), strict=True)), kinds, sizes)


def half_tensors(model: onnx.ModelProto) -> list[str]:
    """Names of the f16 results of the graph's nodes, in order."""
    graph = model.graph
    kinds = {info.name: info.type.tensor_type.elem_type for info in [*graph.value_info, *graph.output]}
    return [name for node in graph.node for name in node.output if kinds.get(name) == TensorProto.FLOAT16]


def _check_weights(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16 and not np.isfinite(numpy_helper.to_array(tensor)).all():
            raise ParityError(
                f"the weight {tensor.name} holds values beyond {F16_LARGEST:g}, the largest of f16",
                hint="export with --precision bf16 or fp32",
            )


def _peak_graph(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The f32 twin whose one output ``restored`` is the vector of max |tensor| for ``names``."""
    twin = f32_twin(model)
    graph = twin.graph
    for node in graph.node:
        node.output[:] = ["restored_picture" if name == "restored" else name for name in node.output]
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "peak_shape"))
    for index, name in enumerate(names):
        graph.node.extend(
            [
                helper.make_node("Abs", [name], [f"peak_abs_{index}"]),
                helper.make_node("ReduceMax", [f"peak_abs_{index}"], [f"peak_all_{index}"], keepdims=0),
                helper.make_node("Reshape", [f"peak_all_{index}", "peak_shape"], [f"peak_{index}"]),
            ]
        )
        graph.value_info.append(helper.make_tensor_value_info(f"peak_{index}", TensorProto.FLOAT, [1]))
    graph.node.append(
        helper.make_node("Concat", [f"peak_{index}" for index in range(len(names))], ["restored"], axis=0)
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("restored", TensorProto.FLOAT, [len(names)]))
    return twin
