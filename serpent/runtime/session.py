"""What every backend's session is: numpy pictures in, numpy pictures out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from serpent.config import SerpentConfig
from serpent.errors import ArgumentError, SerpentError
from serpent.runtime.memory import Memory, process_memory
from serpent.runtime.tiling import TileCallback, Tiling, restore_any_size
from serpent.shapes import ShapeProfile


@dataclass(frozen=True)
class SessionInfo:
    """What a session runs, and how.

    Attributes:
        path: the model file.
        backend: which runtime executes it.
        config: the network's configuration.
        task: what the weights were trained for.
        precision: "fp32", "fp16" or "bf16" inside the network.
        weights: digest of the weights, or "untrained".
        profile: accepted shapes of one run.
        device: "cpu" or "cuda:N".
        scan: how the selective scan runs ("native", "function", "plugin").
        io: what the file itself takes and gives (:mod:`serpent.runtime.border`); sessions convert to it.
        notes: one-line remarks the user should see.
    """

    path: Path
    backend: Literal["torch", "onnxruntime", "tensorrt"]
    config: SerpentConfig
    task: str
    precision: str
    weights: str
    profile: ShapeProfile
    device: str
    scan: str
    notes: tuple[str, ...] = ()
    io: str = "f32-nchw"

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and that the weights are untrained where they are: to be shown with every result."""
        untrained = "the weights of this model are untrained: the result is no restoration"
        return (*self.notes, untrained) if self.weights == "untrained" else self.notes


class Session(ABC):
    """A loaded model. Call it with pictures; close it (or use ``with``) to release its memory."""

    info: SessionInfo

    def __call__(
        self, images: NDArray[Any], *, on_tile: TileCallback | None = None, tiling: Tiling | None = None
    ) -> NDArray[Any]:
        """Restore pictures of any size.

        Smaller pictures than the profile's are padded (reflected) and cropped; larger ones go through in
        overlapping, blended tiles.

        Args:
            images: (B, H, W, 3) or (H, W, 3), RGB: float32 in [0, 1], or uint8.
            on_tile: called with (runs done, runs in all) after each run.
            tiling: where to cut; only what exceeds the profile by default.

        Returns:
            The same shape and dtype; float32 clipped to [0, 1], uint8 rounded half to even.

        Raises:
            UsageError: tiles that the model does not take.
            ArgumentError: wrong rank, channel count or dtype, an empty picture, or a value that is not finite.
            SerpentError: the network's result is not finite (half precision overflows with some weights).
        """
        images = np.asarray(images)
        if images.ndim not in (3, 4) or images.shape[-1] != 3:
            raise ArgumentError(f"images has shape {images.shape}; expected (B, H, W, 3) or (H, W, 3)")
        if images.dtype not in (np.float32, np.uint8):
            raise ArgumentError(f"images has dtype {images.dtype}; expected float32 in [0, 1], or uint8")
        if 0 in images.shape:
            raise ArgumentError(f"images has shape {images.shape}: there is no pixel in it")
        if not np.isfinite(images).all():
            raise ArgumentError("images has values that are not finite (NaN or infinity)")
        batch = images if images.ndim == 4 else images[None]
        if images.dtype == np.uint8:
            batch = batch.astype(np.float32) / np.float32(255)
        restored = restore_any_size(self.run, batch, self.info.profile, on_tile, tiling)
        if not np.isfinite(restored).all():
            raise SerpentError(
                f"{self.info.path} ({self.info.precision}) gave values that are not finite for this picture",
                hint="export with --precision fp32, or check the weights",
            )
        restored = np.clip(restored, 0.0, 1.0)
        if images.dtype == np.uint8:
            restored = np.rint(restored * np.float32(255)).astype(np.uint8)
        return restored if images.ndim == 4 else restored[0]

    @abstractmethod
    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """One run of the network, unclipped.

        Args:
            image: (B, 3, H, W) float32 whose sizes lie in ``info.profile``, C-contiguous.

        Returns:
            (B, 3, H, W) float32.
        """

    def run_bytes(self, batch: int, height: int, width: int) -> int | None:  # noqa: ARG002 (for backends that know)
        """Bytes that :meth:`run` takes on the session's device at its peak, beyond :meth:`memory`.

        On the CPU the image is not among them, which the caller holds already; on a GPU it is.
        None where that is not known for this backend.
        """
        return None

    def memory(self) -> Memory:
        """Memory of the device that the network runs on; on the CPU that of this process."""
        return process_memory() if self.info.device == "cpu" else Memory(None, None, None)

    def close(self) -> None:
        """Release the model's memory; the session cannot be used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
