"""The rows of a page: leaves, records, and the operations of replayed loops at each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.replay import is_replayed
from tinygrad_rnn.replay.program.program import Op, Program, Value
from tinygrad_rnn.tape import Origin, Record, Tape, Traced, key_of
from tinygrad_rnn.tape.record import Key

Source = int | tuple[int, int] | str
"""What a row reads: the result of a row, one of its several results, or a number as text."""


class Loop:
    """A replayed loop on a page: ``steps`` times the lines of its program, ``first`` the first row.

    ``constants`` says which input of the record a value of the program is at every step.
    """

    def __init__(self, record: Record, first: int) -> None:
        replay = record.params["replay"]
        self.record = record
        self.program: Program = replay.program
        self.reverse: bool = replay.reverse
        self.steps: int = record.params["steps"]
        self.xp = replay.backend.xp
        self.first = first
        self.constants = {v: k for k, v in enumerate(self.program.consts)}
        self._place = {
            v: (j, slot)
            for j, op in enumerate(self.program.ops)
            for slot, v in enumerate(op.outputs)
        }

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.steps * len(self.program.ops)

    def time(self, step: int) -> int:
        """The time of the step that is made as number ``step``."""
        return self.steps - 1 - step if self.reverse else step

    def row(self, step: int, line: int) -> int:
        """The row of a line of the program at a step."""
        return self.first + step * len(self.program.ops) + line

    def line(self, row: int) -> int:
        """Which line of the program a row is."""
        return (row - self.first) % len(self.program.ops)

    def op(self, row: int) -> Op:
        """The line of the program that a row is."""
        return self.program.ops[self.line(row)]

    def origin(self, row: int) -> Origin:
        """Where a row comes from."""
        whole = self.record.origin or Origin()
        line = whole.inside[self.line(row)] if whole.inside else whole
        step = self.time((row - self.first) // len(self.program.ops))
        return line.at_step(step, self.reverse, whole.steps)._replace(inside=())

    def sources(self, row: int, outside: Sequence[Source]) -> list[Source]:
        """What a row reads; ``outside`` are the sources of the whole loop."""
        step = (row - self.first) // len(self.program.ops)
        return [self._source(x, step, outside) for x in self.op(row).inputs]

    def _source(self, x: Any, step: int, outside: Sequence[Source]) -> Source:
        program = self.program
        if not isinstance(x, Value):
            return repr(x)
        if x in self._place:
            return self._at(step, *self._place[x])
        if x in self.constants:
            return outside[self.constants[x]]
        given = [*program.xs, *program.state].index(x)
        if given < len(program.xs) or step == 0:
            return outside[len(program.consts) + given]
        before = program.next_state[given - len(program.xs)]
        return self._source(before, step - 1, outside)

    def _at(self, step: int, line: int, slot: int) -> Source:
        row = self.row(step, line)
        return (row, slot) if slot else row

    def results(self) -> list[Source]:
        """Where the results of the loop come from, as far as steps compute them."""
        last = self.steps - 1
        values = [*self.program.ys, *self.program.next_state]
        return [self._at(last, *self._place[v]) for v in values if v in self._place]


class Rows:
    """All rows of a page, numbered in the order of the forward pass.

    Attributes
    ----------
    leaf, leaf_values : the row of each value that the tape reads and does not compute; and it.
    record : the row of each record. The rows of a replayed loop stand before its record.
    loops : the loops that are replayed, by their records.
    first : of each row the number of its first array; a row has as many arrays as results.
    shown : of each row the one by which it is shown: itself, or the first of those merged.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.leaf: dict[Key, int] = {}
        self.leaf_values: dict[Key, Traced] = {}
        self.record: dict[Record, int] = {}
        self.loops: dict[Record, Loop] = {}
        self.first: list[int] = []
        self.names: dict[Key, str] = {}
        self.arrays = 0
        for value in sorted(tape.inputs, key=lambda x: not x.name):  # parameters first
            key = key_of(value)
            self.leaf[key], self.leaf_values[key] = self._add(1), value
        for record in tape.records:
            for value in record.inputs:
                if isinstance(value, Traced) and value.name:
                    self.names[key_of(value)] = value.name
            if is_replayed(record):
                loop = self.loops[record] = Loop(record, len(self.first))
                for row in range(loop.first, loop.first + loop.rows):
                    self._add(len(loop.op(row).outputs))
            self.record[record] = self._add(len(record.results))
        for output in tape.outputs:
            if output.name:
                self.names[key_of(output)] = output.name
        self.shown = np.arange(len(self.first))

    def _add(self, results: int) -> int:
        self.first.append(self.arrays)
        self.arrays += results
        return len(self.first) - 1

    def is_kept(self, row: int) -> bool:
        """Whether a row is shown as itself."""
        return bool(self.shown[row] == row)

    def source(self, value: Any) -> Source:
        """Where an input of a record comes from."""
        if not isinstance(value, Traced):
            if hasattr(value, "dtype"):
                return f"{value.dtype}{tuple(value.shape)}"
            return repr(value)
        key = key_of(value)
        row = self.leaf.get(key)
        if row is None and value.record is not None:
            row = self.record.get(value.record)
            if row is not None and value.slot:
                return row, value.slot
        return "?" if row is None else row
