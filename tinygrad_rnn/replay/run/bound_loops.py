"""Short loops that stay bound: their arrays, and the code bound to them, for the next call.

When a stream is followed, a step takes less time than to allocate its arrays and to bind the loop
to them. So a call copies its inputs into these arrays and its results out: nothing that a user gets
or gives lies there, and of the constants it holds no more than where they are.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.replay.emit.choice import CompiledLoop, bind
from tinygrad_rnn.replay.passes.plan import Plan
from tinygrad_rnn.replay.program.loop import ArraySpec
from tinygrad_rnn.replay.program.program import Program

LARGEST = 1 << 22
"""Bytes above which a bound loop is not kept: to allocate it takes no part of the time."""
KEPT = 16
"""Bound loops kept per loop; beyond, those that were not used for longest go."""

Results = tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]


class BoundLoop:
    """Arrays of a loop and ``run``, which runs all steps on them and on the constants."""

    def __init__(
        self,
        program: Program,
        plan: Plan,
        arrays: Sequence[np.ndarray],
        steps: int,
        run: Callable[[], None],
    ) -> None:
        first, last = (steps, 0) if plan.loop.reverse else (0, steps)
        specs = plan.loop.arrays

        def state(row: int) -> list[Any]:
            return [
                None if k is None else arrays[k][(row, ...) if specs[k].stacked else ...]
                for k in plan.state
            ]

        self.run = run
        fixed = {plan.inputs[v]: n for n, v in enumerate(program.consts) if v in plan.inputs}
        self.constants = [(n, weakref.ref(arrays[k])) for k, n in fixed.items()]
        self.own = [array for k, array in enumerate(arrays) if k not in fixed]
        self.xs = [arrays[plan.inputs[v]] if v in plan.inputs else None for v in program.xs]
        self.starts, self.ends = state(first), state(last)
        places = [plan.crossing[v] for v in program.ys]
        self.ys = [arrays[k][rows] for k, rows in places]

    def fits(self, consts: Sequence[np.ndarray]) -> bool:
        """Whether the loop is bound to these constants."""
        return all(seen() is consts[n] for n, seen in self.constants)

    @property
    def is_of_use(self) -> bool:
        """Whether the constants are still there."""
        return all(seen() is not None for _, seen in self.constants)

    def call(self, xs: Sequence[np.ndarray], state: Sequence[np.ndarray]) -> Results:
        """(ys, final state, no totals)."""
        for target, x in zip(self.xs, xs, strict=True):
            if target is not None:
                target[...] = x
        for target, s in zip(self.starts, state, strict=True):
            if target is not None:
                target[...] = s
        self.run()
        ends = zip(self.ends, state, strict=True)
        ys = [y.copy() for y in self.ys]
        return ys, [(s if end is None else end).copy() for end, s in ends], []


class BoundLoops:
    """The bound loops of one program, around which there is nothing to be done. Each is used by one
    call at a time, the others wait here.
    """

    def __init__(self, program: Program, plan: Plan) -> None:
        self.program, self.plan = program, plan
        self.constants = {
            plan.inputs[v]: n for n, v in enumerate(program.consts) if v in plan.inputs
        }
        self._lock = threading.Lock()
        self._idle: list[tuple[Hashable, BoundLoop]] = []

    def __len__(self) -> int:
        return len(self._idle)

    def run(
        self,
        runner: CompiledLoop,
        consts: Sequence[np.ndarray],
        xs: Sequence[np.ndarray],
        state: Sequence[np.ndarray],
        steps: int,
    ) -> Results | None:
        """(ys, final state, totals), or None where there can be none."""
        key = (steps, runner, *map(id, consts))
        bound = self._take(key)
        if bound is None or not bound.fits(consts):
            with self._lock:
                self._idle = [known for known in self._idle if known[1].is_of_use]
            bound = self._made(runner, consts, steps)
            if bound is None:
                return None
        found = bound.call(xs, state)
        with self._lock:
            self._idle.append((key, bound))
            del self._idle[:-KEPT]
        return found

    def _take(self, key: Hashable) -> BoundLoop | None:
        with self._lock:
            for k in reversed(range(len(self._idle))):
                if self._idle[k][0] == key:
                    return self._idle.pop(k)[1]
        return None

    def _made(
        self, runner: CompiledLoop, consts: Sequence[np.ndarray], steps: int
    ) -> BoundLoop | None:
        specs = self.plan.loop.arrays
        size = sum(
            math.prod(self._shape(k, spec, steps)) * spec.dtype.itemsize
            for k, spec in enumerate(specs)
            if k not in self.constants
        )
        if size > LARGEST or not all(consts[n].flags.c_contiguous for n in self.constants.values()):
            return None
        arrays = [
            consts[self.constants[k]]
            if k in self.constants
            else np.empty(self._shape(k, spec, steps), spec.dtype)
            for k, spec in enumerate(specs)
        ]
        run = bind(runner, arrays, steps)
        return None if run is None else BoundLoop(self.program, self.plan, arrays, steps, run)

    def _shape(self, k: int, spec: ArraySpec, steps: int) -> tuple[int, ...]:
        rows = (steps + self.plan.is_state(k),) if spec.stacked else ()
        return (*rows, *spec.shape)
