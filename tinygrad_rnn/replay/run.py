"""Running a compiled program: what is done once, before the loop, in it, and after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, Backend
from tinygrad_rnn.replay.emitters import Runner, bind, emit
from tinygrad_rnn.replay.frames import LARGEST, Frame, Frames
from tinygrad_rnn.replay.lower import VIEWS, is_product, lower
from tinygrad_rnn.replay.memory import Lease
from tinygrad_rnn.replay.plan import plan
from tinygrad_rnn.replay.program import Program, Value, needed_ops
from tinygrad_rnn.replay.simplify import simplify
from tinygrad_rnn.replay.split import Parts, is_light, split, summed_inside
from tinygrad_rnn.replay.whole import Whole


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
        self.leaving = {self.plan.crossing[y][0] for y in self.given if y in self.plan.crossing}
        self.constants = [k for v, k in self.plan.inputs.items() if v in set(program.consts)]
        early = {y for op in self.parts.before for y in op.outputs}
        self.is_left_early = not early.isdisjoint(self.program.ys)
        fresh = {op.outputs[0] for op in self.parts.after if is_light(op) or is_product(op)}
        self.fresh = fresh - {op.outputs[0] for op in self.parts.after if op.primitive in VIEWS}
        self.keeps_frames = brief and backend.xp is np
        self.frames = Frames()
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
        xp, plan, program = self.backend.xp, self.plan, self.program
        scratch = Lease(self.backend)
        single = self._single(consts)
        stacked: dict[Value, Array] = dict(zip(program.xs, xs, strict=True))
        take = lease.take if self.is_left_early else scratch.take
        before = Whole(xp, steps, single, stacked, self.parts.before, take)
        inputs = [
            (k, single[v] if v in single else before.series(v)) for v, k in plan.inputs.items()
        ]

        runner = self.runner(steps)
        key = (steps, runner, *map(id, consts)) if self.keeps_frames else None
        frame = self.frames.take(key) if self.keeps_frames else None
        if frame is None or not frame.enter(inputs):
            frame = self._frame(inputs, runner, steps, lease, scratch)
        arrays = frame.arrays
        start: list[Any] = [*state, *(None for _ in range(len(program.state) - len(state)))]
        for s, k in zip(start, plan.state, strict=True):
            if k is not None:
                target = arrays[k]
                if plan.loop.arrays[k].stacked:
                    target = target[steps if self.reverse else 0, ...]
                target[...] = 0 if s is None else s

        frame.run()

        last = 0 if self.reverse else steps
        finals: list[Array] = []
        for s, k in zip(start, plan.state, strict=True):
            if k is None:
                finals.append(s.copy())
            else:
                finals.append(
                    arrays[k][last, ...].copy() if plan.loop.arrays[k].stacked else arrays[k].copy()
                )
        for v, (k, rows) in plan.crossing.items():
            if plan.loop.arrays[k].stacked:
                stacked[v] = arrays[k][rows]
        after = Whole(xp, steps, single, stacked, [*self.parts.before, *self.parts.after], xp.empty)
        ys = self._outputs(after, frame.kept)
        sums = {v: after.total(v) for v in dict.fromkeys(program.totals)}
        totals = [
            sums[v] if v not in program.totals[:k] else sums[v].copy()
            for k, v in enumerate(program.totals)
        ]
        if self.summed:
            inside = iter(finals[len(finals) - sum(self.summed) :])
            outside = iter(totals)
            totals = [next(inside) if is_inside else next(outside) for is_inside in self.summed]
        if frame.kept:
            self.frames.give(key, frame)
        scratch.release()
        return ys, finals[: len(state)], totals

    def _single(self, consts: Sequence[Array]) -> dict[Value, Array]:
        """The values that are the same at every step."""
        single: dict[Value, Array] = dict(zip(self.program.consts, consts, strict=True))
        for op in self.used_once:
            inputs: list[Any] = [single[x] if isinstance(x, Value) else x for x in op.inputs]
            found = op.primitive.forward(self.backend.xp, *inputs, **op.params)
            results = found if op.primitive.multiple else (found,)
            single.update(zip(op.outputs, map(self.backend.xp.asarray, results), strict=True))
        return single

    def _frame(
        self,
        inputs: Sequence[tuple[int, Array]],
        runner: Runner,
        steps: int,
        lease: Lease,
        scratch: Lease,
    ) -> Frame:
        """Arrays for the loop, with these inputs; of its own where they can be kept."""
        xp, plan = self.backend.xp, self.plan
        specs = plan.loop.arrays
        shapes = [
            (*((steps + plan.is_state(k),) if spec.stacked else ()), *spec.shape)
            for k, spec in enumerate(specs)
        ]
        arrays: list[Any] = [None] * len(specs)
        for k, array in inputs:
            arrays[k] = xp.ascontiguousarray(array)
        size = sum(
            math.prod(shape) * spec.dtype.itemsize
            for k, (shape, spec) in enumerate(zip(shapes, specs, strict=True))
            if k not in self.constants
        )
        held = dict(inputs)
        kept = (
            self.keeps_frames
            and size <= LARGEST
            and all(arrays[k] is held[k] for k in self.constants)
        )
        for k, (shape, spec) in enumerate(zip(shapes, specs, strict=True)):
            if arrays[k] is None:
                if kept or k in self.leaving:
                    arrays[k] = xp.empty(shape, dtype=spec.dtype)
                else:
                    arrays[k] = (lease if spec.stacked else scratch).take(shape, spec.dtype)
            elif kept and k not in self.constants:
                arrays[k] = arrays[k].copy()
        return Frame(arrays, self.constants, bind(runner, arrays, steps), kept)

    def _outputs(self, after: Whole, kept: bool) -> list[Array]:
        """The outputs over time; what a user gets shares its memory with nothing else."""
        taken: set[Any] = set()
        ys: list[Array] = []
        for k, v in enumerate(self.program.ys):
            array = after.series(v)
            if k < len(self.given):
                place = self.plan.crossing[v][0] if v in self.plan.crossing else v
                owned = v in self.fresh if place is v else not kept
                if place in taken or not owned:
                    array = array.copy()
                taken.add(place)
            ys.append(array)
        return ys

    def runner(self, steps: int) -> Runner:
        """The loop's function, for the emitters that are switched on."""
        return emit(self.plan.loop, self.backend, self._runners)
