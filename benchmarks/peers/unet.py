"""The U-Net of fastMRI (arXiv 1811.08839, section 5.2; arXiv 1505.04597), for colour pictures."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from peers.sides import check_sides

POOLS = 4
_LEAST_DEVIATION = 1e-6  # of a channel that is constant


class UNet(nn.Module):
    """Convolutions at 1 + POOLS scales; channels double where the resolution halves.

    No residual: the picture comes out of the last convolution. Instance norm takes the mean of each channel away, and
    with it the brightness of a picture, which such a network can only guess at from its borders. fastMRI's NormUnet
    takes mean and deviation of each channel off its input and puts them back onto its output; so does ``normalised``.

    Args:
        channels: c, features at full resolution.
        normalised: as NormUnet does; adds no parameter.
    """

    # Four halvings need 16; at 16 x 16 the coarsest scale is one pixel, and one pixel has no variance to normalise by.
    size_multiple = 2 ** (POOLS + 1)

    def __init__(self, channels: int, *, normalised: bool = False) -> None:
        super().__init__()
        self.normalised = normalised
        widths = [channels * 2**scale for scale in range(POOLS + 1)]
        self.down = nn.ModuleList(_convolutions(before, after) for before, after in pairwise([3, *widths]))
        steps = list(pairwise(reversed(widths)))
        self.expand = nn.ModuleList(_activated(_doubling(coarse, fine), fine) for coarse, fine in steps)
        self.up = nn.ModuleList(_convolutions(2 * fine, fine) for _, fine in steps)
        self.head = nn.Conv2d(channels, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to the same shape and dtype; UsageError where a side is no multiple of ``size_multiple``."""
        check_sides(image, self.size_multiple)
        if not self.normalised:
            return self._restored(image).to(image.dtype)
        deviation, mean = torch.std_mean(image, dim=(2, 3), keepdim=True)
        deviation = deviation + _LEAST_DEVIATION
        return (self._restored((image - mean) / deviation) * deviation + mean).to(image.dtype)

    def _restored(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.down[:-1]:
            x = block(x)
            skips.append(x)
            x = nn.functional.avg_pool2d(x, 2)
        x = self.down[-1](x)
        for expand, block in zip(self.expand, self.up, strict=True):
            x = block(torch.cat([expand(x), skips.pop()], dim=1))
        restored: Tensor = self.head(x)
        return restored


def _activated(convolution: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.InstanceNorm2d(channels), nn.LeakyReLU(0.2, inplace=True))


def _doubling(before: int, after: int) -> nn.Module:
    return nn.ConvTranspose2d(before, after, 2, stride=2, bias=False)


def _convolutions(before: int, after: int) -> nn.Sequential:
    first = nn.Conv2d(before, after, 3, padding=1, bias=False)
    second = nn.Conv2d(after, after, 3, padding=1, bias=False)
    return nn.Sequential(_activated(first, after), _activated(second, after))


def unet32() -> UNet:
    """U-Net(32), 7.757 M parameters."""
    return UNet(32)


def unet32_normalised() -> UNet:
    """U-Net(32) that is told brightness and contrast, as fastMRI's NormUnet is."""
    return UNet(32, normalised=True)


def unet128() -> UNet:
    """U-Net(128), 124.10 M parameters."""
    return UNet(128)
