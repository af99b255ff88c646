"""Short loops that stay bound: their arrays, and the code bound to them, for the next call.

When a stream is followed, a step takes less time than to allocate its arrays and to bind the loop
to them. So a call copies its inputs into these arrays and its results out: nothing that a user gets
or gives lies there, and of the constants it holds no more than where they are.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.replay.emit.common import CompiledLoop
from tinygrad_rnn.replay.passes.plan import Plan
from tinygrad_rnn.replay.program.program import Program

LARGEST = 1 << 22
"""Bytes above which a bound loop is not kept: to allocate it takes no part of the time."""
KEPT = 16
"""Bound loops kept per loop; beyond, those that were not used for longest go."""

Results = tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]


def array_kinds(plan: Plan, steps: int) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shapes and dtypes of a loop's arrays. Over time, a state has one row more than others."""
    return [
        ((steps + (k in plan.state), *spec.shape) if spec.stacked else spec.shape, spec.dtype)
        for k, spec in enumerate(plan.loop.arrays)
    ]


def state_places(plan: Plan, arrays: Sequence[Any], steps: int) -> list[list[Any]]:
    """Where each state lies before the first step and after the last; None for an unused one."""
    specs = plan.loop.arrays
    return [
        [
            None if k is None else arrays[k][(row, ...) if specs[k].stacked else ...]
            for k in plan.state
        ]
        for row in ((steps, 0) if plan.loop.reverse else (0, steps))
    ]


class BoundLoop:
    """Arrays of a loop and ``run``, which runs all steps on them and on the constants."""

    def __init__(
        self,
        program: Program,
        plan: Plan,
        arrays: Sequence[np.ndarray],
        steps: int,
        compiled: CompiledLoop,
        run: Callable[[], None],
    ) -> None:
        inputs = plan.inputs
        self.key, self.run = (steps, compiled), run
        fixed = {inputs[v]: n for n, v in enumerate(program.consts) if v in inputs}
        self.constants = [(n, weakref.ref(arrays[k])) for k, n in fixed.items()]
        self.own = [array for k, array in enumerate(arrays) if k not in fixed]
        targets = [arrays[inputs[v]] if v in inputs else None for v in program.xs]
        begins, self.ends = state_places(plan, arrays, steps)
        targets += begins
        self.targets = [(k, t) for k, t in enumerate(targets) if t is not None]
        self.ys = [arrays[k][rows] for k, rows in map(plan.crossing.__getitem__, program.ys)]

    def fits(self, consts: Sequence[np.ndarray]) -> bool:
        """Whether the loop is bound to these constants."""
        for n, seen in self.constants:  # noqa: SIM110 - quicker than all()
            if seen() is not consts[n]:
                return False
        return True

    @property
    def is_of_use(self) -> bool:
        """Whether the constants are still there."""
        return all(seen() is not None for _, seen in self.constants)

    def call(self, xs: Sequence[np.ndarray], state: Sequence[np.ndarray]) -> Results:
        """(ys, final state, no totals)."""
        given = [*xs, *state]
        for k, target in self.targets:
            target[...] = given[k]
        self.run()
        ends = zip(self.ends, state, strict=True)
        return [y.copy() for y in self.ys], [(s if e is None else e).copy() for e, s in ends], []


class BoundLoops:
    """The bound loops of one program, around which there is nothing to be done.

    Each is used by one call at a time, the others wait here.
    """

    def __init__(self, program: Program, plan: Plan) -> None:
        self.program, self.plan = program, plan
        self._lock = threading.Lock()
        self._idle: list[BoundLoop] = []

    def run(
        self,
        compiled: CompiledLoop,
        consts: Sequence[np.ndarray],
        xs: Sequence[np.ndarray],
        state: Sequence[np.ndarray],
        steps: int,
    ) -> Results | None:
        """(ys, final state, totals), or None where there can be none."""
        bound = self._take((steps, compiled), consts) or self._made(compiled, consts, steps)
        if bound is None:
            return None
        found = bound.call(xs, state)
        with self._lock:
            self._idle.append(bound)
            del self._idle[:-KEPT]
        return found

    def _take(self, key: Any, consts: Sequence[np.ndarray]) -> BoundLoop | None:
        with self._lock:
            for k in reversed(range(len(self._idle))):
                if self._idle[k].key == key and self._idle[k].fits(consts):
                    return self._idle.pop(k)
            self._idle = [known for known in self._idle if known.is_of_use]
        return None

    def _made(
        self, compiled: CompiledLoop, consts: Sequence[np.ndarray], steps: int
    ) -> BoundLoop | None:
        inputs = self.plan.inputs
        given = {inputs[v]: consts[n] for n, v in enumerate(self.program.consts) if v in inputs}
        if not all(array.flags.c_contiguous for array in given.values()):
            return None
        kinds = array_kinds(self.plan, steps)
        own = [kind for k, kind in enumerate(kinds) if k not in given]
        if sum(math.prod(shape) * dtype.itemsize for shape, dtype in own) > LARGEST:
            return None
        arrays = [given[k] if k in given else np.empty(*kind) for k, kind in enumerate(kinds)]
        bind: Any = getattr(compiled, "bind", None)  # which only a loop of Numba's has
        run = None if bind is None else bind(arrays, steps)
        if run is None:
            return None
        return BoundLoop(self.program, self.plan, arrays, steps, compiled, run)
