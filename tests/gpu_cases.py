"""What the tests in tests/gpu share: the shapes of the network, moving arguments, bounds, forced variants."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scan_cases import Arguments, Sizes, arguments
from serpent.errors import SerpentError

scan: Callable[..., Tensor] = torch.ops.serpent.selective_scan_2d

STORAGE = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

# D, N, R of the four scales; their pictures have 512 / P, 256 / P, 128 / P and 64 / P pixels a side for a 512x512
# image, with the patch size P of the variant.
SCALES = ((64, 6, 2), (128, 11, 4), (256, 22, 8), (512, 43, 16))
PATCHES = {"H": 1, "L": 2, "B": 4}


def network_sizes(variant: str, scale: int, image: int) -> Sizes:
    """The scan of ``variant`` at ``scale`` for a square image of that many pixels a side."""
    side = max(1, image // PATCHES[variant] // 2**scale)
    return Sizes(1, side, side, *SCALES[scale])


def by_device(device: torch.device, gpu: int, cpu: int) -> int:
    """A size that is worth a GPU's while, or one that the CPU does in no time."""
    return gpu if device.type == "cuda" else cpu


def moved(inputs: Arguments, device: torch.device) -> Arguments:
    """The arguments on ``device``."""
    x, x_dbl, dt_weight, dt_bias, A, D_skip = (tensor.to(device) for tensor in inputs)
    return x, x_dbl, dt_weight, dt_bias, A, D_skip


def made(sizes: Sizes, dtype: torch.dtype, device: torch.device, *, seed: int = 0) -> Arguments:
    """Arguments on ``device``."""
    return moved(arguments(sizes, dtype, seed=seed), device)


def assert_channels_within(y: Tensor, truth: Tensor, bound: float) -> None:
    """In every channel |y - truth| <= bound |truth|, L2, plus half a unit in the last place of the storage type."""
    assert y.shape == truth.shape
    truth, error = truth.double().flatten(0, -2), (y.double() - truth).flatten(0, -2)
    storage = torch.finfo(y.dtype)
    half_unit = storage.eps / 2 * truth.abs() + storage.smallest_normal * storage.eps / 2
    allowed = bound * truth.norm(dim=0) + (half_unit.norm(dim=0) if y.dtype.itemsize == 2 else 0)
    share, channel = (error.norm(dim=0) / allowed).max(dim=0)
    assert float(share) <= 1, f"channel {int(channel)}: {float(share):.3g} times the error allowed"


def variables(device: torch.device) -> str:
    """The environment variable that forces a kernel variant on ``device``."""
    return "SERPENT_CUDA_VARIANT" if device.type == "cuda" else "SERPENT_ISA"


def variants(device: torch.device) -> list[str]:
    """Every kernel variant of the library, as it lists them when it is asked for an unknown one."""
    with pytest.raises(SerpentError, match="unheard-of") as refusal:
        forced("unheard-of", made(Sizes(), torch.float32, device))
    (names,) = re.findall(r"(?:known are|may be) (.*?)(?:;|$)", str(refusal.value))
    return re.split(r",\s*|\s+and\s+", re.sub(r"\s*\(.*?\)", "", names).strip())


def forced(variant: str, inputs: Arguments) -> Tensor | None:
    """The scan by ``variant``; None where it does not take these N and R, or this processor lacks it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(variables(inputs[0].device), variant)
        try:
            return scan(*inputs)
        except SerpentError as refusal:
            if re.search(r"' takes d_state|this processor lacks it", refusal.message):
                return None
            raise


# At least one that each variant takes, with channels that leave a tile ragged and tokens that leave a chunk so.
VARIANT_SIZES = [
    Sizes(2, 3, 173, 37, 6, 2),
    Sizes(1, 7, 41, 70, 11, 4),
    Sizes(1, 11, 25, 66, 22, 8),
    Sizes(1, 9, 29, 40, 43, 16),
    Sizes(1, 7, 38, 33, 17, 5),
]
