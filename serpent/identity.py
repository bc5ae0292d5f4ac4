"""The scan operator's identity in ONNX files and TensorRT plans: one place for exporter, runtime and plugin."""

NAME = "SelectiveScan2D"
"""Operator type of the ONNX node, name of its function and of the TensorRT plugin."""

NAMESPACE = "serpent"
"""ONNX domain and plugin namespace."""

VERSION = "1"
"""Operator version; a change of contract is a new version beside this one."""

INPUTS = ("x", "x_dbl", "dt_weight", "dt_bias", "A", "D_skip")
"""Inputs in order; shapes and types are those of ``serpent/scan.h``, without f64."""
