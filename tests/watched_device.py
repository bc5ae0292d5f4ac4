"""Any device, watched: calls that fail when a test asks for it, and what was made and not freed."""

from __future__ import annotations

from typing import Any

from serpent.errors import EngineError

MAKERS = {
    "allocate": "free",
    "allocate_pinned": "free_pinned",
    "create_stream": "destroy_stream",
    "create_event": "destroy_event",
    "capture": "destroy_graph",
}
"""Methods that make something, and those that free it."""


class WatchedDevice:
    """The methods are those of the device that it is made around, a :class:`serpent.runtime.tensorrt_engine.Device`.

    Attributes:
        failing: name of a method that fails, or "" for none.
        passing: how many more calls of ``failing`` go well first.
        log: names of the methods that made or freed something, with the handle, in order.
    """

    def __init__(self, device: Any) -> None:
        self._device = device
        self.failing, self.passing = "", 0
        self.log: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._device, name)
        if not callable(attribute):
            return attribute

        def call(*arguments: Any) -> Any:
            if name == self.failing:
                if self.passing == 0:
                    raise EngineError(f"{name} failed: as the test asked")
                self.passing -= 1
            result = attribute(*arguments)
            if name in MAKERS:
                self.log.append((name, result))
            elif name in MAKERS.values():
                self.log.append((name, arguments[0]))
            return result

        return call

    def count(self, name: str) -> int:
        """How often a method that makes or frees something was called."""
        return sum(entry[0] == name for entry in self.log)

    def alive(self) -> list[tuple[str, int]]:
        """What was made and not freed, by the method that made it."""
        left: list[tuple[str, int]] = []
        for name, handle in self.log:
            if name in MAKERS:
                left.append((name, handle))
            else:  # ValueError: freed twice, or never made
                left.remove((next(maker for maker, freer in MAKERS.items() if freer == name), handle))
        return left
