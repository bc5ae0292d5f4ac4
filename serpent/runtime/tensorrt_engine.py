"""The one interface through which a session uses TensorRT and CUDA.

Implemented over the real modules by :mod:`serpent.runtime.tensorrt_adapter` and :mod:`serpent.runtime.cuda_device`,
and over host memory by the tests. Addresses and handles are plain integers; a stream of 0 is CUDA's default stream.
Every method raises ``EngineError`` with TensorRT's or CUDA's reason where it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

INPUT, OUTPUT = "image", "restored"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ShapeLimits:
    """Smallest and largest shape of a plan's input, (B, 3, H, W) or (B, H, W, 3) as the plan lays it out."""

    least: Shape
    most: Shape


class Context(Protocol):
    """State of one run at a time; it holds the device memory of the network's activations."""

    def set_shape(self, shape: Shape) -> Shape:
        """Choose the input's shape for the runs that follow; returns the shape of their output."""

    def enqueue(self, image: int, restored: int, stream: int) -> None:
        """Enqueue one run from and to device memory; returns before it is done."""

    def close(self) -> None:
        """Free it; nothing of it may be running."""


class Engine(Protocol):
    """A loaded plan."""

    @property
    def dtypes(self) -> dict[str, str]:
        """The numpy name of the type of each input and output tensor, "float32" for example.

        Where the tensor is not laid out densely, which takes more memory, that follows: "float32 CHW32".
        """

    @property
    def limits(self) -> ShapeLimits: ...

    @property
    def context_bytes(self) -> int:
        """Device memory of one context."""

    @property
    def captures_itself(self) -> bool:
        """Whether CUDA graphs are the flavour's own business (TensorRT-RTX), and must not be captured around it."""

    def create_context(self) -> Context: ...

    def save_cache(self) -> None:
        """Keep what was compiled for this GPU, where the flavour compiles on it."""

    def close(self) -> None:
        """Free it, after its contexts."""


class Device(Protocol):
    """One GPU's memory, streams, events and graphs. Safe to use from several threads."""

    @property
    def index(self) -> int:
        """Its number as CUDA counts."""

    def active(self) -> AbstractContextManager[None]:
        """Make it the calling thread's device for a ``with`` block, and then the one again that was it before."""

    def free_bytes(self) -> int: ...

    def allocate(self, size: int) -> int: ...

    def free(self, address: int) -> None:
        """Free device memory once everything that uses it is done."""

    def allocate_pinned(self, size: int) -> int:
        """Host memory that copies to and from the device can use without a detour."""

    def free_pinned(self, address: int) -> None: ...

    def copy_in(self, target: int, source: int, size: int, stream: int) -> None:
        """Enqueue a copy from pinned host memory to the device."""

    def copy_out(self, target: int, source: int, size: int, stream: int) -> None:
        """Enqueue a copy from the device to pinned host memory."""

    def create_stream(self) -> int: ...

    def destroy_stream(self, stream: int) -> None: ...

    def synchronize(self, stream: int) -> None:
        """Wait until the stream has nothing left to do."""

    def create_event(self) -> int: ...

    def destroy_event(self, event: int) -> None: ...

    def record(self, event: int, stream: int) -> None: ...

    def wait(self, stream: int, event: int) -> None:
        """Let the stream wait for the event; the caller does not."""

    def synchronize_event(self, event: int) -> None: ...

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        """A CUDA graph of what ``enqueue`` puts into the stream, none of which runs."""

    def launch(self, graph: int, stream: int) -> None: ...

    def destroy_graph(self, graph: int) -> None: ...

    def index_of(self, address: int) -> int | None:
        """The device that an address belongs to; None for host memory."""
