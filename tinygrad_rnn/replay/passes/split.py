"""Splitting: what has to happen inside the loop over time, and what can be done for all T at once.

Four parts, by what depends on what and not by recognising any cell. *Once*: what depends on
constants alone. *Before*: products of inputs that do not wait for the state, with what they need.
*Loop*: what the next state needs, and light work next to it. *After*: products that no state waits
for, with what follows them; the sums over time of weight gradients are among these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tinygrad_rnn import ops
from tinygrad_rnn.ops import primitives as P
from tinygrad_rnn.ops.batching import can_batch
from tinygrad_rnn.replay.passes.plain import HALF, VIEWS, is_elementwise, is_light, is_product
from tinygrad_rnn.replay.program.program import Op, Program, Value, consumers, depending, needed_ops
from tinygrad_rnn.replay.program.verify import (
    PassError,
    fault,
    verified,
    verify,
    verify_order,
)


@dataclass
class Parts:
    """The ops of a program by when they are run, and of each why it is run then.

    ``reasons`` say why some could not be moved.
    """

    program: Program
    once: list[Op]
    before: list[Op]
    loop: list[Op]
    after: list[Op]
    varying: set[Value]
    reasons: list[str]
    why: dict[Op, str]

    @property
    def crossing(self) -> list[Value]:
        """What the loop must leave behind for every step: outputs, and what comes after needs."""
        inside = {y for op in self.loop for y in op.outputs} | set(self.program.state)
        wanted = [
            *self.program.ys,
            *self.program.totals,
            *(x for op in self.after for x in op.values()),
        ]
        return list(dict.fromkeys(v for v in wanted if v in inside))

    def verify(self, program: Program, *_: Any) -> None:
        """Each op is in one part, with what it reads in the same or in one before."""
        if {*self.once, *self.before, *self.loop, *self.after} != {*program.ops}:
            raise PassError("the ops of the parts are not those of the program")
        known = verify_order(program, program.consts, self.once)
        known = verify_order(program, [*known, *program.xs], self.before)
        verify_order(program, [*known, *program.state], [*self.loop, *self.after])
        late = {y for op in self.after for y in op.outputs}
        if late.intersection(program.next_state):
            raise PassError("a state is computed after the loop")
        for op in (*self.before, *self.after):
            if not can_batch(op.primitive, [x in self.varying for x in op.inputs]):
                raise fault(program, op, "cannot be computed for all time steps at once")


@verified(Parts.verify)
def split(program: Program, brief: bool = False) -> Parts:
    """The parts of a program that has been lowered.

    Where there are few steps, in a ``brief`` loop, products stay in it: there is little to gain
    from one over all steps, and a part before or after the loop takes time of its own.
    """
    varying = depending(program.ops, [*program.xs, *program.state])
    on_state = depending(program.ops, program.state)
    once = [op for op in program.ops if op.outputs[0] not in varying]
    rest = [op for op in program.ops if op.outputs[0] in varying]
    reasons: list[str] = []
    why = dict.fromkeys(once, "it depends on constants alone")

    def batchable(op: Op) -> bool:
        return can_batch(op.primitive, [x in varying for x in op.inputs])

    def stays(op: Op) -> bool:
        return is_light(op) or (brief and is_product(op))

    # Before: heavy work on inputs alone, and what it needs
    free = set(program.xs)
    for op in rest:
        if op.outputs[0] not in on_state and all(
            x in free or x not in varying for x in op.values()
        ):
            if batchable(op):
                free.update(op.outputs)
            else:
                reasons.append(f"{op.primitive.name}: has no batching rule, stays in the loop")
    heavy = [op for op in rest if op.outputs[0] in free and not stays(op)]
    before = needed_ops(
        [op for op in rest if op.outputs[0] in free], [y for op in heavy for y in op.outputs]
    )
    why |= dict.fromkeys(before, "what is made before the loop reads it")
    why |= dict.fromkeys(heavy, "it needs no state, and pays for all T at once")
    rest = [op for op in rest if op not in why]

    # After: what neither the state nor an op that must be in the loop waits for
    bound = [v for op in rest if not batchable(op) for v in op.outputs]
    must = set(needed_ops(rest, [*program.next_state, *bound]))
    why |= dict.fromkeys(rest, "it costs little beside what the next state needs")
    why |= dict.fromkeys(must, "it has no batching rule, or what has none reads it")
    why |= dict.fromkeys(needed_ops(rest, program.next_state), "the next state needs it")
    sunk: set[Op] = set()
    moved: set[Value] = set()
    for op in rest:
        if op not in must and (not stays(op) or any(x in moved for x in op.values())):
            sunk.add(op)
            moved.update(op.outputs)
            late = "it reads what is made after the loop"
            why[op] = late if stays(op) else "no state waits for it, and it pays for all T at once"
    readers = consumers(rest)
    outputs = set(program.ys) | set(program.totals)
    there = set(program.xs) | set(program.state) | {y for op in before for y in op.outputs}
    there |= {x for op in sunk for x in op.values() if x not in moved}
    for op in reversed(rest):
        if op in must or op in sunk or outputs & set(op.outputs):
            continue
        followers = [reader for y in op.outputs for reader in readers.get(y, [])]
        stored = all(x in there or x not in varying for x in op.values())
        if all(f in sunk for f in followers) and (op.primitive in VIEWS or stored):
            sunk.add(op)
            there.update(op.values())
            why[op] = "only what is made after the loop reads it"
    reasons += [
        f"{op.primitive.name}: has no batching rule, stays in the loop"
        for op in rest
        if not batchable(op) and op.outputs[0] in on_state
    ]
    loop = [op for op in rest if op not in sunk]
    after = [op for op in rest if op in sunk]
    return Parts(program, once, before, loop, after, varying, [*dict.fromkeys(reasons)], why)


def _verify_rounded(found: tuple[Program, list[int]], before: Program) -> None:
    program, which = found
    halves = [Value(before.state[k].shape, HALF) for k in which]
    given = {"consts": before.consts, "xs": before.xs, "ys": before.ys, "totals": before.totals}
    verify(program, before.ops, **given, state=[*before.state, *halves])


@verified(_verify_rounded)
def rounded_ahead(program: Program) -> tuple[Program, list[int]]:
    """States that a step rounds to float16 are rounded by the step before, which computes them.

    So that takes no kernel of its own. What is rounded becomes a state too, behind the others; the
    second result says of which of them.
    """
    of_state = dict(zip(program.state, program.next_state, strict=True))
    halves = {
        op.inputs[0]: op.outputs[0]
        for op in program.ops
        if op.primitive is P.cast and op.params["dtype"] == HALF
    }
    which = [k for k, s in enumerate(program.state) if s in halves and of_state[s] is not s]
    moved = {halves[program.state[k]] for k in which}
    if not which or moved.intersection(program.outputs):
        return program, []
    lines = [op for op in program.ops if op.outputs[0] not in moved]
    following: list[Value] = []
    for k in which:
        end = program.next_state[k]
        if end not in halves:
            halves[end] = Value(end.shape, HALF)
            casts = [op for op in program.ops if op.outputs[0] is halves[program.state[k]]]
            lines.append(Op(P.cast, [end], {"dtype": HALF}, [halves[end]], casts))
        following.append(halves[end])
    state = [*program.state, *(halves[program.state[k]] for k in which)]
    ends = [*program.next_state, *following]
    return replace(program, state=state, next_state=ends, ops=lines), which


def _verify_summed(found: tuple[Program, list[bool]], before: Program) -> None:
    program, flags = found
    inside = [v for v, flag in zip(before.totals, flags, strict=bool(flags)) if flag]
    totals = [v for v in before.totals if v not in inside]
    state = [*before.state, *inside]
    given = {"consts": before.consts, "xs": before.xs, "ys": before.ys}
    verify(program, before.ops, **given, state=state, totals=totals)


@verified(_verify_summed)
def summed_inside(program: Program) -> tuple[Program, list[bool]]:
    """Totals that can be summed in the loop only become states that are added to there.

    That is so for what an op without a batching rule computes. The second result says which of the
    totals these are; they come last in ``next_state``.
    """
    inside = {y for op in split(program).loop for y in op.outputs}
    producers = program.producers()
    flags = [v in inside and not is_elementwise(producers[v]) for v in program.totals]
    if not any(flags):
        return program, []
    state, following, lines = [*program.state], [*program.next_state], [*program.ops]
    for v, flag in zip(program.totals, flags, strict=True):
        if flag:
            start, end = Value(v.shape, v.dtype), Value(v.shape, v.dtype)
            lines.append(Op(ops.add, [start, v], {}, [end], [producers[v]]))
            state.append(start)
            following.append(end)
    totals = [v for v, flag in zip(program.totals, flags, strict=True) if not flag]
    changed = replace(program, state=state, next_state=following, ops=lines, totals=totals)
    return changed, flags
