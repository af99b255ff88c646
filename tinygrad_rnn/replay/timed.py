"""Where the time of a replayed loop goes: its parts run one by one, with clocks between them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from tinygrad_rnn.backends import Array, extras
from tinygrad_rnn.replay.emit import choice
from tinygrad_rnn.replay.passes.gradient import Wanted
from tinygrad_rnn.replay.primitive import roles
from tinygrad_rnn.replay.program.lineage import Lineage
from tinygrad_rnn.replay.program.loop import Kernel, Loop, Product, Step, read, written
from tinygrad_rnn.replay.program.program import Op, Value
from tinygrad_rnn.replay.run.compiled import Compiled
from tinygrad_rnn.replay.run.memory import Lease
from tinygrad_rnn.replay.run.replay import Held, Replay
from tinygrad_rnn.tape import Record

REPEATED = 3
"""Runs of each part, of which the quickest counts."""


class Piece(NamedTuple):
    """A compiled program as a record has run it: over so many steps, and how many times."""

    what: Literal["forward", "computed again", "backward"]
    replay: Replay
    compiled: Compiled
    steps: int
    times: int = 1


class Part(NamedTuple):
    """One part of a compiled program, and the seconds that all time steps of it take together.

    ``kind`` is ``"before"`` and ``"after"`` for what is done for all steps at once, else that of
    the loop's step. ``multiply_adds`` and ``nbytes`` (read and written) are of all time steps, 0
    where they are not known. ``lines`` are the numbers of the lines of the traced step that it was
    made of, or whose gradient it is.
    """

    kind: Literal["before", "product", "kernel", "call", "after"]
    what: str
    seconds: float
    multiply_adds: int = 0
    nbytes: int = 0
    lines: tuple[int, ...] = ()


def forward_pieces(record: Record) -> list[Piece]:
    """What ran forward of a replayed loop."""
    replay, steps, held = _run_of(record)
    if held is not None and held.every is None:
        return [Piece("forward", replay, replay.training(held.wanted).forward, steps)]
    inference = replay.inference(steps)
    if held is None:
        return [Piece("forward", replay, inference, steps)]
    return _segments("forward", replay, inference, steps, held)


def backward_pieces(record: Record, arrived: Sequence[Any], given: Sequence[Any]) -> list[Piece]:
    """What ran backward of a replayed loop, to which cotangents ``arrived``, and which gave some.

    Nothing for a pass that is itself on the tape: there the loops are records of their own.
    """
    replay, steps, held = _run_of(record)
    if held is None or any(isinstance(g, tuple) or hasattr(g, "record") for g in given):
        return []
    program = replay.program
    consts, xs, _ = roles(program, [g is not None for g in given])
    ys = [g is not None and y.dtype.kind == "f" for g, y in zip(arrived, program.ys, strict=False)]
    wanted = Wanted((*consts,), (*xs,), True, (*ys,))
    _, compiled = replay.backward_program(held.wanted, wanted)
    if held.every is None:
        return [Piece("backward", replay, compiled, steps)]
    again = replay.training(held.wanted).forward
    return [
        *_segments("computed again", replay, again, steps, held),
        *_segments("backward", replay, compiled, steps, held),
    ]


def _run_of(record: Record) -> tuple[Replay, int, Held | None]:
    params = record.params
    return params["replay"], params["steps"], params["held"]


def _segments(what: Any, replay: Replay, compiled: Compiled, steps: int, held: Held) -> list[Piece]:
    lengths = Counter(
        part.stop - part.start for part in replay.segments(steps, held.every or steps)
    )
    return [Piece(what, replay, compiled, n, times) for n, times in lengths.items()]


def timed(piece: Piece) -> list[Part]:
    """The parts of a piece with the seconds of one run, the quickest of :data:`REPEATED`.

    What is done before and after the loop is timed as a whole. Each step of the loop is compiled as
    a loop of its own and run through all time, so what it reads is not as near in the cache as in
    the real loop, and what is compiled may take seconds. Inputs are random numbers of the right
    shapes. On a GPU the device is waited for.
    """
    compiled, steps = piece.compiled, piece.steps
    program, loop = compiled.program, compiled.plan.loop
    backend = compiled.backend
    generator = np.random.default_rng(0)

    def made(v: Value, *lead: int) -> Array:
        shape = (*lead, *v.shape)
        values = 0.1 * generator.standard_normal(shape) if v.dtype.kind == "f" else np.ones(shape)
        return backend.from_host(
            (values * (v.dtype.kind in "bf")).astype(v.dtype), piece.replay.device
        )

    consts = [made(v) for v in program.consts]
    xs = [made(v, steps) for v in program.xs]
    count = len(program.state) - len(compiled.rounded) - sum(compiled.summed)
    state = [made(v) for v in program.state[:count]]
    whole = compiled.compiled_loop()
    any_array = [*consts, *xs, *state][0]
    lineage = Lineage(piece.replay.program)

    def clocked(work: Callable[[], Any]) -> float:
        best = math.inf
        for _ in range(REPEATED):
            backend.wait(any_array)
            start = time.perf_counter()
            work()
            backend.wait(any_array)
            best = min(best, time.perf_counter() - start)
        return best

    def around(kind: Literal["before", "after"], ops: Sequence[Op], work: Any) -> Part:
        names = _names([op.primitive.name for op in ops])
        return Part(kind, names, clocked(work), lines=lineage.numbers_of(ops))

    def run() -> list[Part]:
        lease = Lease(backend)
        ready = compiled.prepared(consts, xs, state, steps, lease)
        whole(ready.arrays, steps)
        first, last = [*compiled.used_once, *compiled.parts.before], compiled.parts.after
        again = partial(compiled.prepared, consts, xs, state, steps)
        parts = [around("before", first, lambda: again(Lease(backend)))]
        for step, ops in zip(loop.steps, compiled.plan.ops, strict=True):
            alone = choice.emit(Loop(loop.arrays, (step,), loop.reverse), backend, extras())
            at_all = partial(alone, ready.arrays, steps)
            at_all()  # and from now on it is compiled
            kind, what, work = _described(step)
            moved, lines = _moved(step, loop), lineage.numbers_of(ops)
            parts.append(Part(kind, what, clocked(at_all), work * steps, moved * steps, lines))
        finish = partial(compiled.finished, steps=steps)
        new = ready._replace  # what is computed after the loop is put among what is stacked
        parts.append(around("after", last, lambda: finish(new(stacked={**ready.stacked}))))
        return parts

    return backend.flushed(backend.there(any_array, run))


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


def _moved(step: Step, loop: Loop) -> int:
    """Bytes that a step reads and writes at each time, each place once."""
    total = 0
    for ref in dict.fromkeys([*read(step), *written(step)]):
        elements = math.prod(n for n, s in zip(ref.shape, ref.strides, strict=True) if s)
        total += elements * loop.arrays[ref.array].dtype.itemsize
    return total


def _names(names: Sequence[str]) -> str:
    """Names with how often they come, in the order of their first coming."""
    return ", ".join(n if k == 1 else f"{k} {n}" for n, k in Counter(names).items())
