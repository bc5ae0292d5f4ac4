"""What a user may ask of the engine builder, beyond shapes and targets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serpent import native
from serpent.config import SerpentConfig
from serpent.errors import UsageError
from serpent.files import check_writable_target
from serpent.runtime.plugin_library import plugin_library
from serpent.runtime.tensorrt_library import RTX, Flavour
from serpent.shapes import ShapeProfile

OPTIMIZATION_LEVELS = range(6)
EMBED_WARNING = (
    "warning: the plan carries native code (the plugin library), which runs in the process that loads it: "
    "load such plans only where you trust who made them"
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True)
class EngineOptions:
    """Options of a build; None leaves TensorRT's own default.

    Attributes:
        workspace: most bytes of scratch memory that a layer may take.
        optimization_level: 0 (builds fastest) to 5 (searches longest).
        timing_cache: measurements to read, and to write back; TensorRT only.
        embed_plugin: put the C++ plugin library into the plan.
    """

    workspace: int | None = None
    optimization_level: int | None = None
    timing_cache: Path | None = None
    embed_plugin: bool = False

    @property
    def asked(self) -> str | None:
        """The first option that was given, as typed on a command line; None where all are defaults."""
        given = {
            "--workspace": self.workspace,
            "--optimization-level": self.optimization_level,
            "--timing-cache": self.timing_cache,
            "--embed-plugin": True if self.embed_plugin else None,
        }
        return next((option for option, value in given.items() if value is not None), None)

    def check(self, flavour: Flavour) -> None:
        """Refuse what the flavour does not have.

        Raises:
            UsageError: a timing cache for TensorRT-RTX, or a value out of range.
            NativeLibraryError: the plugin library to embed was not built.
            SerpentError: the timing cache's folder cannot be written.
        """
        if self.embed_plugin:
            plugin_library()
        if self.timing_cache is not None and flavour is RTX:
            raise UsageError(
                f"--timing-cache {self.timing_cache}: {RTX.title} measures nothing while it builds and keeps no such "
                "cache",
                hint="leave it out, or build with TensorRT on a machine with its GPU: --engine trt",
            )
        if self.timing_cache is not None:
            check_writable_target(self.timing_cache, overwrite=True)
        if self.optimization_level is not None and self.optimization_level not in OPTIMIZATION_LEVELS:
            raise UsageError(f"--optimization-level {self.optimization_level} is not 0, 1, 2, 3, 4 or 5")

    def check_workspace(self, config: SerpentConfig, profile: ShapeProfile) -> None:
        """Refuse what is too little for a scan, which TensorRT-RTX would end its process over.

        Raises:
            UsageError: with the least that will do.
        """
        if self.workspace is None:
            return
        needed = max(native.library().workspace_size(scan) for scan in _largest_scans(config, profile))
        if self.workspace < needed:
            raise UsageError(
                f"--workspace {self.workspace} is too little: at {profile.height.max}x{profile.width.max} a scan needs "
                f"{needed} bytes of scratch memory",
                hint=f"leave it out, or take --workspace {-(-needed // 2**20)}M or more",
            )

    def to_manifest(self) -> dict[str, Any]:
        """What shaped the plan; the timing cache is a file of this machine and not named."""
        return {"workspace": self.workspace, "optimization_level": self.optimization_level}


def _largest_scans(config: SerpentConfig, profile: ShapeProfile) -> Iterator[native.ScanShape]:
    """One scan of each scale, at the largest batch and size; the precision makes no difference to its workspace."""
    assert profile.batch.max is not None
    assert profile.height.max is not None
    assert profile.width.max is not None
    for scale in range(config.num_scales + 1):
        channels, step = config.channels(scale), config.patch_size << scale
        yield native.ScanShape(
            profile.batch.max,
            profile.height.max // step,
            profile.width.max // step,
            config.ssm_expand * channels,
            config.state_size(channels),
            config.dt_rank(channels),
            "f32",
        )


def parse_bytes(text: str) -> int:
    """Read ``--workspace``: a number with the suffix K, M or G (powers of 1024; "Gi", "GB", "GiB" are the same).

    Raises:
        UsageError: no such number, not positive, or more than TensorRT can be told.
    """
    match = re.fullmatch(r"([0-9]+)([KMG]?)(I?B?)", text.strip().upper())
    size = 0 if match is None else int(match[1]) * _UNITS[match[2]]
    if match is None or not 0 < size < 2**63 or match[3].startswith("I") > bool(match[2]):
        raise UsageError(f"--workspace {text!r} is no size", hint="use bytes with K, M or G, as in --workspace 4G")
    return size
