"""The layout: where every value of the loop lies.

A value has a home in memory only if something outside its phase reads it. A state that is needed
at every step lies in an array of T + 1 rows, which the loop reads at one row and writes at the
next; any other state lies in one place that is overwritten. What the loop leaves behind is written
straight to its row over time, the parts of a concat straight to their place in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_rnn.ops import primitives as P
from tinygrad_rnn.replay.passes.plain import COPY, SLICE, VIEWS
from tinygrad_rnn.replay.passes.split import Parts
from tinygrad_rnn.replay.passes.strides import contiguous, joined, viewed
from tinygrad_rnn.replay.program.loop import ArraySpec, Ref
from tinygrad_rnn.replay.program.program import Op, Value, consumers


class Layout:
    """Where the values of one program's loop lie.

    Attributes
    ----------
    lines : the loop's lines, with copies where a value has to lie in two places.
    arrays, inputs, crossing : as those of a Plan.
    state : the array of each state, None for one that is not used or stays as it was.
    new_state : what is computed of each state, None for one that stays as it was.
    claimed : the values that need a home in any case.
    """

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
        self.place_reshapes()
        self.place_states()
        self.place_concats()

    # Copies, where a value has to lie in two places or at a place that a view cannot give

    def copied(self, v: Value, at: int | None = None) -> Value:
        """A copy of a value, computed after it or at a place of the list of lines."""
        y = Value(v.shape, v.dtype)
        source = self.producers.get(v) or self.program.producers().get(v)
        op = Op(COPY, [v], {}, [y], [source] if source else [])
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
        new = Op(op.primitive, inputs, op.params, op.outputs, [op])
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
        op = self.producers.get(v) or self.fixed_views.get(v)
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
            found = joined(join, self.ref(join.outputs[0]), k)
        else:
            found = self.whole_ref(self.add(f"temp{len(self.arrays)}", v, False), None)
        self.homes[v] = found
        return found

    def overwritten(self) -> list[tuple[Ref, Ref]]:
        """Where each state that lies in one place was computed, and that place."""
        states = [
            (end, array)
            for end, array in zip(self.new_state, self.state, strict=True)
            if end is not None and array is not None and not self.arrays[array].stacked
        ]
        return [(self.ref(end), self.whole_ref(array, None)) for end, array in states]
