"""From the PyTorch network to a raw ONNX graph, through the dynamo exporter."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import torch
from onnx import defs
from onnxscript.values import Op, Opset

from serpent.identity import INPUTS, NAME, NAMESPACE, VERSION
from serpent.model import Serpent, set_precision, set_scan_backend
from serpent.model.blocks import SS2D
from serpent.shapes import ShapeProfile

OPSETS = {"fp32": 20, "fp16": 20, "bf16": 22}
"""Opset by precision: 20 has Gelu; Conv takes bfloat16 from 22 on."""


class _FoldedSS2D(SS2D):
    """SS2D whose decay rates are a constant, so that the graph holds A instead of A_log."""

    A: torch.Tensor

    def decay_rates(self) -> torch.Tensor:
        return self.A


def fold_for_export(model: Serpent, precision: str) -> Serpent:
    """A copy of ``model`` in ``precision`` with A = -exp(A_log) folded; the original is untouched.

    Its scans are the operator, whatever runs those of ``model``.
    """
    folded = set_scan_backend(set_precision(copy.deepcopy(model), precision).eval(), "native")
    for module in folded.modules():
        if isinstance(module, SS2D):
            module.register_buffer("A", module.decay_rates().detach())
            module.__class__ = _FoldedSS2D
    return folded


def trace(model: Serpent, profile: ShapeProfile, precision: str) -> onnx.ModelProto:
    """Export the network as the exporter gives it; ``canonical.finish`` makes the file of it.

    Args:
        model: f32 network.
        profile: static, or with ranges that become symbolic dimensions.
        precision: "fp32", "fp16" or "bf16" inside the network; input and output stay f32.

    Returns:
        A graph image (B, 3, H, W) -> restored (B, 3, H, W), with one ``serpent::SelectiveScan2D`` node per scan.
    """
    height, width, batch = _traced_sizes(profile)
    image = torch.zeros(batch, model.config.in_channels, height, width)
    table: dict[Any, Any] = {torch.ops.serpent.selective_scan_2d.default: _scan_translation()}
    with _quiet(), torch.inference_mode():
        program = torch.onnx.export(
            fold_for_export(model, precision),
            (image,),
            dynamo=True,
            opset_version=OPSETS[precision],
            custom_translation_table=table,
            input_names=["image"],
            output_names=["restored"],
            dynamic_shapes=_dynamic_shapes(profile),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _scan_translation() -> Any:
    """The exporter's translation of the torch operator: one node in our domain."""
    parameter = defs.OpSchema.FormalParameter
    string = defs.OpSchema.AttrType.STRING
    schema = defs.OpSchema(
        NAME,
        NAMESPACE,
        int(VERSION),
        inputs=[parameter(name, "T" if name in ("x", "x_dbl") else "S") for name in INPUTS],
        outputs=[parameter("y", "T")],
        type_constraints=[
            ("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "storage type"),
            ("S", ["tensor(float)"], "scan weights"),
        ],
        attributes=[
            defs.OpSchema.Attribute(name, string, required=False) for name in ("plugin_namespace", "plugin_version")
        ],
    )
    node = Op(Opset(NAMESPACE, 1), NAME, schema)

    def translate(x: Any, x_dbl: Any, dt_weight: Any, dt_bias: Any, A: Any, D_skip: Any) -> Any:
        # TensorRT prefers the plugin to the function only for nodes that carry plugin_namespace.
        names = {"plugin_namespace": NAMESPACE, "plugin_version": VERSION}
        return node(x, x_dbl, dt_weight, dt_bias, A, D_skip, **names)

    return translate


def _traced_sizes(profile: ShapeProfile) -> tuple[int, int, int]:
    # A dynamic dimension traced at size 1, or at the size of another one, would be specialised to it.
    unit = profile.multiple
    height = profile.height.min if profile.height.is_static else 3 * unit
    width = profile.width.min if profile.width.is_static else 5 * unit
    return height, width, profile.batch.min if profile.batch.is_static else 2


def _dynamic_shapes(profile: ShapeProfile) -> Any:
    dims: dict[int, Any] = {}
    if not profile.batch.is_static:
        # From 1 whatever the profile says: bounds belong to the engine, the graph takes any size.
        dims[0] = torch.export.Dim("batch")
    for axis, name, side in ((2, "h", profile.height), (3, "w", profile.width)):
        if not side.is_static:
            dims[axis] = profile.multiple * torch.export.Dim(name)
    return (dims,) if dims else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on optional packages and its own deprecations from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
