"""Running a compiled program: what is done once, before the loop, in it, and after it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinygrad_rnn.backends import Array, Backend, extras
from tinygrad_rnn.ops import cast
from tinygrad_rnn.replay.emit import choice
from tinygrad_rnn.replay.emit.common import CompiledLoop
from tinygrad_rnn.replay.passes.pipeline import passed
from tinygrad_rnn.replay.passes.plain import HALF, VIEWS, is_light, is_product
from tinygrad_rnn.replay.program.program import Program, Value, needed_ops
from tinygrad_rnn.replay.run.bound_loops import BoundLoops, array_kinds, state_places
from tinygrad_rnn.replay.run.memory import Lease
from tinygrad_rnn.replay.run.whole_sequences import OverTime

Found: TypeAlias = tuple[list[Array], list[Array], list[Array]]
"""Outputs over time, the last state, and what is summed over time."""


class Ready(NamedTuple):
    """A loop that can begin: its arrays, states at both ends, and what is known when it is over."""

    arrays: list[Any]
    start: list[Any]
    ends: list[Any]
    after: OverTime
    scratch: Lease  # which holds the memory that goes when the run is over


class Compiled:
    """A program ready to run over any number of steps.

    Parameters
    ----------
    program : one step.
    reverse : whether time runs from T-1 to 0.
    given : how many of the outputs ``ys`` are handed to a user; the others are residuals.
    brief : whether it is meant for a few steps only, as when a stream is followed.

    Attributes
    ----------
    passed : what each pass made of the program.
    used_once : what depends on constants alone, as far as anything reads it.
    """

    def __init__(
        self, program: Program, reverse: bool, given: int, backend: Backend, brief: bool = False
    ) -> None:
        self.backend, self.reverse = backend, reverse
        self.passed = passed(program, reverse, brief)
        self.program, self.parts, self.plan = self.passed.settled, *self.passed[-2:]
        self.rounded, self.summed = self.passed.rounded, self.passed.summed
        self.given = self.program.ys[:given]
        around = [*self.parts.before, *self.parts.after]
        self.used_once = needed_ops(
            self.parts.once,
            [*self.plan.inputs, *self.program.outputs, *(x for op in around for x in op.values())],
        )
        self._early = {y: op for op in self.parts.before for y in op.outputs}
        self._producers = {y: op for op in around for y in op.outputs}
        self._gives_early = not self._early.keys().isdisjoint(self.program.ys)
        # After the loop these have memory of their own, which can be given away as it is
        self._fresh = {
            op.outputs[0]
            for op in self.parts.after
            if (is_light(op) or is_product(op)) and op.primitive not in VIEWS
        }
        crossing = self.plan.crossing
        self._leaving = {crossing[y][0] for y in self.given if y in crossing}
        self._lent = [
            k
            for k in range(len(self.plan.loop.arrays))
            if k not in self._leaving and k not in self.plan.inputs.values()
        ]
        keeps_bound = brief and backend.xp is np and self._is_bare()
        self.bound_loops = BoundLoops(self.program, self.plan) if keeps_bound else None
        self._loops: dict[Any, CompiledLoop] = {}

    def run(
        self,
        consts: Sequence[Array],
        xs: Sequence[Array],
        state: Sequence[Array],
        steps: int,
        lease: Lease | None = None,
    ) -> Found:
        """(ys, final state, totals). Residuals lie in memory of the lease.

        Without one there must be none.
        """
        compiled = self.compiled_loop()
        if self.bound_loops is not None:
            at_once = self.bound_loops.run(compiled, consts, xs, state, steps)
            if at_once is not None:
                return at_once
        run = partial(self._run, compiled, consts, xs, state, steps, lease)
        if self.backend.several:
            run = self.backend.there([*consts, *xs, *state][0], run)
        return self.backend.flushed(run)

    def _run(
        self,
        compiled: CompiledLoop,
        consts: Sequence[Array],
        xs: Sequence[Array],
        state: Sequence[Array],
        steps: int,
        lease: Lease | None,
    ) -> Found:
        ready = self.prepared(consts, xs, state, steps, lease)
        compiled(ready.arrays, steps)
        return self.finished(ready)

    def prepared(
        self,
        consts: Sequence[Array],
        xs: Sequence[Array],
        state: Sequence[Array],
        steps: int,
        lease: Lease | None,
    ) -> Ready:
        """What is done once and before the loop."""
        scratch = Lease(self.backend)
        lease = scratch if lease is None else lease
        single = self._once(consts)
        stacked: dict[Value, Array] = dict(zip(self.program.xs, xs, strict=True))
        take = lease.take if self._gives_early else scratch.take
        values = OverTime(self.backend, steps, single, stacked, self._early, take)
        arrays = self._arrays(values, steps, lease)
        begins, ends = state_places(self.plan, arrays, steps)
        start: list[Any] = [*state, *(cast(state[k], HALF) for k in self.rounded)]
        start += [0] * (len(self.program.state) - len(start))
        for place, s in zip(begins, start, strict=True):
            if place is not None:
                place[...] = s
        for v, (k, rows) in self.plan.crossing.items():
            if self.plan.loop.arrays[k].stacked:
                stacked[v] = arrays[k][rows]
        values.producers, values.take = self._producers, self.backend.xp.empty
        return Ready(arrays, start, ends, values, scratch)

    def finished(self, ready: Ready) -> Found:
        """What is done after the loop, and what comes of all."""
        ends: list[Array] = []
        for place, s in zip(ready.ends, ready.start, strict=True):
            ends.append((s if place is None else place).copy())
        given = len(ends) - len(self.rounded) - sum(self.summed)
        return self._outputs(ready.after), ends[:given], self._totals(ready.after, ends)

    def _once(self, consts: Sequence[Array]) -> dict[Value, Array]:
        """The constants, and what depends on them alone."""
        xp = self.backend.xp
        single: dict[Value, Array] = dict(zip(self.program.consts, consts, strict=True))
        for op in self.used_once:
            inputs: list[Any] = [single[x] if isinstance(x, Value) else x for x in op.inputs]
            found = op.primitive.forward(xp, *inputs, **op.params)
            results: Sequence[Any] = found if op.primitive.multiple else (found,)
            for y, result in zip(op.outputs, results, strict=True):
                single[y] = xp.asarray(result)
        return single

    def _arrays(self, before: OverTime, steps: int, lease: Lease) -> list[Any]:
        """The arrays of the loop: its inputs, and memory for what it computes."""
        kinds = array_kinds(self.plan, steps)
        arrays: list[Any] = [None] * len(kinds)
        known = {**before.stacked, **before.single}
        for v, k in self.plan.inputs.items():
            array = known.get(v)
            array = before.series(v) if array is None else array
            arrays[k] = array if array.flags.c_contiguous else self.backend.contiguous(array)
        for k in self._leaving:
            arrays[k] = self.backend.xp.empty(*kinds[k])
        lent = lease.take_all([kinds[k] for k in self._lent])
        for k, array in zip(self._lent, lent, strict=True):
            arrays[k] = array
        return arrays

    def _outputs(self, after: OverTime) -> list[Array]:
        """The outputs over time; what a user gets shares its memory with nothing else."""
        taken: set[Any] = set()
        ys: list[Array] = []
        for k, v in enumerate(self.program.ys):
            array = after.stacked.get(v)
            array = after.series(v) if array is None else array
            if k < len(self.given):
                place = self.plan.crossing[v][0] if v in self.plan.crossing else v
                if place in taken or (place is v and v not in self._fresh):
                    array = array.copy()
                taken.add(place)
            ys.append(array)
        return ys

    def _totals(self, after: OverTime, ends: Sequence[Array]) -> list[Array]:
        """What is summed over time, after the loop or inside it; no two are one array."""
        totals: list[Array] = []
        for k, v in enumerate(self.program.totals):
            array = after.total(v)
            again = array.base is not None or v in self.program.totals[:k]
            totals.append(array.copy() if again else array)
        if not self.summed:
            return totals
        inside, outside = iter(ends[len(ends) - sum(self.summed) :]), iter(totals)
        return [next(inside) if is_inside else next(outside) for is_inside in self.summed]

    def _is_bare(self) -> bool:
        """Whether the loop reads nothing but constants and inputs and gives the outputs itself."""
        given = {*self.program.consts, *self.program.xs}
        arrays = self.plan.loop.arrays
        places = [self.plan.crossing.get(y) for y in self.program.ys]
        return (
            given.issuperset(self.plan.inputs)
            and all(place is not None and arrays[place[0]].stacked for place in places)
            and not (self.program.totals or self.summed or self.rounded)
        )

    def found_loop(self) -> CompiledLoop | None:
        """The loop's function, where it was compiled already."""
        return self._loops.get(extras())

    def compiled_loop(self) -> CompiledLoop:
        """The loop's function, compiled at the first call for each choice of emitters."""
        chosen = extras()
        compiled = self._loops.get(chosen)
        if compiled is None:
            made = choice.emit(self.plan.loop, self.backend, chosen)
            compiled = self._loops.setdefault(chosen, made)
        return compiled
