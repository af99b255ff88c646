"""Running a compiled program: what is done once, before the loop, in it, and after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, Backend
from tinygrad_rnn.replay.emit.choice import Runner, emit
from tinygrad_rnn.replay.passes.lower import lower
from tinygrad_rnn.replay.passes.plain import VIEWS, is_light, is_product
from tinygrad_rnn.replay.passes.plan import plan
from tinygrad_rnn.replay.passes.simplify import simplify
from tinygrad_rnn.replay.passes.split import Parts, split, summed_inside
from tinygrad_rnn.replay.program.program import Program, Value, needed_ops
from tinygrad_rnn.replay.run.bound_loops import BoundLoops
from tinygrad_rnn.replay.run.memory import Lease
from tinygrad_rnn.replay.run.whole_sequences import OverTime


class Compiled:
    """A program ready to run over any number of steps.

    Parameters
    ----------
    program : one step.
    reverse : whether time runs from T-1 to 0.
    given : how many of the outputs ``ys`` are handed to a user; the others are residuals.
    brief : whether it is meant for a few steps only, as when a stream is followed.
    """

    def __init__(
        self,
        program: Program,
        reverse: bool,
        given: int,
        backend: Backend,
        brief: bool = False,
    ) -> None:
        self.source = program
        self.backend = backend
        lowered = simplify(lower(program))
        self.program, self.summed = summed_inside(lowered)
        self.parts: Parts = split(self.program, brief)
        self.plan = plan(self.parts, reverse, brief)
        self.reverse = reverse
        self.given = self.program.ys[:given]
        self.used_once = needed_ops(
            self.parts.once,
            [
                *self.plan.inputs,
                *self.program.outputs,
                *(x for op in (*self.parts.before, *self.parts.after) for x in op.values()),
            ],
        )
        leaving = {self.plan.crossing[y][0] for y in self.given if y in self.plan.crossing}
        self.leaving = leaving
        self.around = [*self.parts.before, *self.parts.after]
        early = {y for op in self.parts.before for y in op.outputs}
        self.gives_early = not early.isdisjoint(self.program.ys)
        fresh = {op.outputs[0] for op in self.parts.after if is_light(op) or is_product(op)}
        self.fresh = fresh - {op.outputs[0] for op in self.parts.after if op.primitive in VIEWS}
        keeps_bound = brief and backend.xp is np and self._is_bare()
        self.bound_loops = BoundLoops(self.program, self.plan) if keeps_bound else None
        self._runners: dict[Any, Runner] = {}

    def run(
        self,
        consts: Sequence[Array],
        xs: Sequence[Array],
        state: Sequence[Array],
        steps: int,
        lease: Lease,
    ) -> tuple[list[Array], list[Array], list[Array]]:
        """(ys, final state, totals). What is not given to the user lies in memory of the lease."""
        runner = self.runner(steps)
        if self.bound_loops is not None:
            at_once = self.bound_loops.run(runner, consts, xs, state, steps)
            if at_once is not None:
                return at_once
        return self.backend.flushed(lambda: self._run(runner, consts, xs, state, steps, lease))

    def _run(
        self,
        runner: Runner,
        consts: Sequence[Array],
        xs: Sequence[Array],
        state: Sequence[Array],
        steps: int,
        lease: Lease,
    ) -> tuple[list[Array], list[Array], list[Array]]:
        scratch = Lease(self.backend)
        single = self._once(consts)
        stacked: dict[Value, Array] = dict(zip(self.program.xs, xs, strict=True))
        take = lease.take if self.gives_early else scratch.take
        before = OverTime(self.backend, steps, single, stacked, self.parts.before, take)
        arrays = self._arrays(before, steps, lease, scratch)
        start: list[Any] = [*state, *(None for _ in range(len(self.program.state) - len(state)))]
        first, last = (steps, 0) if self.reverse else (0, steps)
        for s, place in zip(start, self._states(arrays, first), strict=True):
            if place is not None:
                place[...] = 0 if s is None else s

        runner(arrays, steps)

        ends = self._states(arrays, last)
        finals = [(s if e is None else e).copy() for s, e in zip(start, ends, strict=True)]
        for v, (k, rows) in self.plan.crossing.items():
            if self.plan.loop.arrays[k].stacked:
                stacked[v] = arrays[k][rows]
        after = OverTime(self.backend, steps, single, stacked, self.around, self.backend.xp.empty)
        found = self._outputs(after), finals[: len(state)], self._totals(after, finals)
        scratch.release()
        return found

    def _once(self, consts: Sequence[Array]) -> dict[Value, Array]:
        """The constants, and what depends on them alone."""
        xp = self.backend.xp
        single: dict[Value, Array] = dict(zip(self.program.consts, consts, strict=True))
        for op in self.used_once:
            inputs: list[Any] = [single[x] if isinstance(x, Value) else x for x in op.inputs]
            found = op.primitive.forward(xp, *inputs, **op.params)
            results: Sequence[Any] = found if op.primitive.multiple else (found,)
            single.update(zip(op.outputs, [xp.asarray(y) for y in results], strict=True))
        return single

    def _arrays(self, before: OverTime, steps: int, lease: Lease, scratch: Lease) -> list[Any]:
        """The arrays of the loop: its inputs, and memory for what it computes."""
        given = {k: before.operand(v) for v, k in self.plan.inputs.items()}
        arrays: list[Any] = []
        for k, spec in enumerate(self.plan.loop.arrays):
            if k in given:
                arrays.append(self.backend.contiguous(given[k]))
                continue
            rows = (steps + self.plan.is_state(k),) if spec.stacked else ()
            shape = (*rows, *spec.shape)
            if k in self.leaving:
                arrays.append(self.backend.xp.empty(shape, dtype=spec.dtype))
            else:
                arrays.append((lease if spec.stacked else scratch).take(shape, spec.dtype))
        return arrays

    def _states(self, arrays: Sequence[Array], row: int) -> list[Array | None]:
        """Where each state lies before the first step or after the last; None for an unused one."""
        specs = self.plan.loop.arrays
        return [
            None if k is None else arrays[k][(row, ...) if specs[k].stacked else ...]
            for k in self.plan.state
        ]

    def _totals(self, after: OverTime, finals: Sequence[Array]) -> list[Array]:
        """What is summed over time, after the loop or inside it; no two are one array."""
        wanted = self.program.totals
        sums = [after.total(v) for v in wanted]
        totals = [
            array.copy() if array.base is not None or v in wanted[:k] else array
            for k, (v, array) in enumerate(zip(wanted, sums, strict=True))
        ]
        if not self.summed:
            return totals
        inside, outside = iter(finals[len(finals) - sum(self.summed) :]), iter(totals)
        return [next(inside) if is_inside else next(outside) for is_inside in self.summed]

    def _is_bare(self) -> bool:
        """Whether the loop reads nothing but constants and inputs and gives the outputs itself."""
        given = {*self.program.consts, *self.program.xs}
        arrays = self.plan.loop.arrays
        places = [self.plan.crossing.get(y) for y in self.program.ys]
        return (
            given.issuperset(self.plan.inputs)
            and all(place is not None and arrays[place[0]].stacked for place in places)
            and not (self.program.totals or self.summed)
        )

    def _outputs(self, after: OverTime) -> list[Array]:
        """The outputs over time; what a user gets shares its memory with nothing else."""
        taken: set[Any] = set()
        ys: list[Array] = []
        for k, v in enumerate(self.program.ys):
            array = after.series(v)
            if k < len(self.given):
                place = self.plan.crossing[v][0] if v in self.plan.crossing else v
                if place in taken or (place is v and v not in self.fresh):
                    array = array.copy()
                taken.add(place)
            ys.append(array)
        return ys

    def runner(self, steps: int) -> Runner:
        """The loop's function, for the emitters that are switched on."""
        return emit(self.plan.loop, self.backend, self._runners)
