"""Cost of one forward pass, counted from the configuration; stated in multiply-adds and scan operations."""

from __future__ import annotations

from dataclasses import dataclass

from serpent.config import NUM_DIRECTIONS, SerpentConfig


@dataclass(frozen=True)
class Cost:
    """Operations of one forward pass.

    Attributes:
        macs: multiply-adds of convolutions and linear layers, dt projection included.
        scan_flops: 9 N + 1 per (direction, channel, pixel), VMamba's convention for the recurrence.
        exps: exponentials of the recurrence, one per (direction, channel, pixel, state).
    """

    macs: int
    scan_flops: int
    exps: int

    @property
    def flops(self) -> int:
        """2 per multiply-add, plus the scan."""
        return 2 * self.macs + self.scan_flops

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.scan_flops + other.scan_flops, self.exps + other.exps)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.macs * times, self.scan_flops * times, self.exps * times)


def count_flops(config: SerpentConfig, height: int, width: int, batch: int = 1) -> Cost:
    """Cost of ``batch`` pictures of ``height`` x ``width`` pixels (normalisations and activations left out).

    Raises:
        UsageError: the size is no multiple of ``config.size_multiple``.
    """
    config.check_size(height, width)
    pixels = batch * height * width // config.patch_size**2  # at scale 0
    patch = config.in_channels * config.patch_size**2
    total = Cost(2 * pixels * patch * config.channels(0), 0, 0)  # embed and head
    lift = 1 if config.up_order == "post" else 0
    for scale in range(config.num_scales):
        tokens, c = pixels // 4**scale, config.channels(scale)
        merge = tokens // 4 * (4 * c) * (2 * c)
        expand = tokens // 4 * (2 * c) * (4 * c)
        mix = tokens * 2 * c * c if config.skip == "catlin" else 0
        total += Cost(merge + expand + mix, 0, 0)
        total += _block(config, c, tokens) * config.depth
        total += _block(config, config.channels(scale + lift), pixels // 4 ** (scale + lift)) * config.depth
    bottom = config.num_scales
    return total + _block(config, config.channels(bottom), pixels // 4**bottom) * config.depth


def _block(config: SerpentConfig, channels: int, tokens: int) -> Cost:
    inner = config.ssm_expand * channels
    d_state, dt_rank = config.state_size(channels), config.dt_rank(channels)
    rows = NUM_DIRECTIONS * inner * tokens
    projections = channels * 2 * inner + inner * NUM_DIRECTIONS * (dt_rank + 2 * d_state) + inner * channels
    mlp = 2 * channels * config.mlp_width(channels)
    macs = tokens * (projections + mlp + inner * config.conv_size**2) + rows * dt_rank
    return Cost(macs, rows * (9 * d_state + 1), rows * d_state)
