"""Tracing: a step is run once, and what it wrote on the tape becomes a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_rnn import ops, tape
from tinygrad_rnn.backends import Array
from tinygrad_rnn.replay.program.program import Op, Program, Value, needed_ops
from tinygrad_rnn.tape import Primitive
from tinygrad_rnn.tensor import Tensor

DETACH = Primitive("detach", lambda xp, x: x, [None], kernel="x0")
"""What a step computes under no_grad: the value, for which no gradient is wanted."""


class ReadError(RuntimeError):
    """A step looked at the elements of a value, which change from one time step to the next."""


class Random:
    """The random numbers of a traced step: each draw is one more input, with a block for all T."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.around: ops.Blocks | None = None
        self.leaves: list[Tensor] = []
        self.blocks: list[Any] = []
        self.draws: list[tuple[tuple[int, ...], Callable[[tuple[int, ...]], Array]]] = []

    def read(self, shape: tuple[int, ...], draw: Callable[[tuple[int, ...]], Array]) -> Tensor:
        """The part of one step, as a leaf of the trace."""
        self.draws.append((shape, draw))
        block = drawn(self.around, self.steps, shape, draw)
        self.blocks.append(block)
        first = block.array if isinstance(block, Tensor) else block
        leaf = Tensor(first[0])
        self.leaves.append(leaf)
        return leaf


def drawn(
    around: ops.Blocks | None,
    steps: int,
    shape: tuple[int, ...],
    draw: Callable[[tuple[int, ...]], Array],
) -> Any:
    """A block of random numbers for all time steps, itself part of a block of a loop around."""
    if around is None:
        return draw((steps,))
    return around.read((steps, *shape), lambda lead: draw((*lead, steps)))


class Trace:
    """One run of a step on leaves of its own.

    Attributes
    ----------
    program : what the step computes.
    captured : what it read besides its inputs (Tensors and arrays), in the order of the program's
        constants.
    result : what it returned, as containers of leaves.
    looked_outside : whether it looked at the elements of a value that is no part of the step.
    """

    def __init__(self, step: Callable[[Any, Any], Any], x: Any, state: Any, random: Random) -> None:
        self.looked_outside = False
        self.random = random
        self.start = tape.next_position()
        self._inputs: list[Any] = [*tape.leaves(x), *tape.leaves(state)]
        with (
            tape.tracing(self._reading),
            ops.blocks_of_steps(random) as random.around,
        ):
            self.result = step(x, state)
        self.xs: list[Tensor] = [*tape.leaves(x), *random.leaves]
        self.state: list[Tensor] = tape.leaves(state)

    def finish(self, ys: Sequence[Tensor], next_state: Sequence[Tensor]) -> None:
        """Make the program of what leads to the outputs."""
        self.program, self.captured, _ = program_of(
            [], self.xs, self.state, ys, next_state, [], self.start
        )

    def _reading(self, value: Any) -> None:
        inputs = [x for x in self._inputs if isinstance(x, tape.Traced)] + self.random.leaves
        if any(value is x for x in inputs) or len(tape.Tape([value], inputs, self.start)):
            where = tape.user_line()
            raise ReadError(
                f"scan: the step reads the elements of a value{f' at {where}' if where else ''}; "
                "it is traced once for all time steps, so write the choice with where(...), or run "
                "it step by step with unroll=True, as in Recurrent(cell, unroll=True)"
            )
        self.looked_outside = True


def program_of(
    consts: Sequence[Tensor],
    xs: Sequence[Tensor],
    state: Sequence[Tensor],
    ys: Sequence[Tensor],
    next_state: Sequence[Tensor],
    totals: Sequence[Tensor],
    since: int,
) -> tuple[Program, list[Any], dict[Any, Value]]:
    """The records from position ``since`` on that lead to the outputs, as a program.

    What they read besides the given inputs becomes further constants; the second result says what
    these are.
    """
    known: dict[Any, Value] = {}
    captured: dict[Any, Any] = {}
    detached: dict[Any, Value] = {}

    def value_of(x: Any) -> Value:
        v = recorded_value(x)
        if not _is_detached(x):
            return v
        if v not in detached:
            detached[v] = Value(v.shape, v.dtype)
            lines.append(Op(DETACH, [v], {}, [detached[v]]))
        return detached[v]

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
    for record in tape.collect(outputs, since):
        inputs = [
            value_of(x) if isinstance(x, tape.Traced) or hasattr(x, "dtype") else x
            for x in record.inputs
        ]
        results = [Value(y.shape, y.dtype) for y in record.results]
        for slot, y in enumerate(results):
            known[(record, slot) if slot else record] = y
        lines.append(Op(record.primitive, inputs, record.params, results))
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


def _is_detached(x: Any) -> bool:
    """Whether a value was computed under no_grad from what wants a gradient."""
    return (
        isinstance(x, Tensor)
        and x.record is not None
        and not x.needs_grad
        and x.dtype.kind == "f"
        and any(isinstance(w, Tensor) and w.needs_grad for w in x.record.inputs)
    )
