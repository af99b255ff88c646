"""A tape gone through once forwards and once backwards, to measure all that arrives.

A replayed loop is run again, step by step, so that its operations are measured as those of an
unrolled one are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.lab.page.measures import Measures
from tinygrad_rnn.lab.page.rows import Loop, Rows
from tinygrad_rnn.lab.page.tangents import moved, product
from tinygrad_rnn.ops.arrays import raw
from tinygrad_rnn.replay import rerun
from tinygrad_rnn.replay.program.program import Op, Value
from tinygrad_rnn.tape import (
    Observer,
    Record,
    Tape,
    Traced,
    contribution,
    differentiate,
    key_of,
    observe,
    seed,
)
from tinygrad_rnn.tape.order import result_key


class Passes:
    """What a forward and a backward pass over the rows of a page have shown.

    Attributes
    ----------
    values, cotangents : the measures of all results and of their cotangents.
    shares : of each row the share of the gradient that passes through it, NaN where unknown.
    uses : of each leaf that has a gradient, by its row: the rows that read it, and of each the
        norm of what it adds to the gradient and the share that this is of it.
    backwards : whether there was a backward pass.
    notes : what could not be had, in sentences.
    """

    def __init__(self, tape: Tape, rows: Rows, largest: int) -> None:
        self.tape = tape
        self.rows = rows
        self.values = Measures(rows.arrays, largest)
        self.cotangents = Measures(rows.arrays, largest)
        self.shares = np.full(len(rows.first), np.nan)
        self.uses: dict[int, list[tuple[int, float, float]]] = {}
        self.notes: list[str] = []
        self.gradients: dict[Traced, Array] = {}
        self.total = 0.0
        self._arrived: dict[Record, Sequence[Any]] = {}
        self._changes: dict[Any, Any] = {}
        self.backwards = self._can_differentiate()
        if self.backwards:
            self._backward()
        self._forward()
        self._arrived.clear()
        self._changes.clear()

    def _can_differentiate(self) -> bool:
        outputs = self.tape.outputs
        if not all(y.needs_grad for y in outputs):
            self.notes.append("No gradient is wanted of these values, so there are no cotangents.")
        elif any(y.array.size != 1 for y in outputs):
            self.notes.append(
                "Cotangents belong to a tape whose results have one element each, such as a loss; "
                "this one has larger results, so values alone are shown."
            )
        else:
            return True
        return False

    # Backwards

    def _backward(self) -> None:
        tape = self.tape
        leaves = [x for x in tape.inputs if x.needs_grad]
        seeds = [seed(y, None, "to_html") for y in tape.outputs]
        found = differentiate(tape.outputs, seeds, leaves, retain_graph=True)
        for x, g in zip(leaves, found, strict=True):
            if g is not None:
                self.gradients[x] = g
                k = self.rows.leaf[key_of(x)]
                self.cotangents.set(self.rows.first[k], g)
                self.shares[k] = product(g, g)
                self.total += self.shares[k]
        with observe(_Backward(self)):
            differentiate(tape.outputs, seeds, leaves, retain_graph=True)

    def arrived(self, record: Record, cotangents: Sequence[Any]) -> None:
        """The cotangents of a record of the tape have arrived."""
        k = self.rows.record.get(record)
        if k is None:
            return
        self._arrived[record] = cotangents
        self.measure(self.cotangents, k, cotangents)

    def used(self, row: int, leaf: Any, g: Any) -> None:
        """The rule of a row gave ``g`` as its part of the gradient of a leaf."""
        gradient = self.gradients.get(leaf) if isinstance(leaf, Traced) else None
        if gradient is None or g is None:
            return
        found = raw(contribution(g, leaf.array))
        norm, along = product(found, found) ** 0.5, product(found, gradient)
        k = self.rows.leaf[key_of(leaf)]
        with np.errstate(invalid="ignore"):  # a gradient that overflowed
            share = along / (self.shares[k] or np.nan)
        self.uses.setdefault(k, []).append((row, norm, share))

    # Forwards

    def _forward(self) -> None:
        rows = self.rows
        for key, k in rows.leaf.items():
            self.values.set(rows.first[k], rows.leaf_values[key].array)
        for x, g in self.gradients.items():
            self._changes[key_of(x)] = g
        self.following = self.backwards and self.total > 0 and np.isfinite(self.total)
        for record in self.tape.records:
            k = rows.record[record]
            self.measure(self.values, k, record.results)
            changes = [self.change_of(x) for x in record.inputs]
            loop = rows.loops.get(record)
            if loop is not None:
                found = _Inside(self, loop, record, changes).run(self._arrived.get(record))
            else:
                found = self.follow(record, changes)
            for slot, change in enumerate(found):
                if change is not None:
                    self._changes[result_key(record, slot)] = change
            self.share(k, self._arrived.get(record, ()), found)
        if self.following:
            self.shares /= self.total
        else:
            self.shares[:] = np.nan

    def change_of(self, value: Any) -> Any:
        """How an input of a record changes where all leaves move along their gradients."""
        return self._changes.get(key_of(value)) if isinstance(value, Traced) else None

    def follow(self, record: Record, changes: Sequence[Any]) -> list[Any]:
        """How the results of a record change where its inputs do so."""
        if not self.following:
            return []
        try:
            return moved(record, changes)
        except Exception as error:  # a rule of somebody's own that cannot be differentiated
            self.following = False
            self.notes.append(
                f"The shares of the gradient are not known: {record.primitive.name!r} cannot be "
                f"followed ({error})."
            )
            return []

    def measure(self, measures: Measures, row: int, arrays: Sequence[Any]) -> None:
        """Measure the results of a row, or what arrived at them."""
        first = self.rows.first[row]
        for slot, array in enumerate(arrays):
            if array is not None:
                measures.set(first + slot, raw(array), self.rows.is_kept(row))

    def share(self, row: int, cotangents: Sequence[Any], changes: Sequence[Any]) -> None:
        """Note what of the change of the loss goes through a row."""
        if self.following and cotangents:
            pairs = zip(cotangents, changes, strict=True)
            self.shares[row] = sum(product(raw(g), c) for g, c in pairs if g is not None)


class _Backward(Observer):
    """Hands on what a backward pass over the tape shows."""

    def __init__(self, passes: Passes) -> None:
        self.passes = passes

    def before_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        self.passes.arrived(record, cotangents)

    def after_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        k = self.passes.rows.record.get(record)
        if k is None:
            return
        loop = self.passes.rows.loops.get(record)
        inside = len(loop.constants) if loop else 0  # what these add, the steps of the loop tell
        for x, g in zip(record.inputs[inside:], cotangents[inside:], strict=True):
            self.passes.used(k, x, g)


class _Inside(Observer):
    """A replayed loop, run again: its rows are those of its steps."""

    def __init__(self, passes: Passes, loop: Loop, record: Record, changes: Sequence[Any]) -> None:
        self.passes, self.loop, self.record = passes, loop, record
        self.ops: list[Op] = loop.program.ops
        self.place: dict[Record, int] = {}
        self.changes: dict[int, list[Any]] = {}
        self.count = 0
        self.given = changes
        self.known: dict[Value, Any] = {}
        self.series: list[list[Any]] = [[None] * loop.steps for _ in loop.program.ys]

    def run(self, cotangents: Sequence[Any] | None) -> list[Any]:
        """Measure the steps, and say how the results of the loop change."""
        if cotangents is not None and all(g is None for g in cotangents):
            cotangents = None
        with observe(self):
            rerun(self.record, cotangents)
        if not self.passes.following:
            return []
        results = self.record.results
        program, xp = self.loop.program, self.loop.xp
        found: list[Any] = []
        for series, y in zip(self.series, results, strict=False):
            if all(part is None for part in series):
                found.append(None)
                continue
            zeros = xp.zeros(y.shape[1:], y.dtype)
            found.append(xp.stack([zeros if part is None else part for part in series]))
        found += [self.known.get(v) for v in program.next_state]
        return found + [None] * (len(results) - len(found))

    def _begin(self, t: int) -> None:
        """Step t begins: its inputs are what the loop was given, and the state before."""
        program, before = self.loop.program, self.known
        first, second = len(program.consts), len(program.consts) + len(program.xs)
        self.known = dict(zip(program.consts, self.given[:first], strict=True))
        for v, change in zip(program.xs, self.given[first:second], strict=True):
            self.known[v] = None if change is None else change[t]
        state = [before.get(v) for v in program.next_state] if before else self.given[second:]
        self.known.update(zip(program.state, state, strict=True))

    def after_forward(self, record: Record) -> None:
        step, j = divmod(self.count, len(self.ops))
        if step >= self.loop.steps or record.primitive is not self.ops[j].primitive:
            return
        self.count += 1
        t = self.loop.time(step)
        row = self.place[record] = self.loop.row(step, j)
        self.passes.measure(self.passes.values, row, record.results)
        if j == 0:
            self._begin(t)
        op = self.ops[j]
        ins = [self.known.get(x) if isinstance(x, Value) else None for x in op.inputs]
        found = self.passes.follow(record, ins)
        self.changes[row] = found
        self.known.update(zip(op.outputs, found, strict=False))
        if j == len(self.ops) - 1:
            for series, v in zip(self.series, self.loop.program.ys, strict=True):
                series[t] = self.known.get(v)

    def before_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        row = self.place.get(record)
        if row is not None:
            self.passes.measure(self.passes.cotangents, row, cotangents)
            self.passes.share(row, cotangents, self.changes.pop(row, ()))

    def after_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        row = self.place.get(record)
        if row is None:
            return
        constants = self.loop.constants
        op = self.ops[self.loop.line(row)]
        for x, g in zip(op.inputs, cotangents, strict=True):
            if isinstance(x, Value) and x in constants:
                self.passes.used(row, self.record.inputs[constants[x]], g)
