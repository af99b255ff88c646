"""Tracing: a step is run on its inputs, and what it wrote on the tape becomes a program.

The values are those of the loop's own time step, connected to the tape, so that the loop can go on
unrolled from where tracing has come.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any, cast

from tinygrad_rnn import ops, tape
from tinygrad_rnn.backends import Array
from tinygrad_rnn.replay.program.program import Op, Program, Value, needed_ops
from tinygrad_rnn.replay.program.verify import verified, verify
from tinygrad_rnn.tape import Primitive, Record
from tinygrad_rnn.tensor import Tensor

DETACH = Primitive("detach", lambda xp, x: x, [None], kernel="x0")
"""What a step computes under no_grad: the value, for which no gradient is wanted."""

_PACKAGE = __name__.partition(".")[0]
_array: Any = tape.Traced.array  # the slot behind Followed.array


class ReadError(RuntimeError):
    """A step looked at the elements of a value, which change from one time step to the next."""


class Followed(Tensor):
    """A value of a step that is being traced: only this package may look at its array unasked."""

    __slots__ = ()
    is_followed = True

    @property
    def array(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        caller = sys._getframe(1).f_globals.get("__name__", "")  # pyright: ignore[reportPrivateUsage]
        if caller.partition(".")[0] != _PACKAGE:
            tape.reading(self)
        return _array.__get__(self)

    @array.setter
    def array(self, value: Any) -> None:
        _array.__set__(self, value)

    @property
    def requires_grad(self) -> bool:
        """As ever; a step that asks for it may do other things in the second step."""
        tracer = tape.current_modes.get().tracer
        if isinstance(tracer, Trace):
            tracer.asked_for_grad = True
        return self.needs_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        Tensor.requires_grad.__set__(self, value)


Followed.__name__ = "Tensor"  # what errors call it


class Draws:
    """The random numbers of a loop: a block for all steps, drawn where a step asks for one.

    ``begin(t)`` comes before each step. The steps read the blocks in the order in which they ask.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.around: ops.Blocks | None = None
        self.asked: list[ops.Draw] = []
        self.blocks: list[Any] = []
        self.parts: list[Tensor] = []
        self.follow: Callable[[list[Tensor]], None] | None = None

    def begin(self, t: int) -> None:
        """The numbers that are asked for from now on are those of step t."""
        self.t, self.count, self.parts = t, 0, []

    def read(self, draw: ops.Draw) -> Tensor:
        """The part of one step, as a leaf."""
        k = self.count
        self.count += 1
        if k == len(self.blocks):
            self.asked.append(draw)
            self.blocks.append(drawn(draw, self.steps, self.around))
        alike = self.asked[k].is_like(draw)
        part = self.blocks[k][self.t, ...] if alike else drawn(draw, 1, self.around)[0]
        leaf = ops.identity(part) if isinstance(part, Tensor) else Tensor(part)
        self.parts.append(leaf)
        if self.follow is not None:
            self.follow([leaf])
        return leaf


def drawn(draw: ops.Draw, steps: int, around: ops.Blocks | None = None) -> Any:
    """A block of random numbers for all time steps, itself part of a block of a loop around."""
    if around is None:
        return draw.make((steps,))

    def make(lead: tuple[int, ...]) -> Array:
        return draw.make((*lead, steps))

    return around.read(ops.Draw((*draw.kind, steps), (steps, *draw.shape), make))


class Trace:
    """One run of a step, followed.

    Attributes
    ----------
    program : what the step computes.
    captured : what it read besides its inputs (Tensors and arrays), in the order of the program's
        constants.
    result : what it returned.
    looked_outside : whether it looked at the elements of a value that is no part of the step.
    asked_for_grad : whether it asked if a value requires a gradient.
    """

    program: Program
    captured: list[Any]

    def __init__(self, step: Callable[[Any, Any], Any], x: Any, state: Any, draws: Draws) -> None:
        self.looked_outside = self.asked_for_grad = False
        modes = tape.current_modes.get()
        self._around, self._recording = modes.tracer, modes.recording
        self._detached: set[int] = set()  # the positions of records made within no_grad
        self._values: list[weakref.ref[Tensor]] = []
        self._inputs: list[Tensor] = [*tape.leaves(x), *tape.leaves(state)]
        self._count = len(tape.leaves(x))
        self._draws = draws
        self.start = tape.next_position()
        self._follow(self._inputs)
        draws.follow = self._follow
        try:
            with tape.tracing(self), ops.blocks_of_steps(draws) as draws.around:
                self.result: Any = step(x, state)
        finally:
            draws.follow = None
            if self._around is None:
                for value in self.alive():
                    value.__class__ = Tensor

    def reading(self, value: Any) -> None:
        """Refuse to look at a value that depends on the step's inputs."""
        inputs = [*self._inputs, *self._draws.parts]
        if any(value is x for x in inputs) or len(tape.Tape([value], inputs, self.start)):
            where = tape.user_line()
            raise ReadError(
                f"scan: the step reads the elements of a value{f' at {where}' if where else ''}; "
                "it is traced for all time steps, so write a choice with where(...), ask for inner "
                "values by rnn.note and record=, or run it step by step with unroll=True, as in "
                "Recurrent(cell, unroll=True)"
            )
        self.looked_outside = True
        if self._around is not None:
            self._around.reading(value)

    def made(self, record: Record, outputs: list[Any], recording: bool) -> None:
        """Follow what an operation has computed."""
        if self._recording and not recording:
            self._detached.add(record.position)
        self._follow(outputs)
        if self._around is not None:
            self._around.made(record, outputs, recording)

    def _follow(self, values: list[Tensor]) -> None:
        for value in values:
            value.__class__ = Followed
            self._values.append(weakref.ref(value))

    def alive(self) -> list[Tensor]:
        """The values that somebody holds."""
        return [value for value in (seen() for seen in self._values) if value is not None]

    @property
    def is_watched(self) -> bool:
        """Whether the step asked for the gradient of a value."""
        return any(value.watch is not None for value in self.alive())

    def finish(self, ys: Sequence[Tensor], next_state: Sequence[Tensor]) -> None:
        """Make the program of what leads to the outputs."""
        xs = [*self._inputs[: self._count], *self._draws.parts]
        state = self._inputs[self._count :]
        self.program, self.captured, _ = program_of(
            [], xs, state, ys, next_state, [], self.start, self._detached
        )

    def forget(self) -> None:
        """Let go of all values, so that those still alive are held by somebody else."""
        self.result, self._inputs = None, []


def _verify(found: tuple[Program, list[Any], Any], *given: Any) -> None:
    (program, captured, _), (consts, xs, state, ys, _, totals, *_) = found, given
    verify(program, consts=[*consts, *captured], xs=xs, state=state, ys=ys, totals=totals)


@verified(_verify)
def program_of(
    consts: Sequence[Tensor],
    xs: Sequence[Tensor],
    state: Sequence[Tensor],
    ys: Sequence[Tensor],
    next_state: Sequence[Tensor],
    totals: Sequence[Tensor],
    since: int,
    detached: set[int] | frozenset[int] = frozenset(),
) -> tuple[Program, list[Any], dict[Any, Value]]:
    """The records from position ``since`` on that lead to the outputs, as a program.

    What they read besides the given inputs becomes further constants; the second result says what
    these are. To the results of records at ``detached`` positions no gradient comes.
    """
    known: dict[Any, Value] = {}
    captured: dict[Any, Any] = {}
    cut: dict[Value, Value] = {}

    def value_of(x: Any) -> Value:
        v = recorded_value(x)
        record = x.record if isinstance(x, tape.Traced) else None
        if record is None or record.position not in detached or v.dtype.kind != "f":
            return v
        if v not in cut:
            cut[v] = Value(v.shape, v.dtype)
            lines.append(Op(DETACH, [v], {}, [cut[v]], origin=record.origin))
        return cut[v]

    def recorded_value(x: Any) -> Value:
        key = tape.key_of(x) if isinstance(x, tape.Traced) else id(x)
        if key not in known:
            array = x.array if isinstance(x, tape.Traced) else x
            known[key] = Value(array.shape, array.dtype)
            captured[key] = x
        return known[key]

    lines: list[Op] = []
    roles = [[recorded_value(x) for x in group] for group in (consts, xs, state)]
    captured.clear()
    outputs = [*ys, *next_state, *totals]
    given = [x.record for x in (*xs, *state) if x.record is not None]
    for record in tape.collect(outputs, since, given):
        inside = record.position in detached
        inputs = [
            (recorded_value(x) if inside else value_of(x))
            if isinstance(x, tape.Traced) or hasattr(x, "dtype")
            else x
            for x in record.inputs
        ]
        results = [Value(y.shape, y.dtype) for y in record.results]
        for slot, y in enumerate(results):
            known[(record, slot) if slot else record] = y
        primitive = cast("Primitive", record.primitive)
        lines.append(Op(primitive, inputs, record.params, results, origin=record.origin))
    found = [value_of(y) for y in outputs]
    extra = [known[key] for key in captured]
    first, second = len(ys), len(ys) + len(next_state)
    program = Program(
        [*roles[0], *extra],
        roles[1],
        roles[2],
        needed_ops(lines, found),
        found[:first],
        found[first:second],
        found[second:],
    )
    return program, [*captured.values()], known
