"""How well a network does in the middle of its training, on pictures that it does not learn from."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from serpent.degradations import degrade, generator
from serpent.metrics import psnr, ssim
from serpent.train.photographs import Photographs
from serpent.train.recipe import Recipe
from serpent.train.samples import as_float, to_tensor


class Validation:
    """Centre crops of some pictures, degraded once and always alike.

    Args:
        photographs: where they come from.
        recipe: ``validate_crop`` and ``validate_pictures`` say how large and how many.
    """

    def __init__(self, photographs: Photographs, recipe: Recipe) -> None:
        count = min(recipe.validate_pictures, len(photographs))
        self._pairs: list[tuple[Tensor, Tensor]] = []
        side = recipe.validate_crop
        for index in np.linspace(0, len(photographs) - 1, count).round().astype(int):
            picture = photographs[int(index)]
            top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
            clean = np.ascontiguousarray(as_float(picture[top : top + side, left : left + side]))
            degraded = degrade(clean, recipe.task, generator(recipe.seed, photographs.names[int(index)]))
            self._pairs.append((to_tensor([degraded]), to_tensor([clean])))

    def measure(self, network: nn.Module, device: torch.device, rank: int, world: int) -> tuple[float, float, int]:
        """Sums of PSNR (decibels) and SSIM over this process's share of the pictures, and their number."""
        mine = self._pairs[rank::world]
        sums = [0.0, 0.0]
        with torch.inference_mode():
            for degraded, clean in mine:
                restored = network(degraded.to(device)).float().clamp(0, 1).cpu()
                pair = [tensor[0].permute(1, 2, 0).numpy() for tensor in (clean, restored)]
                sums[0] += psnr(pair[0], pair[1])
                sums[1] += ssim(pair[0], pair[1])
        return sums[0], sums[1], len(mine)
