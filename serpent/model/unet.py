"""Serpent: a U-Net of visual state-space blocks (arXiv 2403.17902)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from serpent.config import SerpentConfig
from serpent.errors import UsageError
from serpent.model.blocks import SS2D, Expand, Merge, SkipMix, VSSBlock, unfold_pixels
from serpent.scan import check_backend

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp64": torch.float64}


class Serpent(nn.Module):
    """The network, in the reading of the paper that ``config`` selects.

    embed (P x P patches) -> num_scales x (blocks, merge) -> bottleneck blocks -> num_scales x (expand, skip,
    blocks) -> LN, Linear to P x P pixels; plus the input where ``config.global_residual``.
    """

    def __init__(self, config: SerpentConfig) -> None:
        super().__init__()
        self.config = config
        scales = range(config.num_scales)
        width = config.channels
        self.embed = nn.Conv2d(config.in_channels, width(0), config.patch_size, stride=config.patch_size)
        self.embed_norm = nn.LayerNorm(width(0))
        self.down = nn.ModuleList(_stack(width(scale), config) for scale in scales)
        self.merge = nn.ModuleList(Merge(width(scale)) for scale in scales)
        self.bottleneck_norm = nn.LayerNorm(width(config.num_scales))
        self.bottleneck = _stack(width(config.num_scales), config)
        # Decoder stages are indexed by the scale they arrive at; "post" runs its blocks one scale below.
        lift = 1 if config.up_order == "post" else 0
        self.expand = nn.ModuleList(Expand(width(scale + 1)) for scale in scales)
        self.mix = nn.ModuleList(SkipMix(width(scale), config) for scale in scales)
        self.up = nn.ModuleList(_stack(width(scale + lift), config) for scale in scales)
        self.head_norm = nn.LayerNorm(width(0))
        self.head = nn.Linear(width(0), config.in_channels * config.patch_size**2)

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this many pixels."""
        return self.config.size_multiple

    def forward(self, image: Tensor) -> Tensor:
        """Restore pictures.

        Args:
            image: (B, 3, H, W), RGB in [0, 1], H and W multiples of ``config.size_multiple``; any floating
                dtype: it is cast to the network's at the border.

        Returns:
            (B, 3, H, W) in the dtype of ``image``, not clipped.

        Raises:
            UsageError: a side is no multiple of ``config.size_multiple``.
        """
        self.config.check_size(image.shape[2], image.shape[3])
        x = self.embed_norm(self.embed(image.to(self.embed.weight.dtype)).permute(0, 2, 3, 1))
        skips = []
        for blocks, merge in zip(self.down, self.merge, strict=True):
            x = blocks(x)
            skips.append(x)
            x = merge(x)
        x = self.bottleneck(self.bottleneck_norm(x))
        for scale in reversed(range(self.config.num_scales)):
            if self.config.up_order == "post":
                x = self.up[scale](x)
            x = self.mix[scale](self.expand[scale](x), skips.pop())
            if self.config.up_order == "pre":
                x = self.up[scale](x)
        pixels = unfold_pixels(self.head(self.head_norm(x)), self.config.patch_size)
        result = pixels.permute(0, 3, 1, 2).to(image.dtype)
        # Contiguous, as everybody passes images.
        return image + result if self.config.global_residual else result.contiguous()


def _stack(channels: int, config: SerpentConfig) -> nn.Sequential:
    return nn.Sequential(*(VSSBlock(channels, config) for _ in range(config.depth)))


def create_model(
    variant: str = "B", *, seed: int | None = None, scan_backend: str = "native", **overrides: Any
) -> Serpent:
    """A network with fresh weights, in eval mode.

    Args:
        variant: "B", "L" or "H".
        seed: makes the weights reproducible without touching torch's global generator.
        scan_backend: as :func:`set_scan_backend` takes it.
        **overrides: fields of :class:`serpent.SerpentConfig`.

    Raises:
        UsageError: unknown variant, field or backend.
        MissingExtraError: the backend needs a package that is not installed.
    """
    config = SerpentConfig.from_variant(variant, **overrides)
    if seed is None:
        return set_scan_backend(Serpent(config).eval(), scan_backend)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed every GPU's generator
        return set_scan_backend(Serpent(config).eval(), scan_backend)


def set_scan_backend(model: Serpent, scan_backend: str) -> Serpent:
    """Choose in place what runs the scans of ``model``, and return it. Weights, checkpoints and exports stay the same.

    Args:
        model: the network.
        scan_backend: "native" (the operator), "reference" (the sequential oracle: a step for each pixel) or "mamba"
            (mamba-ssm, for comparison: CUDA, ``pip install 'serpent-restoration[mamba]'``).

    Raises:
        UsageError: unknown backend.
        MissingExtraError: the backend needs a package that is not installed.
    """
    check_backend(scan_backend)
    for module in model.modules():
        if isinstance(module, SS2D):
            module.scan_backend = scan_backend
    return model


def set_precision(model: Serpent, precision: str) -> Serpent:
    """Convert ``model`` in place to "fp32", "fp16", "bf16" or "fp64" and return it.

    The scan's own parameters (dt_weight, dt_bias, A_log, D_skip) stay f32 in 16-bit networks: the scan
    computes in f32 whatever its storage type.

    Raises:
        UsageError: unknown precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; expected {', '.join(PRECISIONS)}")
    dtype = PRECISIONS[precision]
    model.to(dtype if dtype == torch.float64 else torch.float32)
    if dtype.itemsize == 2:
        scan = {id(p) for m in model.modules() if isinstance(m, SS2D) for p in m.parameters(recurse=False)}
        for parameter in model.parameters():
            if id(parameter) not in scan:
                parameter.data = parameter.data.to(dtype)
    return model
