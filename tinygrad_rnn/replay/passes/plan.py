"""Planning: where every value of the loop lies, and the loop as an emitter takes it.

A value has a home in memory only if something outside its phase reads it. A state that is needed
at every step lies in an array of T + 1 rows, which the loop reads at one row and writes at the
next; any other state lies in one place that is overwritten. What the loop leaves behind is written
straight to its row over time, the parts of a concat straight to their place in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn import ops
from tinygrad_rnn.ops import primitives as P
from tinygrad_rnn.replay.passes.fuse import Group, Schedule, is_moved
from tinygrad_rnn.replay.passes.in_place import can_overwrite, moved
from tinygrad_rnn.replay.passes.kernel_lines import kernel_lines
from tinygrad_rnn.replay.passes.lower import (
    COPY,
    REDUCTIONS,
    SLICE,
    VIEWS,
    is_product,
    is_reduction,
)
from tinygrad_rnn.replay.passes.split import Parts
from tinygrad_rnn.replay.passes.strides import contiguous, spread, viewed
from tinygrad_rnn.replay.program.loop import (
    ArraySpec,
    Call,
    Kernel,
    Line,
    Loop,
    Phase,
    Product,
    Ref,
    Step,
)
from tinygrad_rnn.replay.program.program import Op, Value, consumers


@dataclass
class Plan:
    """A loop, and what its arrays are.

    ``inputs`` says which arrays hold constants and inputs, ``state`` which one holds each state
    (None for one that stays as it was), ``crossing`` where the values lie that the loop leaves
    behind: an array, and whether they are its first T rows, its last, or all of them.
    """

    loop: Loop
    inputs: dict[Value, int]
    state: list[int | None]
    crossing: dict[Value, tuple[int, slice]]

    def is_state(self, array: int) -> bool:
        return array in self.state


class Planner:
    """Builds the plan of one program's loop."""

    def __init__(self, parts: Parts, reverse: bool, brief: bool) -> None:
        self.parts = parts
        self.program = parts.program
        self.lines: list[Op] = [*parts.loop]
        self.producers = {y: op for op in self.lines for y in op.outputs}
        as_views = (SLICE, P.transpose) if brief else (SLICE,)
        self.fixed_views = {op.outputs[0]: op for op in parts.once if op.primitive in as_views}
        self.before, self.after = (1, 0) if reverse else (0, 1)
        self.arrays: list[ArraySpec] = []
        self.inputs: dict[Value, int] = {}
        self.homes: dict[Value, Ref] = {}
        self.part_of: dict[Value, tuple[Op, int]] = {}
        self.claimed: set[Value] = set()
        self.reverse = reverse
        self.place_reshapes()
        self.place_states()
        self.place_concats()

    # Copies, where a value has to lie in two places or at a place that a view cannot give

    def copied(self, v: Value, at: int | None = None) -> Value:
        """A copy of a value, computed after it or at a place of the list of lines."""
        y = Value(v.shape, v.dtype)
        op = Op(COPY, [v], {}, [y])
        self.lines.insert(len(self.lines) if at is None else at, op)
        self.producers[y] = op
        return y

    def is_place(self, v: Value) -> bool:
        """Whether a home can be chosen for a value: it is computed here, and nowhere yet."""
        op = self.producers.get(v)
        return op is not None and op.primitive not in VIEWS and v not in self.claimed

    def place_reshapes(self) -> None:
        """A reshape that joins or cuts axes needs its input in one piece."""
        for op in [*self.lines]:
            if op.primitive is not P.reshape:
                continue
            (x,) = op.values()
            if [n for n in x.shape if n != 1] == [n for n in op.outputs[0].shape if n != 1]:
                continue
            source = self.producers.get(x)
            if source is None:
                continue
            if source.primitive in VIEWS:
                x = self.copied(x, self.lines.index(op))
                self.replace(op, [x])
            self.claimed.add(x)

    def replace(self, op: Op, inputs: Sequence[Any]) -> Op:
        new = Op(op.primitive, inputs, op.params, op.outputs)
        self.lines[self.lines.index(op)] = new
        self.producers.update(dict.fromkeys(op.outputs, new))
        return new

    def place_states(self) -> None:
        """Choose an array for each state, and for everything that crosses the end of the loop."""
        whole = {*self.claimed}  # what a reshape reads must not become a part of a concat
        self.claimed.clear()
        crossing = self.parts.crossing
        start, following = self.program.state, self.program.next_state
        self.new_state: list[Value | None] = []
        for s, n in zip(start, following, strict=True):
            if n is s and s not in crossing:
                self.new_state.append(None)
                continue
            end = n if self.is_place(n) else self.copied(n)
            self.claimed.add(end)
            self.new_state.append(end)
        self.state: list[int | None] = []
        self.crossing: dict[Value, tuple[int, slice]] = {}
        rows = (slice(0, -1), slice(1, None))
        for k, (s, end) in enumerate(zip(start, self.new_state, strict=True)):
            stacked = s in crossing or end in crossing
            used = end is not None or s in consumers(self.lines)
            if not used:
                self.state.append(None)
                continue
            array = self.add(f"state{k}", s, stacked)
            self.state.append(array)
            self.homes[s] = self.whole_ref(array, self.before if stacked else None)
            self.crossing[s] = (array, rows[self.before])
            if end is not None and stacked:
                self.homes[end] = self.whole_ref(array, self.after)
                self.crossing[end] = (array, rows[self.after])
        for v in crossing:
            if v in self.crossing:
                continue
            place = v if self.is_place(v) else self.copied(v)
            self.claimed.add(place)
            array = self.add(f"out{len(self.crossing)}", place, True)
            self.homes[place] = self.whole_ref(array, 0)
            self.crossing[v] = (array, slice(None))
        self.claimed |= whole

    def place_concats(self) -> None:
        """Let the parts of a concat be computed where they belong in it."""
        for op in [*self.lines]:
            if op.primitive is not P.concat:
                continue
            parts: list[Any] = []
            for x in op.values():
                at = self.lines.index(self.producers[op.outputs[0]])
                part = x if self.is_place(x) else self.copied(x, at)
                self.claimed.add(part)
                parts.append(part)
            new = self.replace(op, parts)
            for k, part in enumerate(parts):
                self.part_of[part] = (new, k)

    # Arrays and references

    def add(self, name: str, v: Value, stacked: bool) -> int:
        self.arrays.append(ArraySpec(name, v.shape, v.dtype, stacked))
        return len(self.arrays) - 1

    def whole_ref(self, array: int, time: int | None) -> Ref:
        shape = self.arrays[array].shape
        return Ref(array, time, shape, contiguous(shape))

    def ref(self, v: Value) -> Ref:
        """Where a value lies."""
        if v in self.homes:
            return self.homes[v]
        op = self.producers.get(v)
        op = op or self.fixed_views.get(v)
        if op is None:
            varying = v in self.parts.varying
            self.inputs[v] = self.add(f"in{len(self.inputs)}", v, varying)
            found = self.whole_ref(self.inputs[v], 0 if varying else None)
        elif op.primitive in VIEWS:
            (x,) = op.values()
            seen = viewed(op, self.ref(x))
            assert seen is not None, "a reshape reads a value that does not lie in one piece"
            found = seen
        elif v in self.part_of:
            join, k = self.part_of[v]
            axis = join.params["axis"]
            base = self.ref(join.outputs[0])
            sizes: list[int] = [x.shape[axis] for x in join.values()]
            before = sum(sizes[:k])
            found = base._replace(shape=v.shape, offset=base.offset + before * base.strides[axis])
        else:
            found = self.whole_ref(self.add(f"temp{len(self.arrays)}", v, False), None)
        self.homes[v] = found
        return found

    # Steps

    def plan(self) -> Plan:
        schedule = Schedule(self.lines)
        self.schedule = schedule
        self.readers = consumers(self.lines)
        steps: list[Step] = []
        for task in schedule.tasks:
            if isinstance(task, Group):
                phase = self.phase(task)
                last = steps[-1] if steps else None
                if isinstance(last, Kernel) and last.lead == task.lead and _is_local(last, phase):
                    steps[-1] = last._replace(phases=(*last.phases, phase))
                else:
                    steps.append(Kernel(task.lead, (phase,)))
            else:
                steps.append(self.single(task))
        steps = self.finish_states(steps)
        loop = Loop(tuple(self.arrays), tuple(steps), self.reverse)
        return Plan(loop, self.inputs, self.state, self.crossing)

    def single(self, op: Op) -> Step:
        if is_product(op):
            a, b = (self.ref(x) for x in op.values())
            constant = b.time is None and b.array in self.inputs.values()
            return Product(a, b, self.ref(op.outputs[0]), constant)
        operands = tuple(self.ref(x) if isinstance(x, Value) else x for x in op.inputs)
        outputs = tuple(
            self.ref(y) if y in self.readers or y in self.homes or y in self.claimed else None
            for y in op.outputs
        )
        return Call(op.primitive, operands, op.params, outputs)

    def has_home(self, y: Value) -> bool:
        """Whether anything reads a value from memory."""
        return y in self.claimed or any(
            is_moved(reader) or not self.schedule.shares_phase(y, reader)
            for reader in self.readers.get(y, [])
        )

    def phase(self, group: Group) -> Phase:
        shape = group.shape
        reads: dict[Ref, str] = {}
        lines: list[Line] = []
        writes: list[tuple[Any, Ref]] = []
        reduces: list[Any] = []
        names: dict[Value, str] = {}

        def operand(x: Any, op: Op) -> Any:
            if not isinstance(x, Value):
                return x
            if x in names and self.schedule.shares_phase(x, op):
                return names[x]
            return reads.setdefault(spread(self.ref(x), shape), f"r{len(reads)}")

        for op in group.ops:
            (y,) = op.outputs
            operands = tuple(operand(x, op) for x in op.inputs)
            if is_reduction(op):
                kind = REDUCTIONS[op.primitive]
                reduces.append((operands[0], kind, spread(self.ref(y), shape)))
                continue
            names[y] = f"v{len(lines)}"
            lines += _lines(names[y], op, operands)
            if self.has_home(y):
                writes.append((names[y], spread(self.ref(y), shape)))
        return Phase(
            group.width,
            tuple((name, ref) for ref, name in reads.items()),
            tuple(lines),
            tuple(writes),
            tuple(reduces),
        )

    def finish_states(self, steps: list[Step]) -> list[Step]:
        """Bring states that are overwritten to their place, if they were not computed there."""
        for k, end in enumerate(self.new_state):
            array = self.state[k]
            if end is None or array is None or self.arrays[array].stacked:
                continue
            home = self.ref(end)
            place = self.whole_ref(array, None)
            if can_overwrite(steps, place, home):
                steps = [moved(step, home.array, array) for step in steps]
                continue
            shape = end.shape or (1,)
            copy = Line("v0", "cast", ("r0",), end.dtype, end.dtype)
            phase = Phase(
                shape[-1],
                (("r0", spread(home, shape)),),
                (copy,),
                (("v0", spread(place, shape)),),
            )
            steps.append(Kernel(shape[:-1], (phase,)))
        return steps


def _lines(name: str, op: Op, operands: tuple[Any, ...]) -> list[Line]:
    """An elementwise op, computed in the widest dtype of what goes in and what comes out."""
    (y,) = op.outputs
    if op.primitive is P.cast:
        return [Line(name, "cast", operands, y.dtype, y.dtype)]
    given = op.inputs[1:] if op.primitive is ops.where else op.inputs
    dtypes = [y.dtype, *(x.dtype for x in given if isinstance(x, Value))]
    highest = max("biuf".index(dtype.kind) for dtype in dtypes)
    compute = np.result_type(*(d for d in dtypes if "biuf".index(d.kind) == highest))
    expression = op.primitive.kernel
    assert expression is not None
    return kernel_lines(name, expression, operands, op.params, compute, y.dtype)


def _row(ref: Ref) -> tuple[Any, ...]:
    """What two Refs must have in common to lie in the same row of a kernel."""
    lead = [s for s, n in zip(ref.strides[:-1], ref.shape[:-1], strict=True) if n > 1 and s]
    return (ref.time, ref.strides[:-1], ref.offset // min(lead) if lead else 0)


def _is_local(kernel: Kernel, phase: Phase) -> bool:
    """Whether a phase reads only what the kernel's phases have written in the same row."""
    written: dict[int, list[Ref]] = {}
    for earlier in kernel.phases:
        for ref in (*(w[1] for w in earlier.writes), *(r[2] for r in earlier.reduces)):
            written.setdefault(ref.array, []).append(ref)
    return all(
        _row(ref) == _row(other)
        for _, ref in phase.reads
        for other in written.get(ref.array, [])
        if ref.time == other.time
    )


def plan(parts: Parts, reverse: bool, brief: bool) -> Plan:
    """Where everything lies, and the loop.

    Where there are many steps, a transposed matrix is copied once, so that it can be read in its
    own order at each; in a ``brief`` loop that would not pay.
    """
    return Planner(parts, reverse, brief).plan()
