"""Restormer (arXiv 2111.09881): a U-Net of blocks whose attention runs over channels. Feature maps are (B, C, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from peers.sides import check_sides


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel, with weight and bias."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelAttention(nn.Module):
    """softmax(t Q K^T) V with channels for tokens, rows of Q and K of unit length, t learned for each head (MDTA)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Sequential(_conv(channels, 3 * channels, 1), _depthwise(3 * channels))
        self.proj = _conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        heads = self.temperature.shape[0]
        q, k, v = self.qkv(x).reshape(x.shape[0], 3, heads, x.shape[1] // heads, -1).unbind(1)
        mixed = (_unit_rows(q) @ _unit_rows(k).transpose(-1, -2) * self.temperature).softmax(dim=-1) @ v
        return self.proj(mixed.reshape(x.shape))  # type: ignore[no-any-return]


class GatedFeedForward(nn.Module):
    """W3 (GELU(a) * b), where a and b are the halves of a depth-wise convolution of W1 x (GDFN)."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.spread = nn.Sequential(_conv(channels, 2 * hidden, 1), _depthwise(2 * hidden))
        self.proj = _conv(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        gate, value = self.spread(x).chunk(2, dim=1)
        return self.proj(nn.functional.gelu(gate) * value)  # type: ignore[no-any-return]


class Block(nn.Module):
    """x += attention(LN(x)); x += feed_forward(LN(x))."""

    def __init__(self, channels: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.attention = nn.Sequential(ChannelNorm(channels), ChannelAttention(channels, heads))
        self.feed_forward = nn.Sequential(ChannelNorm(channels), GatedFeedForward(channels, expansion))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        x = x + self.attention(x)
        return x + self.feed_forward(x)  # type: ignore[no-any-return]


class Restormer(nn.Module):
    """image + the output of a U-Net of four scales, whose decoder keeps 2 C channels at full resolution.

    Args:
        channels: C, features at full resolution; doubled at each coarser scale.
        blocks: number of blocks at each scale, finest first, the same in encoder and decoder.
        heads: attention heads at each scale.
        refinement: number of blocks after the decoder.
        expansion: width of the feed-forward's gated layer over that of its input.
    """

    size_multiple = 8

    def __init__(
        self,
        channels: int = 48,
        blocks: tuple[int, int, int, int] = (4, 6, 6, 8),
        heads: tuple[int, int, int, int] = (1, 2, 4, 8),
        refinement: int = 4,
        expansion: float = 2.66,
    ) -> None:
        super().__init__()

        def stack(width: int, scale: int, depth: int) -> nn.Sequential:
            return nn.Sequential(*(Block(width, heads[scale], expansion) for _ in range(depth)))

        widths = [channels * 2**scale for scale in range(4)]
        decoded = [2 * channels, *widths[1:3]]  # the finest scale keeps its skip beside it, the others mix it in
        self.embed = _conv(3, channels, 3)
        self.encoder = nn.ModuleList(stack(widths[scale], scale, blocks[scale]) for scale in range(4))
        self.down = nn.ModuleList(nn.Sequential(_conv(fine, fine // 2, 3), nn.PixelUnshuffle(2)) for fine in widths[:3])
        # These three are indexed by the scale they arrive at.
        self.up = nn.ModuleList(
            nn.Sequential(_conv(coarse, 2 * coarse, 3), nn.PixelShuffle(2)) for coarse in widths[1:]
        )
        self.mix = nn.ModuleList([nn.Identity(), *(_conv(2 * width, width, 1) for width in decoded[1:])])
        self.decoder = nn.ModuleList(stack(decoded[scale], scale, blocks[scale]) for scale in range(3))
        self.refinement = stack(decoded[0], 0, refinement)
        self.head = _conv(decoded[0], 3, 3)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to the same shape and dtype; UsageError where a side is no multiple of ``size_multiple``."""
        check_sides(image, self.size_multiple)
        x, skips = self.embed(image), []
        for scale, down in enumerate(self.down):
            x = self.encoder[scale](x)
            skips.append(x)
            x = down(x)
        x = self.encoder[-1](x)
        for scale in (2, 1, 0):
            x = self.mix[scale](torch.cat([self.up[scale](x), skips.pop()], dim=1))
            x = self.decoder[scale](x)
        return image + self.head(self.refinement(x)).to(image.dtype)  # type: ignore[no-any-return]


def _conv(before: int, after: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, size, padding=size // 2, bias=False)


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)


def _unit_rows(x: Tensor) -> Tensor:
    # At least f32: fp16 has no number as small as the bound that keeps a row of zeros from becoming 0 / 0.
    return nn.functional.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1).to(x.dtype)


def restormer() -> Restormer:
    """Restormer, 26.13 M parameters: the published network for motion deblurring (layer norm with bias)."""
    return Restormer()
