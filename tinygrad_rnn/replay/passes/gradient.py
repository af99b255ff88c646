"""The backward step: the engine differentiates the traced step, and the result is a program too.

Run as it stands, the backward step computes the forward step again. Its plain use does not: what
the backward lines read of the forward ones is stored over time, unless it costs next to nothing to
compute from what is there anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn import ops, tape
from tinygrad_rnn.backends import Array, Backend
from tinygrad_rnn.ops import primitives as P
from tinygrad_rnn.replay.passes.plain import FILL, SLICE, VIEWS
from tinygrad_rnn.replay.program.program import Op, Program, Value, depending, evaluate, needed_ops
from tinygrad_rnn.replay.program.trace import program_of
from tinygrad_rnn.replay.program.verify import verified, verify
from tinygrad_rnn.tensor import Tensor

_COSTLY = {ops.exp, ops.log, ops.tanh, ops.sigmoid, ops.erf, ops.power, ops.sin, ops.cos, ops.log1p,
           ops.expm1, ops.softplus, ops.sqrt, ops.remainder}  # fmt: skip
_FREE = (*VIEWS, SLICE, FILL, P.split, P.unstack, P.cast, P.zeros_like)


class Wanted(NamedTuple):
    """Which inputs want a gradient, and which outputs over time a cotangent arrives for."""

    consts: tuple[bool, ...]
    xs: tuple[bool, ...]
    state: bool
    ys: tuple[bool, ...]


@dataclass
class Backward:
    """The backward step of a program.

    ``program`` has the forward program's constants and ``zeros``; as inputs the forward inputs, the
    states before the step, the cotangents of the outputs that have one, and then the values
    ``stored``; as states the cotangents of the float states. Its outputs are the cotangents of
    the ``xs`` that want one, its totals those of the constants.
    """

    program: Program
    zeros: list[Array]
    stored: list[Value]
    xs: list[int]
    consts: list[int]

    def verify(self, forward: Program, wanted: Wanted, *_: Any) -> None:
        """The cotangents that come and go have the forms of what they belong to."""
        arriving = [y for y, w in zip(forward.ys, wanted.ys, strict=True) if w]
        verify(
            self.program,
            consts=[*forward.consts, *forward.totals, *self.zeros],
            xs=[*forward.xs, *forward.state, *arriving, *self.stored],
            state=[forward.state[k] for k in float_states(forward)],
            ys=[forward.xs[k] for k in self.xs],
            totals=[forward.consts[k] for k in self.consts],
        )


def float_states(program: Program) -> list[int]:
    """The states that carry a gradient."""
    return [k for k, s in enumerate(program.state) if s.dtype.kind == "f"]


@verified(Backward.verify)
def backward_step(program: Program, wanted: Wanted, backend: Backend, device: str) -> Backward:
    """Differentiate one step; nothing is stored yet, everything is computed again."""
    return _differentiated(program, wanted, backend, device)[0]


@verified(Backward.verify)
def with_residuals(
    program: Program,
    wanted: Wanted,
    backend: Backend,
    device: str,
    stored: Sequence[Value] | None = None,
) -> Backward:
    """The backward step that reads stored values of the forward one.

    ``stored`` says which forward values there are; by default they are chosen.
    """
    back, found = _differentiated(program, wanted, backend, device)
    joint = back.program
    of_forward = {new: old for old, new in found.items()}
    forward = [op for op in joint.ops if all(y in of_forward for y in op.outputs)]
    behind = [op for op in joint.ops if op not in set(forward)]
    read = {x for op in behind for x in op.values()} | set(joint.outputs)
    producers = {y: op for op in forward for y in op.outputs}
    changing = depending(forward, joint.xs)
    needed = [y for y in producers if y in read and y in changing]
    if stored is None:
        over_time = {found.get(v) for v in (*program.ys, *program.next_state)}
        chosen = [v for v in needed if v in over_time or not _is_cheap(producers[v])]
        there = set(joint.xs) | set(chosen)
        for v in needed:
            if v not in there and not _follows(v, producers, there, changing):
                chosen.append(v)
                there.add(v)
    else:
        chosen = [found[v] for v in stored if v in found]
    back.stored = [of_forward[v] for v in chosen]
    given = set(chosen)
    lines = [_renamed(op, given) for op in joint.ops if not given.issuperset(op.outputs)]
    back.program = replace(joint, xs=[*joint.xs, *chosen], ops=needed_ops(lines, joint.outputs))
    return back


def _renamed(op: Op, given: set[Value]) -> Op:
    """An op with new names for those of its results that are given."""
    if given.isdisjoint(op.outputs):
        return op
    outputs = [Value(y.shape, y.dtype) if y in given else y for y in op.outputs]
    return Op(op.primitive, op.inputs, op.params, outputs, [op], op.origin)


def _is_cheap(op: Op) -> bool:
    return op.primitive in _FREE or (
        op.primitive.kernel is not None and op.primitive not in _COSTLY
    )


def _follows(v: Value, producers: dict[Value, Op], there: set[Value], changing: set[Value]) -> bool:
    """Whether a value is cheap to compute from what is there."""
    if v in there or v not in changing:
        return True
    op = producers.get(v)
    return (
        op is not None
        and _is_cheap(op)
        and all(_follows(x, producers, there, changing) for x in op.values())
    )


class _Unread:
    """Follows the gradient rules of a step, which may not look at elements."""

    def reading(self, value: Any) -> None:
        raise RuntimeError("scan: a gradient rule reads the elements of a value")

    def made(self, record: tape.Record, outputs: list[Any], recording: bool) -> None:
        pass


def _differentiated(
    program: Program, wanted: Wanted, backend: Backend, device: str
) -> tuple[Backward, dict[Value, Value]]:
    """The joint program of a step and its gradient, and where its forward values are in it."""

    def leaf(v: Value, needs_grad: bool = False) -> Tensor:
        host = np.ones(v.shape, v.dtype) if v.dtype.kind == "f" else np.zeros(v.shape, v.dtype)
        return Tensor(backend.from_host(host, device), needs_grad and v.dtype.kind == "f")

    since = tape.next_position()
    quiet, forward = np.errstate(all="ignore"), tape.with_origin(forward=None)
    with tape.enable_grad(), tape.tracing(_Unread()), tape.look(), forward, quiet:
        consts = [leaf(v, w) for v, w in zip(program.consts, wanted.consts, strict=True)]
        xs = [leaf(v, w) for v, w in zip(program.xs, wanted.xs, strict=True)]
        state = [leaf(v, wanted.state) for v in program.state]
        known = evaluate(program, consts, xs, state)
        arriving: list[tuple[Tensor, Tensor]] = []
        dys: list[Tensor] = []
        for v, w in zip(program.ys, wanted.ys, strict=True):
            if w:
                dys.append(leaf(v, True))
                arriving.append((known[v], dys[-1]))
        floating = float_states(program)
        dstate = [leaf(program.state[k], True) for k in floating]
        arriving += [
            (known[program.next_state[k]], g) for k, g in zip(floating, dstate, strict=True)
        ]
        dtotals: list[Tensor] = []
        for v in program.totals:
            dtotals.append(leaf(v, True))
            arriving.append((known[v], dtotals[-1]))
        arriving = [(y, g) for y, g in arriving if y.requires_grad]
        want_consts = [k for k, w in enumerate(wanted.consts) if w]
        want_xs = [k for k, w in enumerate(wanted.xs) if w]
        targets = [
            *(xs[k] for k in want_xs),
            *(state[k] for k in floating),
            *(consts[k] for k in want_consts),
        ]
        targets_on = [x for x in targets if x.requires_grad]
        gradients = tape.differentiate(
            [y for y, _ in arriving],
            [g for _, g in arriving],
            targets_on,
            create_graph=True,
            since=since,
        )
    by_target = {id(x): g for x, g in zip(targets_on, gradients, strict=True)}

    def gradient_of(x: Tensor) -> Tensor:
        g = by_target.get(id(x))
        return Tensor(backend.xp.zeros_like(x.array)) if g is None else g

    joint, captured, values = program_of(
        [*consts, *dtotals],
        [*xs, *state, *dys],
        dstate,
        [gradient_of(xs[k]) for k in want_xs],
        [gradient_of(state[k]) for k in floating],
        [gradient_of(consts[k]) for k in want_consts],
        since,
    )
    found = {
        v: values[tape.key_of(x)]
        for v, x in known.items()
        if tape.key_of(x) in values and x.record is not None
    }
    _say_origins(program, joint, known, found)
    zeros = [x.array if isinstance(x, Tensor) else x for x in captured]
    return Backward(joint, zeros, [], want_xs, want_consts), found


def _say_origins(
    program: Program, joint: Program, known: dict[Value, Any], found: dict[Value, Value]
) -> None:
    """Say of each joint line which line of the program it is, or is the gradient of."""
    at: dict[int, Op] = {}
    of_value = {found[y]: op for op in program.ops for y in op.outputs if y in found}
    for op in program.ops:
        record = known[op.outputs[0]].record
        if record is not None:
            at[record.position] = op
    for op in joint.ops:
        line = of_value.get(op.outputs[0])
        if line is None and op.origin is not None and op.origin.forward is not None:
            line = at.get(op.origin.forward)
        op.made_of = (line,) if line else ()
