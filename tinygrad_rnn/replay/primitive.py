"""The primitive ``scan``: a compiled program over time as one operation, with its gradient rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any

from tinygrad_rnn import tape
from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops.arrays import raw
from tinygrad_rnn.replay.cache import replay_of
from tinygrad_rnn.replay.passes.gradient import Wanted, backward_step, float_states
from tinygrad_rnn.replay.program.program import Op, Program, replace_outputs
from tinygrad_rnn.replay.run.replay import Held, Replay
from tinygrad_rnn.tape import Primitive
from tinygrad_rnn.tensor import Tensor

Values = Sequence[Any]


def _forward(
    xp: Any, *inputs: Array, replay: Replay, steps: int, held: Held | None
) -> tuple[Array, ...]:
    return tuple(replay.forward(*roles(replay.program, inputs), steps, held))


def roles(program: Program, inputs: Sequence[Any]) -> tuple[Any, Any, Any]:
    """The inputs of a loop by what they are: constants, series over time, states."""
    first = len(program.consts)
    second = first + len(program.xs)
    return inputs[:first], inputs[first:second], inputs[second:]


def _rule(
    needed: Sequence[bool],
    gs: Sequence[Any],
    results: Sequence[Any],
    *inputs: Any,
    replay: Replay,
    steps: int,
    held: Held | None,
) -> list[Any]:
    program, zeros = replay.program, replay.backend.xp.zeros
    want_consts, want_xs, want_state = roles(program, needed)
    count = len(program.ys)
    present = [g is not None and y.dtype.kind == "f" for g, y in zip(gs, program.ys, strict=False)]
    wanted = Wanted((*want_consts,), (*want_xs,), True, (*present,))
    dys = [g for g, w in zip(gs, present, strict=False) if w]
    carry = float_states(program)
    after = [*program.next_state, *program.totals]
    arriving = [
        zeros(v.shape, dtype=v.dtype) if g is None else g
        for v, g in zip(after, gs[count:], strict=True)
    ]
    dstate = [arriving[k] for k in carry]
    dtotals = arriving[len(program.state) :]
    recorded = any(map(isinstance, (*inputs, *gs), repeat(Tensor)))
    backward = _recorded_backward if recorded else _plain_backward
    dxs, dstarts, dconsts = backward(replay, wanted, inputs, dys, dstate, dtotals, steps, held)
    starts = dict(zip(carry, dstarts, strict=True))
    sums, series = iter(dconsts), iter(dxs)
    found = [next(sums) if w else None for w in want_consts]
    found += [next(series) if w else None for w in want_xs]
    return found + [starts[k] if w else None for k, w in enumerate(want_state)]


def _plain_backward(
    replay: Replay, wanted: Wanted, inputs: Sequence[Any], dys: Sequence[Array],
    dstate: Sequence[Array], dtotals: Sequence[Array], steps: int, held: Held | None,
) -> Any:  # fmt: skip
    consts, xs, state = roles(replay.program, inputs)
    if held is None:  # inside another step there is no place to hold anything
        held = Held(wanted_by(replay.program, [*wanted.consts, *wanted.xs]), None, replay.backend)
        replay.forward(consts, xs, state, steps, held)
    return replay.backward(wanted, consts, xs, state, dys, dstate, dtotals, steps, held)


def _recorded_backward(
    replay: Replay, wanted: Wanted, inputs: Sequence[Any], dys: Sequence[Any],
    dstate: Sequence[Any], dtotals: Sequence[Any], steps: int, held: Held | None,
) -> Any:  # fmt: skip
    """The backward pass as scans that can be differentiated again: they compute anew what the
    plain one stores.
    """
    looking = tape.current_modes.get().looking
    program = (
        with_origins(replay.program, tape.current_place.get().lines) if looking else replay.program
    )
    consts, xs, state = roles(program, inputs)

    def run(program: Program, reverse: bool, consts: Values, xs: Values, state: Values) -> Any:
        found = replay_of(program, reverse, raw(inputs[0]))
        if not looking:
            return apply(found, consts, xs, state, steps)
        with tape.with_origin(inside=origins_of(program, replay.reverse)):
            return apply(found, consts, xs, state, steps)

    states = replace_outputs(program, [*program.state])
    before = run(states, replay.reverse, consts, xs, state)[0]
    back = backward_step(program, wanted, replay.backend, replay.device)
    fixed = [*consts, *dtotals, *back.zeros]
    return run(back.program, not replay.reverse, fixed, [*xs, *before, *dys], dstate)


def origins_of(program: Program, reverse: bool) -> tuple[tape.Origin, ...]:
    """Where the lines of a program came from, at any time step; empty where nobody looked.

    In a backward pass, the lines that it made itself belong to the record that it has come to;
    ``reverse`` is the direction of the forward pass.
    """
    here = tape.current_place.get().origin.forward
    found: list[tape.Origin] = []
    for op in program.ops:
        if op.origin is None:
            return ()
        forward = None if op.origin.forward is None else here
        found.append(op.origin.at_step(None, reverse, ())._replace(forward=forward))
    return (*found,)


def with_origins(program: Program, origins: Sequence[tape.Origin]) -> Program:
    """The same program, with the origins of another trace than that which it was made in."""
    pairs = zip(program.ops, origins or repeat(None), strict=False)
    lines = [
        Op(op.primitive, op.inputs, op.params, op.outputs, [op], origin) for op, origin in pairs
    ]
    return replace(program, ops=lines)


def wanted_by(program: Program, wants: Sequence[bool]) -> Wanted:
    """The gradients that inputs ask for, those of all outputs arriving."""
    consts, xs, _ = roles(program, wants)
    return Wanted((*consts,), (*xs,), True, (*[y.dtype.kind == "f" for y in program.ys],))


def wanted_of(replay: Replay, inputs: Sequence[Any]) -> Wanted | None:
    """The gradients that the inputs of a loop ask for, None for none."""
    wants = [isinstance(x, tape.Traced) and x.needs_grad for x in inputs]
    return wanted_by(replay.program, wants) if any(wants) else None


def _reads(replay: Replay, **_: Any) -> str:
    """The outputs over time lie in memory that the backward pass reads; other results do not."""
    return " ".join(["x", *(f"y{k}" for k in range(len(replay.program.ys)))])


def _inside(replay: Replay, steps: int, held: Held | None) -> tuple[int, Program]:
    return steps, replay.program


_scan = Primitive(
    "scan", _forward, joint_rule=_rule, multiple=True, reads=_reads, fresh=True, inside=_inside
)


def apply(
    replay: Replay,
    consts: Sequence[Any],
    xs: Sequence[Any],
    state: Sequence[Any],
    steps: int,
    every: int | None = None,
) -> tuple[list[Any], list[Any], list[Any]]:
    """A compiled step over time, as one operation on the tape: (ys, final states, totals)."""
    inputs = [*consts, *xs, *state]
    held = None
    modes = tape.current_modes.get()
    if modes.recording and modes.tracer is None:
        wanted = wanted_of(replay, inputs)
        held = None if wanted is None else Held(wanted, every, replay.backend)
    if held is not None or modes.tracer is not None or modes.observers:
        found = _scan(*inputs, replay=replay, steps=steps, held=held)
    else:  # the same without what is there for the tape
        found = replay.forward(*roles(replay.program, [*map(raw, inputs)]), steps, None)
        if any(map(isinstance, inputs, repeat(tape.Traced))):
            found = map(Tensor.output_type, found)
    found, count = [*found], len(replay.program.ys)
    ends = count + len(state)
    return found[:count], found[count:ends], found[ends:]
