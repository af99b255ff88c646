"""Where the time of a replayed loop goes: its parts run one by one, with clocks between them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, Literal, NamedTuple

import numpy as np

from tinygrad_rnn.backends import Array, extras
from tinygrad_rnn.replay.emit import choice
from tinygrad_rnn.replay.emit.cuda.work import moved_bytes
from tinygrad_rnn.replay.passes.plain import VIEWS, is_product
from tinygrad_rnn.replay.program.lineage import Lineage
from tinygrad_rnn.replay.program.loop import Kernel, Loop, Product, Step, read, written
from tinygrad_rnn.replay.program.program import Op, Value, needed_ops
from tinygrad_rnn.replay.ran import Piece
from tinygrad_rnn.replay.run.compiled import Ready
from tinygrad_rnn.replay.run.memory import Lease
from tinygrad_rnn.replay.run.whole_sequences import OverTime

REPEATED = 3
"""Runs of each part, of which the quickest counts."""


class Part(NamedTuple):
    """One part of a compiled program, and the seconds that all time steps of it take together.

    ``kind`` is ``"before"`` and ``"after"`` for what is done for all steps at once, else that of
    the loop's step. ``multiply_adds`` and ``nbytes`` (read and written) are of all time steps, 0
    where they are not known. ``lines`` are the numbers of the lines of the traced step that it was
    made of, or whose gradient it is; ``of`` is the number of the loop's input whose gradient it is.
    """

    kind: Literal["before", "product", "kernel", "call", "after"]
    what: str
    seconds: float
    multiply_adds: int = 0
    nbytes: int = 0
    lines: tuple[int, ...] = ()
    of: int | None = None


def timed(piece: Piece) -> list[Part]:
    """The parts of a piece with the seconds of one run, the quickest of :data:`REPEATED`.

    What is done before and after the loop is timed value by value. Each step of the loop is
    compiled as a loop of its own and run through all time, so what it reads is not as near in the
    cache as in the real loop, and what is compiled may take seconds. Inputs are random numbers of
    the right shapes. On a GPU the device is waited for.
    """
    return _Timed(piece).parts()


class _Timed:
    """A piece with inputs, ready to run."""

    def __init__(self, piece: Piece) -> None:
        self.piece, self.compiled, self.steps = piece, piece.compiled, piece.steps
        self.backend, program = piece.compiled.backend, piece.compiled.program
        self.lineage = Lineage(piece.replay.program)
        self.generator = np.random.default_rng(0)
        consts = [self.made(v) for v in program.consts]
        xs = [self.made(v, self.steps) for v in program.xs]
        added = len(self.compiled.rounded) + sum(self.compiled.summed)
        state = [self.made(v) for v in program.state[: len(program.state) - added]]
        self.inputs = consts, xs, state
        self.any_array = [*consts, *xs, *state][0]

    def made(self, v: Value, *lead: int) -> Array:
        """Random numbers for a value; zeros for indices, all True for what is a mask."""
        shape, kind = (*lead, *v.shape), v.dtype.kind
        values = np.full(shape, kind == "b")
        if kind == "f":
            values = 0.1 * self.generator.standard_normal(shape)
        return self.backend.from_host(values.astype(v.dtype), self.piece.replay.device)

    def once(self, work: Callable[[], Any]) -> float:
        """The seconds that some work takes."""
        self.backend.wait(self.any_array)
        start = time.perf_counter()
        work()
        self.backend.wait(self.any_array)
        return time.perf_counter() - start

    def best(self, work: Callable[[], Any]) -> float:
        """The seconds of the quickest of some runs."""
        return min(self.once(work) for _ in range(REPEATED))

    def parts(self) -> list[Part]:
        """All of them in their order."""
        run = self.backend.there(self.any_array, self._parts)
        return self.backend.flushed(run)

    def _parts(self) -> list[Part]:
        lease = Lease(self.backend)  # which holds the memory of the loop
        ready = self.compiled.prepared(*self.inputs, self.steps, lease)
        self.compiled.compiled_loop()(ready.arrays, self.steps)
        return [*self._before(ready), *self._loop(ready), *self._after(ready)]

    def _before(self, ready: Ready) -> Iterator[Part]:
        compiled, early = self.compiled, self.compiled.parts.before
        producers = {y: op for op in early for y in op.outputs}
        xs = dict(zip(compiled.program.xs, self.inputs[1], strict=True))

        def over_time() -> OverTime:
            take = Lease(self.backend).take
            return OverTime(self.backend, self.steps, ready.after.single, {**xs}, producers, take)

        asked = [_Asked(v) for v in compiled.plan.inputs if v in producers]
        whole = self.best(lambda: compiled.prepared(*self.inputs, self.steps, Lease(self.backend)))
        rest = "weights, states in place"
        yield from self._around("before", over_time, asked, early, whole, rest)

    def _loop(self, ready: Ready) -> Iterator[Part]:
        loop, steps = self.compiled.plan.loop, self.steps
        for step, ops in zip(loop.steps, self.compiled.plan.ops, strict=True):
            alone = Loop(loop.arrays, (step,), loop.reverse)
            run = partial(choice.emit(alone, self.backend, extras()), ready.arrays, steps)
            run()  # and from now on it is compiled
            kind, what, work = _described(step)
            moved = moved_bytes(loop, read(step)) + moved_bytes(loop, written(step))
            lines = self.lineage.numbers_of(ops)
            yield Part(kind, what, self.best(run), work * steps, moved * steps, lines)

    def _after(self, ready: Ready) -> Iterator[Part]:
        compiled, back = self.compiled, self.piece.back
        program, over_time = compiled.program, ready.after.copy
        first, known = len(self.piece.replay.program.consts), ready.after.stacked
        consts = [] if back is None else back.consts
        if compiled.summed:  # some are summed within the loop
            consts = [c for c, inside in zip(consts, compiled.summed, strict=False) if not inside]
        xs = [] if back is None else [first + k for k in back.xs]
        asked = [
            _Asked(v, of)
            for v, of in zip_longest(program.ys, xs)
            if v is not None and v not in known
        ]
        asked += [_Asked(v, of, True) for v, of in zip_longest(program.totals, consts)]
        whole = self.best(lambda: compiled.finished(ready._replace(after=over_time())))
        ops = compiled.parts.after
        yield from self._around("after", over_time, asked, ops, whole, "results copied")

    def _around(
        self,
        kind: Literal["before", "after"],
        over_time: Callable[[], OverTime],
        asked: list[_Asked],
        ops: Sequence[Op],
        whole: float,
        rest: str,
    ) -> Iterator[Part]:
        """What is done for all steps at once, value by value, and the rest of it."""
        seconds = [math.inf] * len(asked)
        for _ in range(REPEATED):
            found = over_time()
            for k, one in enumerate(asked):
                work = partial(found.total if one.total else found.series, one.value)
                seconds[k] = min(seconds[k], self.once(work))
        done: set[Op] = set()
        for one, took in zip(asked, seconds, strict=True):
            mine = [op for op in needed_ops(ops, [one.value]) if op not in done]
            done.update(mine)
            names = _names([op.primitive.name for op in mine if op.primitive not in VIEWS])
            what = f"{names or 'sum'} {one.value.shape}"
            work = sum(map(_multiply_adds, mine)) * self.steps
            lines = self.lineage.numbers_of(mine)
            yield Part(kind, what, took, work, 0, lines, one.of)
        if whole > sum(seconds):
            yield Part(kind, rest, whole - sum(seconds))


class _Asked(NamedTuple):
    """A value that is wanted at all time steps or summed over them: of an input the gradient."""

    value: Value
    of: int | None = None
    total: bool = False


def _multiply_adds(op: Op) -> int:
    """Those of a product at one time step, 0 of anything else."""
    if not is_product(op):
        return 0
    a, b = (x.shape for x in op.values())
    return a[0] * a[1] * b[1]


def _described(step: Step) -> tuple[Literal["product", "kernel", "call"], str, int]:
    """Kind, text and multiply-adds of a step."""
    if isinstance(step, Product):
        (m, n), columns = step.a.shape, step.b.shape[1]
        return "product", f"{step.a.shape} @ {step.b.shape}", m * n * columns
    if isinstance(step, Kernel):
        names = [line.function for phase in step.phases for line in phase.lines]
        names += [kind for phase in step.phases for _, kind, _ in phase.reduces]
        return "kernel", f"{(*step.lead, step.phases[0].width)}: {_names(names)}", 0
    return "call", step.primitive.name, 0


def _names(names: Sequence[str]) -> str:
    """Names with how often they come, in the order of their first coming."""
    return ", ".join(n if k == 1 else f"{k} {n}" for n, k in Counter(names).items())
