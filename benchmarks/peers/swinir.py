"""SwinIR for restoration at full size (arXiv 2108.10257), on the shifted windows of Swin (arXiv 2103.14030).

Feature maps are channels-last, (B, H, W, C). L = WINDOW**2 is the number of pixels of a window, W their number.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from peers.sides import check_sides

WINDOW = 8
SHIFT = WINDOW // 2


class WindowAttention(nn.Module):
    """softmax(Q K^T / sqrt(d) + B) V within each window; B is learned, one value for each head and relative position.

    Args:
        channels: C, a multiple of ``heads``.
        heads: attention heads, of d = C / heads channels.
    """

    index: Tensor

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("index", _relative_positions(), persistent=False)

    def forward(self, x: Tensor, forbidden: Tensor | None) -> Tensor:
        """Mix the pixels of each window.

        Args:
            x: (B, W, L, C).
            forbidden: (W, 1, L, L), true where a query (row) must not see a key (column); None: all see all.

        Returns:
            (B, W, L, C).
        """
        batch, windows, pixels, channels = x.shape
        qkv = self.qkv(x).reshape(batch, windows, pixels, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # each (B, W, heads, L, d)
        bias = self.bias[self.index].permute(2, 0, 1)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + bias
        if forbidden is not None:
            scores = scores.masked_fill(forbidden, -torch.inf)
        mixed = scores.softmax(dim=-1) @ v
        return self.proj(mixed.transpose(2, 3).reshape(x.shape))  # type: ignore[no-any-return]


class SwinBlock(nn.Module):
    """x += attention(LN(x)); x += MLP(LN(x)); the windows begin at pixel 0, or at SHIFT in a shifted block."""

    def __init__(self, channels: int, heads: int, mlp_ratio: int, *, shifted: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.norm = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads)
        hidden = mlp_ratio * channels
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor, forbidden: Tensor) -> Tensor:
        """(B, H, W, C) to the same; ``forbidden`` is that of :func:`wrapped_pairs`."""
        height, width = x.shape[1:3]
        y = self.norm(x)
        if self.shifted:
            y = y.roll((-SHIFT, -SHIFT), dims=(1, 2))
        y = from_windows(self.attention(to_windows(y), forbidden if self.shifted else None), height, width)
        if self.shifted:
            y = y.roll((SHIFT, SHIFT), dims=(1, 2))
        x = x + y
        return x + self.mlp(x)  # type: ignore[no-any-return]


class ResidualGroup(nn.Module):
    """x + conv(blocks(x)): blocks with and without a shift in turn, then a 3x3 convolution (RSTB with "1conv")."""

    def __init__(self, channels: int, depth: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(channels, heads, mlp_ratio, shifted=number % 2 == 1) for number in range(depth)
        )
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, forbidden: Tensor) -> Tensor:
        """(B, H, W, C) to the same; ``forbidden`` is that of :func:`wrapped_pairs`."""
        y = x
        for block in self.blocks:
            y = block(y, forbidden)
        return x + _over_pixels(self.conv, y)


class SwinIR(nn.Module):
    """image + conv(features + conv(LN(groups(LN(features))))), where features = conv(image).

    The published code also subtracts a data set's mean colour from the input and, in training, drops whole branches at
    random. Neither is done here.

    Args:
        channels: C, a multiple of ``heads``.
        depths: attention blocks of each group.
        mlp_ratio: width of the MLP's hidden layer over C.
        heads: attention heads in every block.
    """

    size_multiple = WINDOW

    def __init__(self, channels: int, depths: tuple[int, ...], mlp_ratio: int, heads: int = 6) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, channels, 3, padding=1)
        self.embed_norm = nn.LayerNorm(channels)
        self.groups = nn.ModuleList(ResidualGroup(channels, depth, heads, mlp_ratio) for depth in depths)
        self.norm = nn.LayerNorm(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.Conv2d(channels, 3, 3, padding=1)
        self._reset_attention()

    @torch.no_grad()
    def _reset_attention(self) -> None:
        # As Swin does it; the convolutions keep torch's default.
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, WindowAttention):
                nn.init.trunc_normal_(module.bias, std=0.02)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to the same shape and dtype; UsageError where a side is no multiple of ``size_multiple``."""
        check_sides(image, self.size_multiple)
        forbidden = wrapped_pairs(image.shape[2], image.shape[3], image.device)
        features = self.embed(image)
        x = self.embed_norm(features.permute(0, 2, 3, 1))
        for group in self.groups:
            x = group(x, forbidden)
        features = features + self.conv(self.norm(x).permute(0, 3, 1, 2))
        return image + self.head(features).to(image.dtype)  # type: ignore[no-any-return]


def to_windows(x: Tensor) -> Tensor:
    """(B, H, W, C) to (B, windows, pixels of a window, C), both in row-major order."""
    batch, height, width, channels = x.shape
    cells = x.reshape(batch, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels)
    return cells.transpose(2, 3).reshape(batch, -1, WINDOW**2, channels)


def from_windows(x: Tensor, height: int, width: int) -> Tensor:
    """Undo :func:`to_windows`: to (B, height, width, C)."""
    cells = x.reshape(x.shape[0], height // WINDOW, width // WINDOW, WINDOW, WINDOW, x.shape[-1])
    return cells.transpose(2, 3).reshape(x.shape[0], height, width, x.shape[-1])


def wrapped_pairs(height: int, width: int, device: torch.device) -> Tensor:
    """Pairs of pixels that meet in a shifted window only because the roll wrapped one of them round.

    Returns:
        (windows, 1, L, L) of bool, in the order of :func:`to_windows` after the roll by -SHIFT.
    """
    rows = torch.arange(height, device=device) >= height - SHIFT
    columns = torch.arange(width, device=device) >= width - SHIFT
    sides = torch.stack(torch.broadcast_tensors(rows[:, None], columns[None, :]), dim=-1)
    wrapped = to_windows(sides[None])[0]  # (windows, L, 2): came round from the top, from the left
    return (wrapped[:, :, None] != wrapped[:, None, :]).any(dim=-1)[:, None]


def _relative_positions() -> Tensor:
    # (L, L): which of the (2 WINDOW - 1)**2 offsets leads from query (row) to key (column).
    place = torch.arange(WINDOW)
    rows, columns = (axis.flatten() for axis in torch.meshgrid(place, place, indexing="ij"))
    offsets = [axis[:, None] - axis[None, :] + WINDOW - 1 for axis in (rows, columns)]
    return offsets[0] * (2 * WINDOW - 1) + offsets[1]


def _over_pixels(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # type: ignore[no-any-return]


def swinir_b() -> SwinIR:
    """SwinIR-B, 3.328 M parameters: 96 channels in the published denoising configuration, 6 groups, MLP ratio 2."""
    return SwinIR(96, depths=(6,) * 6, mlp_ratio=2)


def swinir_l() -> SwinIR:
    """SwinIR-L, 11.504 M parameters: the published colour denoising network."""
    return SwinIR(180, depths=(6,) * 6, mlp_ratio=2)


def swinir_b_shallow() -> SwinIR:
    """SwinIR-B, 3.137 M parameters: 4 groups and MLP ratio 4, the defaults of the published class."""
    return SwinIR(96, depths=(6,) * 4, mlp_ratio=4)


def swinir_l_shallow() -> SwinIR:
    """SwinIR-L, 10.889 M parameters: 4 groups and MLP ratio 4, the defaults of the published class."""
    return SwinIR(180, depths=(6,) * 4, mlp_ratio=4)
