"""Building blocks of the network. All feature maps are channels-last: (B, H, W, C)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from serpent.config import NUM_DIRECTIONS, SerpentConfig
from serpent.scan import BACKENDS


class SS2D(nn.Module):
    """Four-direction selective scan block (VMamba, arXiv 2401.10166, fig. 3; Serpent, section 3).

    (u, z) = in_proj(x); u = SiLU(dwconv(u)); y = selective_scan_2d(u, x_proj(u), ...);
    out = out_proj(LayerNorm(y) * SiLU(z)).

    Args:
        channels: c, input and output channels.
        config: gives D = ssm_expand * c, N, R and the size of the depth-wise convolution.

    Attributes:
        scan_backend: what runs the scan, a key of :data:`serpent.scan.BACKENDS`; no part of a checkpoint.
    """

    scan_backend = "native"

    def __init__(self, channels: int, config: SerpentConfig) -> None:
        super().__init__()
        inner = config.ssm_expand * channels
        d_state, dt_rank = config.state_size(channels), config.dt_rank(channels)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv = nn.Conv2d(inner, inner, config.conv_size, padding=config.conv_size // 2, groups=inner)
        self.x_proj = nn.Linear(inner, NUM_DIRECTIONS * (dt_rank + 2 * d_state), bias=False)
        self.dt_weight = nn.Parameter(torch.empty(NUM_DIRECTIONS, inner, dt_rank))
        self.dt_bias = nn.Parameter(torch.empty(NUM_DIRECTIONS, inner))
        self.A_log = nn.Parameter(torch.empty(NUM_DIRECTIONS, inner, d_state))
        self.D_skip = nn.Parameter(torch.ones(NUM_DIRECTIONS, inner))
        self.out_norm = nn.LayerNorm(inner, eps=1e-5)
        self.out_proj = nn.Linear(inner, channels, bias=False)
        self._reset_scan_parameters(dt_rank, d_state)

    @torch.no_grad()
    def _reset_scan_parameters(self, dt_rank: int, d_state: int) -> None:
        # Mamba's initialisation (arXiv 2312.00752, section 3.6): A = -(1 .. N), and dt at the start
        # log-uniform in [1e-3, 1e-1], reached through the inverse of softplus.
        self.A_log.copy_(torch.arange(1, d_state + 1, dtype=torch.float32).log().expand_as(self.A_log))
        nn.init.uniform_(self.dt_weight, -(dt_rank**-0.5), dt_rank**-0.5)
        low, high = math.log(1e-3), math.log(1e-1)
        dt = torch.exp(torch.rand_like(self.dt_bias) * (high - low) + low)
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def decay_rates(self) -> Tensor:
        """A = -exp(A_log), (4, D, N)."""
        return -torch.exp(self.A_log)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, c) to (B, H, W, c)."""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = self.conv(u.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        lean = overwrites()
        # The convolution chooses its memory layout; the scan takes one only.
        u = nn.functional.silu(u, inplace=lean).contiguous()
        if lean:
            z = nn.functional.silu(z)  # now, so that in_proj's result, of twice its size, does not outlast it
        scan = BACKENDS[self.scan_backend]
        y = scan(u, self.x_proj(u), self.dt_weight, self.dt_bias, self.decay_rates(), self.D_skip)
        if lean:
            del u
            y = self.out_norm(y)
            return self.out_proj(y.mul_(z))  # type: ignore[no-any-return]
        gated: Tensor = self.out_norm(y) * nn.functional.silu(z)
        return self.out_proj(gated)  # type: ignore[no-any-return]


class VSSBlock(nn.Module):
    """x += SS2D(LN(x)); x += W2 GELU(W1 LN(x)), the second line only where ``mlp_ratio`` > 0."""

    def __init__(self, channels: int, config: SerpentConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.ssm = SS2D(channels, config)
        hidden = config.mlp_width(channels)
        self.mlp = (
            nn.Sequential(
                nn.LayerNorm(channels, eps=1e-6), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
            )
            if hidden > 0
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, c) to (B, H, W, c)."""
        x = x + self.ssm(self.norm(x))
        if self.mlp is None:
            return x
        if not overwrites():
            return x + self.mlp(x)  # type: ignore[no-any-return]
        norm, widen, _, narrow = self.mlp
        return x.add_(narrow(torch.ops.aten.gelu_(widen(norm(x)))))


class Merge(nn.Module):
    """Halve the resolution: 2x2 pixels -> LN(4c) -> Linear to 2c (Swin's patch merging, arXiv 2103.14030)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.proj = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, c) to (B, H/2, W/2, 2c)."""
        batch, height, width, channels = x.shape
        # (row parity, column parity) with the column parity outermost: (0,0), (1,0), (0,1), (1,1).
        cells = x.reshape(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 4, 2, 5)
        return self.proj(self.norm(cells.flatten(3)))  # type: ignore[no-any-return]


class Expand(nn.Module):
    """Double the resolution: Linear c -> 2c, each pixel becomes 2x2 pixels of c/2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, c) to (B, 2H, 2W, c/2)."""
        return unfold_pixels(self.proj(x), 2)


class SkipMix(nn.Module):
    """Bring the encoder's features in: Linear(concat) ("catlin") or a sum ("add"), then LN."""

    def __init__(self, channels: int, config: SerpentConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(2 * channels, channels, bias=False) if config.skip == "catlin" else None
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Two (B, H, W, c) to one."""
        mixed = x + skip if self.proj is None else self.proj(torch.cat([x, skip], dim=-1))
        return self.norm(mixed)  # type: ignore[no-any-return]


def overwrites() -> bool:
    """Whether a tensor that nothing else reads may hold the next one: the same numbers in about half the memory.

    Never where gradients or an exporter's trace would see it.
    """
    return not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()


def unfold_pixels(x: Tensor, factor: int) -> Tensor:
    """(B, H, W, f*f*c) to (B, f*H, f*W, c); the channels hold (row in cell, column in cell, c)."""
    batch, height, width, channels = x.shape
    inner = channels // factor**2
    cells = x.reshape(batch, height, width, factor, factor, inner).permute(0, 1, 3, 2, 4, 5)
    return cells.reshape(batch, height * factor, width * factor, inner)
