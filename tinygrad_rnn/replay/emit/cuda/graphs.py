"""A loop captured in CUDA graphs: all its launches as one.

A graph holds addresses. So it has arrays of its own for all that moves from call to call: what the
loop reads is copied there before it is launched, and what it writes is copied from there. What is
the same at each step and never written, a weight, stays where it is, and a graph is found by where
that is, by T, and by the device, the stream, and the thread, whose handle of cuBLAS it uses. So a
graph that is found is right, whatever the arrays hold now, and it need not keep a weight alive.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from tinygrad_rnn.backends import Array, Backend
from tinygrad_rnn.replay.program.loop import Call, Loop, read, written

Place: TypeAlias = tuple[int, ...]
Work: TypeAlias = tuple[Callable[[], None], Any]
"""What is to be launched, and the memory that it uses and nobody else holds."""

KEPT = 8
"""Graphs kept per loop, each with its arrays; beyond, those that were not used for longest go."""
PATIENCE = 2 * KEPT
"""Calls in a row without a graph to launch, after which no more are made."""


def why_no_graph(loop: Loop, backend: Backend) -> str | None:
    """Why a loop cannot be captured, or None."""
    if any(isinstance(step, Call) for step in loop.steps):
        return "it has calls, which allocate memory"
    return backend.why_no_capture()


class Graph(NamedTuple):
    """A captured loop: what launches it, its own arrays by number, and what else it uses."""

    launch: Callable[[], Any]
    arrays: Mapping[int, Array]
    held: Any


class Graphs:
    """The graphs of one loop.

    Attributes
    ----------
    reason : why none are made any more, or None.
    """

    def __init__(self, loop: Loop, backend: Backend) -> None:
        self.backend, self.reason = backend, why_no_graph(loop, backend)
        self._written = sorted({ref.array for step in loop.steps for ref in written(step)})
        reads = {ref.array for step in loop.steps for ref in read(step)}
        self._moving = {k for k in reads if loop.arrays[k].stacked}.union(self._written)
        self._fixed = sorted(reads - self._moving)
        self._lock = threading.Lock()
        self._kept: OrderedDict[Place, Graph] = OrderedDict()
        self._seen: OrderedDict[Place, None] = OrderedDict()
        self._waited = 0

    def run(self, arrays: Sequence[Array], T: int, bind: Callable[..., Work]) -> bool:
        """Launch the loop on these arrays; False where that is to be done step by step.

        ``bind`` gives the work on arrays and T.
        """
        if self.reason is not None:
            return False
        place = T, *self.backend.place([arrays[k] for k in self._fixed])
        graph = self.at(place, lambda: self._captured(arrays, T, bind))
        if graph is None:
            return False
        for k, array in graph.arrays.items():
            array[...] = arrays[k]
        graph.launch()
        for k in self._written:
            arrays[k][...] = graph.arrays[k]
        return True

    def at(self, place: Place, capture: Callable[[], Graph]) -> Graph | None:
        """The graph that belongs there, captured where its place was seen before; else None.

        So what is never seen again costs next to nothing, and kernels have been compiled.
        """
        with self._lock:
            found = self._kept.get(place)
            if found is not None:
                self._kept.move_to_end(place)
                self._waited = 0
                return found
            self._waited += 1
            if self._waited > PATIENCE:
                self._stop("its constants lie elsewhere, or T is another, at each call")
                return None
            if place not in self._seen:
                self._seen[place] = None
                if len(self._seen) > PATIENCE:
                    self._seen.popitem(last=False)
                return None
        try:
            made = capture()
        except Exception as problem:
            with self._lock:
                self._stop(f"{type(problem).__name__}: {problem}")
            return None
        with self._lock:
            self._kept[place] = made
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return made

    def _captured(self, arrays: Sequence[Array], T: int, bind: Callable[..., Work]) -> Graph:
        empty = self.backend.xp.empty
        own = {k: empty(arrays[k].shape, dtype=arrays[k].dtype) for k in sorted(self._moving)}
        work, held = bind([own.get(k, array) for k, array in enumerate(arrays)], T)
        return Graph(self.backend.capture(work), own, held)

    def _stop(self, reason: str) -> None:
        self.reason = reason
        self._kept.clear()
        self._seen.clear()
