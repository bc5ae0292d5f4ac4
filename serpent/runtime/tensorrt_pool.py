"""A bounded pool of lanes that several threads share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from serpent.errors import SerpentError
from serpent.runtime.tensorrt_engine import Shape
from serpent.runtime.tensorrt_lane import Lane


class LanePool:
    """Hands out lanes, made when first needed; whoever finds none free waits for one.

    Args:
        make: makes a lane.
        size: the most lanes there may be.
        closed_message: what users of a closed pool are told.
    """

    def __init__(self, make: Callable[[], Lane], size: int, closed_message: str) -> None:
        self._make, self._size, self._closed_message = make, size, closed_message
        self._changed = threading.Condition()
        self._free: list[Lane] = [make()]  # what prevents the first one prevents the session
        self._lanes = 1
        self._closed = False

    @contextlib.contextmanager
    def lane(self, shape: Shape) -> Iterator[Lane]:
        """A lane for the calling thread alone, one of this shape if there is one.

        A lane whose run failed is not used again.

        Raises:
            SerpentError: the pool is closed, also while waiting; or no lane can be made.
        """
        lane = self._take(shape)
        try:
            yield lane
        except BaseException:
            try:
                with contextlib.suppress(SerpentError):  # the first error is the one to report
                    lane.close()
            finally:
                self._give_back(None)
            raise
        self._give_back(lane)

    def close(self) -> None:
        """Refuse new users, wait for those at work, free all lanes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._free) == self._lanes)
            lanes, self._free, self._lanes = self._free, [], 0
        with contextlib.ExitStack() as all_of_them:
            for lane in lanes:
                all_of_them.callback(lane.close)

    def _take(self, shape: Shape) -> Lane:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._free or self._lanes < self._size)
            if self._closed:
                raise SerpentError(self._closed_message, hint="open it again with open_session")
            if self._free:
                lane = next((lane for lane in self._free if lane.shape == shape), self._free[0])
                self._free.remove(lane)
                return lane
            self._lanes += 1  # made outside the lock, since that takes time
        try:
            return self._make()
        except BaseException:
            self._give_back(None)
            raise

    def _give_back(self, lane: Lane | None) -> None:
        with self._changed:
            if lane is None:
                self._lanes -= 1
            else:
                self._free.append(lane)
            self._changed.notify_all()
