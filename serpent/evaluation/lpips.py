"""LPIPS: the distance of two pictures in the features of AlexNet.

Zhang, Isola, Efros, Shechtman, Wang: The Unreasonable Effectiveness of Deep Features as a Perceptual Metric. CVPR 2018,
section 3, version 0.1. With f_l the features after the l-th of five ReLUs, each pixel's divided by their norm over the
channels, and w_l a learned weight per channel,

    d(x, y) = sum over l of mean over pixels of sum over channels of w_l (f_l(x) - f_l(y))^2.

The weights are not part of this package; docs/evaluation.md says how to make the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serpent.errors import ArgumentError, ModelFileError
from serpent.extras import require

LPIPS_SMALLEST = 31
"""Least side of a picture, pixels: below, nothing is left for the last layers."""

_CONVOLUTIONS = (  # name in the published package, shape of its weight, stride, padding
    ("net.slice1.0", (64, 3, 11, 11), 4, 2),
    ("net.slice2.3", (192, 64, 5, 5), 1, 2),
    ("net.slice3.6", (384, 192, 3, 3), 1, 1),
    ("net.slice4.8", (256, 384, 3, 3), 1, 1),
    ("net.slice5.10", (256, 256, 3, 3), 1, 1),
)
_POOLED = ("net.slice2.3", "net.slice3.6")  # a maximum over 3 x 3, stride 2, comes before these
_MEAN, _DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures in [-1, 1], by channel
_EPSILON = 1e-10
_HINT = "docs/evaluation.md says how to make the file from the published package"


def lpips_tensors() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a weights file holds, all float32."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (name, shape, _, _) in enumerate(_CONVOLUTIONS):
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1], _head(layer): (1, shape[0], 1, 1)}
    return shapes


class Lpips:
    """The distance, called with two pictures. Runs on the CPU in float32.

    Args:
        weights: a ``.safetensors`` file with :func:`lpips_tensors`.

    Raises:
        MissingExtraError: PyTorch is not installed.
        ModelFileError: the file is missing or damaged, or its tensors are not those expected.
    """

    def __init__(self, weights: Path) -> None:
        require("torch", "torch", "LPIPS")
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if not weights.is_file():
            problem = "is a folder" if weights.is_dir() else "does not exist"
            raise ModelFileError(f"the LPIPS weights {weights} {problem}", hint=_HINT)
        try:
            self._tensors = load_file(weights)
        except (SafetensorError, OSError) as error:
            raise ModelFileError(f"{weights} is no safetensors file, or damaged: {error}", hint=_HINT) from None
        _check(weights, {name: tuple(tensor.shape) for name, tensor in self._tensors.items()})
        self._tensors = {name: tensor.float() for name, tensor in self._tensors.items()}

    def __call__(self, reference: NDArray[np.float32], image: NDArray[np.float32]) -> float:
        """The distance, at least 0 with weights w_l of at least 0.

        Args:
            reference: (H, W, 3) float32 in [0, 1], H and W at least :data:`LPIPS_SMALLEST`.
            image: the same.

        Raises:
            ArgumentError: the shapes differ, or are too small.
        """
        import torch
        from torch.nn import functional

        if reference.shape != image.shape or min(reference.shape[:2]) < LPIPS_SMALLEST:
            raise ArgumentError(
                f"LPIPS of {reference.shape} and {image.shape}; expected the same shape, "
                f"and at least {LPIPS_SMALLEST}x{LPIPS_SMALLEST} pixels"
            )
        both = torch.from_numpy(np.stack([reference, image])).permute(0, 3, 1, 2) * 2 - 1
        features = (both - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_DEVIATION)[:, None, None]
        total = 0.0
        with torch.inference_mode():
            for layer, (name, _, stride, padding) in enumerate(_CONVOLUTIONS):
                if name in _POOLED:
                    features = functional.max_pool2d(features, 3, 2)
                weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
                features = functional.conv2d(features, weight, bias, stride, padding).relu()
                unit = features / (features.square().sum(1, keepdim=True).sqrt() + _EPSILON)
                total += float(functional.conv2d((unit[:1] - unit[1:]).square(), self._tensors[_head(layer)]).mean())
        return total


def _head(layer: int) -> str:
    return f"lin{layer}.model.1.weight"


def _check(path: Path, found: dict[str, tuple[int, ...]]) -> None:
    expected = lpips_tensors()
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is not expected" for name in found if name not in expected]
    problems += [
        f"{name} is {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if problems:
        raise ModelFileError(f"{path} does not hold the weights of LPIPS: " + "; ".join(problems), hint=_HINT)
