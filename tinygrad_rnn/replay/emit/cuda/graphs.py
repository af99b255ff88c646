"""A loop captured in CUDA graphs: all its launches as one, where its arrays lie again as before.

A graph holds addresses. It is found by everything that it could read or write: T and the addresses
of all arrays, the device, the stream, and the thread, whose handle of cuBLAS it uses. So a graph
that is found is right, whatever the arrays hold now. For one to be found, the arrays have to come
back: those that were used together wait here for the next call, since a pool would give the same
memory in another order. Constants stay where they are.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

from tinygrad_rnn.backends import Array, Backend
from tinygrad_rnn.replay.program.loop import Call, Loop

Place: TypeAlias = tuple[int, ...]

KEPT = 8
"""Graphs kept per loop; beyond, those that were not used for longest go."""
PATIENCE = 2 * KEPT
"""Calls in a row without a graph to launch, after which no more are made."""


def why_no_graph(loop: Loop, backend: Backend) -> str | None:
    """Why a loop cannot be captured, or None."""
    if any(isinstance(step, Call) for step in loop.steps):
        return "it has calls, which allocate memory"
    return backend.why_no_capture()


class Graphs:
    """The graphs of one loop.

    Attributes
    ----------
    reason : why none are made any more, or None.
    """

    def __init__(self, loop: Loop, backend: Backend) -> None:
        self.backend, self.reason = backend, why_no_graph(loop, backend)
        self._lock = threading.Lock()
        self._kept: OrderedDict[Place, tuple[Callable[[], Any], Any]] = OrderedDict()
        self._seen: OrderedDict[Place, None] = OrderedDict()
        self._waited = 0
        self._waiting: OrderedDict[Any, list[list[Array]]] = OrderedDict()

    def waiting(self, kinds: Any) -> list[list[Array]]:
        """Groups of arrays of these kinds that nobody uses, in the place of this call."""
        key = self.backend.place([]), kinds
        with self._lock:
            found = self._waiting.setdefault(key, [])
            self._waiting.move_to_end(key)
            if len(self._waiting) > 2 * KEPT:
                self._waiting.popitem(last=False)
        return found

    def launch(self, place: Place) -> bool:
        """Launch the graph that belongs there; False where there is none."""
        with self._lock:
            found = self._kept.get(place)
            if found is None:
                self._waited += 1
                if self._waited > PATIENCE:
                    self._stop("its arrays lie elsewhere at each call")
                return False
            self._kept.move_to_end(place)
            self._waited = 0
        found[0]()
        return True

    def capture(self, place: Place, work: Callable[[], None], held: Any) -> bool:
        """Capture and launch ``work`` where its place was seen before; False where it was not.

        So what is never seen again costs next to nothing, and kernels have been compiled. ``held``
        is the memory that the graph uses and nobody else holds.
        """
        with self._lock:
            if self.reason is not None:
                return False
            if place not in self._seen:
                self._seen[place] = None
                if len(self._seen) > PATIENCE:
                    self._seen.popitem(last=False)
                return False
        try:
            launch = self.backend.capture(work)
        except Exception as problem:
            with self._lock:
                self._stop(f"{type(problem).__name__}: {problem}")
            return False
        with self._lock:
            self._kept[place] = launch, held
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        launch()
        return True

    def _stop(self, reason: str) -> None:
        self.reason = reason
        self._kept.clear()
        self._seen.clear()
        self._waiting.clear()
