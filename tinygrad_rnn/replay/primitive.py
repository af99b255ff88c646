"""The primitive ``scan``: a compiled program over time as one operation, with its gradient rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from tinygrad_rnn import tape
from tinygrad_rnn.backends import Array
from tinygrad_rnn.replay.cache import replay_of
from tinygrad_rnn.replay.passes.gradient import Wanted, backward_step, float_states
from tinygrad_rnn.replay.program.program import Program, Value, replace_outputs
from tinygrad_rnn.replay.run.replay import Held, Replay
from tinygrad_rnn.tape import Deferred, Primitive
from tinygrad_rnn.tensor import Tensor


def _forward(
    xp: Any, *inputs: Array, replay: Replay, steps: int, held: Held | None
) -> tuple[Array, ...]:
    consts, xs, state = _roles(replay.program, inputs)
    return tuple(replay.forward(consts, xs, state, steps, held))


def _roles(program: Program, inputs: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    first = len(program.consts)
    second = first + len(program.xs)
    return [*inputs[:first]], [*inputs[first:second]], [*inputs[second:]]


def _as_it_is(g: Any) -> Any:
    return g


def _owned(shape: Any, dtype: Any, parts: Sequence[tuple[Any]]) -> Any:
    """The sum of arrays that nobody else holds."""
    (total,) = parts[0]
    for (part,) in parts[1:]:
        total += part
    return total


def _rule(
    needed: Sequence[bool],
    gs: Sequence[Any],
    results: Sequence[Any],
    *inputs: Any,
    replay: Replay,
    steps: int,
    held: Held | None,
) -> list[Any]:
    program = replay.program
    want_consts, want_xs, want_state = _roles(program, needed)
    count = len(program.ys)
    finals = gs[count : count + len(program.state)]
    wanted = Wanted(
        tuple(want_consts),
        tuple(want_xs),
        True,
        tuple(g is not None and y.dtype.kind == "f" for g, y in zip(gs, program.ys, strict=False)),
    )
    dys = [g for g, w in zip(gs, wanted.ys, strict=False) if w]
    carry = float_states(program)
    recorded = any(isinstance(x, Tensor) for x in (*inputs, *gs))
    zeros = partial(_zeros, replay)
    dstate = [zeros(program.state[k]) if finals[k] is None else finals[k] for k in carry]
    ends = zip(program.totals, gs[count + len(program.state) :], strict=True)
    dtotals = [zeros(v) if g is None else g for v, g in ends]
    backward = _recorded_backward if recorded else _plain_backward
    dxs, dstarts, dconsts = backward(replay, wanted, inputs, dys, dstate, dtotals, steps, held)
    found: list[Any] = []
    sums, series = iter(dconsts), iter(dxs)
    wrap: Callable[[Any], Any] = _as_it_is if recorded else partial(Deferred, _owned)
    found += [wrap(next(sums)) if w else None for w in want_consts]
    found += [wrap(next(series)) if w else None for w in want_xs]
    starts = dict(zip(carry, dstarts, strict=True))
    return found + [wrap(starts[k]) if w else None for k, w in enumerate(want_state)]


def _zeros(replay: Replay, v: Value) -> Array:
    return replay.backend.xp.zeros(v.shape, dtype=v.dtype)


def _plain_backward(
    replay: Replay, wanted: Wanted, inputs: Sequence[Any], dys: Sequence[Array],
    dstate: Sequence[Array], dtotals: Sequence[Array], steps: int, held: Held | None,
) -> Any:  # fmt: skip
    consts, xs, state = _roles(replay.program, inputs)
    if held is None:  # inside another step there is no place to hold anything
        held = Held(_all_outputs(replay.program, wanted), None, replay.backend)
        replay.forward(consts, xs, state, steps, held)
    return replay.backward(wanted, consts, xs, state, dys, dstate, dtotals, steps, held)


def _recorded_backward(
    replay: Replay, wanted: Wanted, inputs: Sequence[Any], dys: Sequence[Any],
    dstate: Sequence[Any], dtotals: Sequence[Any], steps: int, held: Held | None,
) -> Any:  # fmt: skip
    """The backward pass as scans that can be differentiated again: they compute anew what the
    plain one stores.
    """
    program = replay.program
    consts, xs, state = _roles(program, inputs)
    states = replace_outputs(program, [*program.state])
    before = apply(states, consts, xs, state, steps, replay.reverse)[0]
    back = backward_step(program, wanted, replay.backend, replay.device)
    fixed = [*consts, *dtotals, *back.zeros]
    return apply(back.program, fixed, [*xs, *before, *dys], dstate, steps, not replay.reverse)


def _all_outputs(program: Program, wanted: Wanted) -> Wanted:
    return replace(wanted, ys=tuple(y.dtype.kind == "f" for y in program.ys))


def _reads(replay: Replay, **_: Any) -> str:
    """The outputs over time lie in memory that the backward pass reads; other results do not."""
    return " ".join(["x", *(f"y{k}" for k in range(len(replay.program.ys)))])


_scan = Primitive("scan", _forward, joint_rule=_rule, multiple=True, reads=_reads)


def apply(
    program: Program,
    consts: Sequence[Any],
    xs: Sequence[Any],
    state: Sequence[Any],
    steps: int,
    reverse: bool,
    every: int | None = None,
    replay: Replay | None = None,
) -> tuple[list[Any], list[Any], list[Any]]:
    """A program over time, as one operation on the tape: (ys, final states, totals)."""
    inputs = [*consts, *xs, *state]
    arrays = [x.array if isinstance(x, tape.Traced) else x for x in inputs]
    if replay is None:
        replay = replay_of(program, reverse, arrays[0])
    held = None
    tracing = tape.is_tracing()
    if tape.is_recording() and not tracing:
        wants = [isinstance(x, tape.Traced) and x.needs_grad for x in inputs]
        if any(wants):
            a, b, _ = _roles(program, wants)
            wanted = _all_outputs(program, Wanted(tuple(a), tuple(b), True, ()))
            held = Held(wanted, every, replay.backend)
    if held is not None or tracing or tape.is_observed():
        found = _scan(*inputs, replay=replay, steps=steps, held=held)
    else:  # the same without what is there for the tape
        found = replay.forward(*_roles(program, arrays), steps, None)
        leader = next((x for x in (*xs, *state) if isinstance(x, tape.Traced)), None)
        if leader is not None:
            found = [leader.output_type(y) for y in found]
    first = len(program.ys)
    second = first + len(program.state)
    return [*found[:first]], [*found[first:second]], [*found[second:]]
