"""Calls that run ahead on a few threads, their results in order: pictures through a session, files into memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def in_order(call: Callable[[Given], Made], items: Iterable[Given], *, workers: int) -> Iterator[Made]:
    """``call(item)`` for each item, up to ``workers`` at a time, results in the order of the items.

    ``items`` is read in the caller's thread, at most ``workers`` ahead of what was yielded. An error of a call comes in
    the place of its result and ends the iteration; calls that had begun by then are waited for.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="serpent-stream") as threads:
        going: deque[Future[Made]] = deque()
        try:
            for item in items:
                going.append(threads.submit(call, item))
                if len(going) > workers:
                    yield going.popleft().result()
            while going:
                yield going.popleft().result()
        finally:
            for future in going:
                future.cancel()
