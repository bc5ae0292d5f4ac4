"""A GPU made of host memory: streams are threads that really run later, so a missing wait shows as a wrong result."""

from __future__ import annotations

import ctypes
import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Work = Callable[[], None]
_current = threading.local()
"""The device of each thread."""


class _Stream:
    """Runs what it is given, in order, on a thread of its own."""

    def __init__(self) -> None:
        self.work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self.failures: list[BaseException] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while (work := self.work.get()) is not None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001  # reported by synchronize, as CUDA does
                self.failures.append(error)


class HostDevice:
    """The methods are those of :class:`serpent.runtime.tensorrt_engine.Device`.

    Attributes:
        log: names of the methods that made or freed something, with the handle, in order.
        alive: handles that were made and not freed, by the method that made them.
    """

    def __init__(self, index: int = 0, memory_bytes: int = 2**30) -> None:
        self.index = index
        self.memory_bytes = memory_bytes
        self.log: list[tuple[str, int]] = []
        self.alive: dict[str, set[int]] = {name: set() for name in ("memory", "pinned", "stream", "event", "graph")}
        self._lock = threading.RLock()
        self._blocks: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self._handles = itertools.count(1000)
        self._streams: dict[int, _Stream] = {0: _Stream()}
        self._events: dict[int, threading.Event] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._capturing: dict[int, list[Work]] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        before, _current.device = getattr(_current, "device", None), self.index
        try:
            yield
        finally:
            _current.device = before

    def is_current(self) -> bool:
        """Whether it is the calling thread's device."""
        return getattr(_current, "device", None) == self.index

    def free_bytes(self) -> int:
        with self._lock:
            return self.memory_bytes - sum(len(self._blocks[address]) for address in self.alive["memory"])

    def allocate(self, size: int) -> int:
        return self._allocate("allocate", "memory", size)

    def free(self, address: int) -> None:
        # cudaFree waits for the device.
        for stream in list(self._streams):
            self._drain(stream)
        self._release("free", "memory", address)
        del self._blocks[address]

    def allocate_pinned(self, size: int) -> int:
        return self._allocate("allocate_pinned", "pinned", size)

    def free_pinned(self, address: int) -> None:
        self._release("free_pinned", "pinned", address)
        del self._blocks[address]

    def copy_in(self, target: int, source: int, size: int, stream: int) -> None:
        assert source in self.alive["pinned"]
        self.submit(stream, lambda: self._copy(target, source, size))

    def copy_out(self, target: int, source: int, size: int, stream: int) -> None:
        assert target in self.alive["pinned"]
        self.submit(stream, lambda: self._copy(target, source, size))

    def create_stream(self) -> int:
        handle = self._make("create_stream", "stream")
        self._streams[handle] = _Stream()
        return handle

    def destroy_stream(self, stream: int) -> None:
        self._release("destroy_stream", "stream", stream)
        with self._lock:
            self._streams.pop(stream).work.put(None)

    def synchronize(self, stream: int) -> None:
        self._drain(stream)
        failures = self._streams[stream].failures
        if failures:
            raise failures.pop(0)

    def create_event(self) -> int:
        handle = self._make("create_event", "event")
        self._events[handle] = threading.Event()
        self._events[handle].set()  # what was never recorded is done
        return handle

    def destroy_event(self, event: int) -> None:
        self._release("destroy_event", "event", event)

    def record(self, event: int, stream: int) -> None:
        reached = self._events[event] = threading.Event()
        self.submit(stream, reached.set)

    def wait(self, stream: int, event: int) -> None:
        reached = self._events[event]
        self.submit(stream, lambda: _wait(reached))

    def synchronize_event(self, event: int) -> None:
        _wait(self._events[event])

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        recorded = self._capturing[stream] = []
        try:
            enqueue()
        finally:
            del self._capturing[stream]
        handle = self._make("capture", "graph")
        self._graphs[handle] = recorded
        return handle

    def launch(self, graph: int, stream: int) -> None:
        for work in self._graphs[graph]:
            self.submit(stream, work)

    def destroy_graph(self, graph: int) -> None:
        self._release("destroy_graph", "graph", graph)
        del self._graphs[graph]

    def index_of(self, address: int) -> int | None:
        return self.index if address in self.alive["memory"] else None

    def submit(self, stream: int, work: Work) -> None:
        """Put work into a stream, or into the graph that is being captured from it."""
        if stream in self._capturing:
            self._capturing[stream].append(work)
        else:
            self._streams[stream].work.put(work)

    def _allocate(self, name: str, kind: str, size: int) -> int:
        block = ctypes.create_string_buffer(size)
        address = ctypes.addressof(block)
        with self._lock:
            self._blocks[address] = block
            self.alive[kind].add(address)
            self.log.append((name, address))
        return address

    def _make(self, name: str, kind: str) -> int:
        with self._lock:
            handle = next(self._handles)
            self.alive[kind].add(handle)
            self.log.append((name, handle))
        return handle

    def _release(self, name: str, kind: str, handle: int) -> None:
        with self._lock:
            self.alive[kind].remove(handle)  # KeyError: freed twice, or never made
            self.log.append((name, handle))

    def _copy(self, target: int, source: int, size: int) -> None:
        live = self.alive["memory"] | self.alive["pinned"]
        assert {target, source} <= live, "a copy after its memory was freed"
        ctypes.memmove(target, source, size)

    def _drain(self, stream: int) -> None:
        done = threading.Event()
        with self._lock:
            if stream not in self._streams:
                return  # destroyed meanwhile
            self._streams[stream].work.put(done.set)
        _wait(done)


def _wait(event: threading.Event) -> None:
    assert event.wait(60), "a stream has not moved for a minute"
