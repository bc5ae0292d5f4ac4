"""How well a network does in the middle of its training, on pictures that it does not learn from."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from serpent.evaluation import DegradedDigest, Pairs
from serpent.metrics import psnr, ssim
from serpent.train.samples import to_tensor

_MOST = 120.0
"""Decibels that a picture counts at most: one restored to the last bit (black, after clipping) has infinitely many."""


class Validation:
    """Some pairs, degraded once and kept.

    Args:
        pairs: of one size.
        most: at most so many of them, spread evenly.

    Attributes:
        digest: of the degraded pictures.

    Raises:
        PictureError: a picture cannot be read, or is smaller than the crop.
    """

    def __init__(self, pairs: Pairs, most: int) -> None:
        places = np.linspace(0, len(pairs) - 1, min(most, len(pairs))).round().astype(int)
        self._pairs = [pairs.pair(pairs.names[place]) for place in places]
        degraded = DegradedDigest()
        for pair in self._pairs:
            degraded.add(pair)
        self.digest = degraded.hexdigest()

    def measure(self, network: nn.Module, device: torch.device, rank: int, world: int) -> tuple[float, float, int]:
        """Sums of PSNR (decibels) and SSIM over this process's share of the pairs, and their number."""
        mine = self._pairs[rank::world]
        sums = [0.0, 0.0]
        with torch.inference_mode():
            for pair in mine:
                restored = network(to_tensor([pair.degraded]).to(device)).float().clamp(0, 1).cpu()
                result = restored[0].permute(1, 2, 0).numpy()
                sums[0] += min(psnr(pair.target, result), _MOST)
                sums[1] += ssim(pair.target, result)
        return sums[0], sums[1], len(mine)
