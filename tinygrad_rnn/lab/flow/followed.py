"""A loss computed once with every step of every cell held, so that its gradients can be asked."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.backends import to_host
from tinygrad_rnn.nn import Module
from tinygrad_rnn.nn.place import inside
from tinygrad_rnn.ops import identity
from tinygrad_rnn.rnn.arguments import fields_of
from tinygrad_rnn.rnn.notes import collected_notes, note
from tinygrad_rnn.rnn.watched import watch_steps
from tinygrad_rnn.tape import (
    Record,
    collect,
    current_place,
    differentiate,
    enable_grad,
    is_recording,
    leaves,
    look,
    next_position,
    rebuild,
    tree_map,
)
from tinygrad_rnn.tensor import Tensor, ones_like


class Step(NamedTuple):
    """One step of a cell.

    Attributes
    ----------
    time : its number within its loop, None outside loops.
    start, end : the positions on the tape that it lies between.
    x, state : what the cell was given.
    gates, before : the state as it arrived and as the cell read it, what is floating of it: a gate
        that needs no gradient lets none back.
    made, after : the new state, what is floating of it, as the cell computed it, so that what the
        cell does with it in the same step counts, and as it is handed on.
    notes : what the cell noted.
    valid : the rows (B,) that count, None for all.
    """

    time: int | None
    start: int
    end: int
    x: Any
    state: Any
    gates: list[Tensor]
    before: list[Tensor]
    made: list[Tensor]
    after: list[Tensor]
    notes: dict[str, Tensor]
    valid: Any


class Run:
    """The steps of one cell, each of which reads the state that the one before left."""

    def __init__(self, cell: Any, label: str, reverse: bool, state: Any) -> None:
        self.cell, self.label, self.reverse = cell, label, reverse
        self.steps: list[Step] = []
        named = [(path, v) for path, v in fields_of(state) if v.dtype.kind == "f"]
        self.fields = tuple(".".join(path) for path, _ in named)

    def times(self) -> list[int]:
        """The place of each step among values over time: that of its loop, if it is one loop."""
        found = [-1 if step.time is None else step.time for step in self.steps]
        count = len(found)
        if sorted(found) == [*range(count)]:
            return found
        return [*range(count)][:: -1 if self.reverse else 1]  # goes on from call to call

    def in_time(self, of_steps: list[Any]) -> np.ndarray:
        """Values of the steps in the order of time."""
        found: list[Any] = [None] * len(of_steps)
        for t, value in zip(self.times(), of_steps, strict=True):
            found[t] = value
        return np.stack(found)


class Place(NamedTuple):
    """Where a step lies on the tape, and the number of the place around it, -1 for none."""

    start: int
    end: int
    run: Run
    number: int
    around: int


def _nested(runs: list[Run]) -> list[Place]:
    """The places of all steps, by where they start; some lie within a step of another cell."""
    steps = [(step, run, k) for run in runs for k, step in enumerate(run.steps)]
    places: list[Place] = []
    for step, run, number in sorted(steps, key=lambda each: each[0].start):
        around = len(places) - 1
        while around >= 0 and places[around].end <= step.start:
            around = places[around].around
        places.append(Place(step.start, step.end, run, number, around))
    return places


class Followed:
    """What was seen of a model while its loss was computed.

    Attributes
    ----------
    loss : the loss, with its tape.
    runs : the loops of cells that it depends on, in the order of their first steps.
    """

    def __init__(self, who: str, model: Module, loss: Callable[[], Any]) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"{who}: expected a model, a Module, got {type(model).__name__}")
        if not callable(loss):
            raise TypeError(
                f"{who}: expected a function that returns the loss, such as lambda: loss_of(model, "
                f"batch), got {type(loss).__name__}"
            )
        self.runs: list[Run] = []
        self._labels: dict[str, int] = {}
        self._last: dict[Any, Run] = {}
        with enable_grad(), look(), watch_steps(self._step), inside(model):
            value = loss()
        if not isinstance(value, Tensor) or value.size != 1:
            got = f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"{who}: the loss must be a Tensor of one element, got {got}")
        if not value.needs_grad:
            raise ValueError(
                f"{who}: the loss depends on nothing that wants a gradient: compute it within this "
                "call, outside of no_grad, from parameters that are not all frozen"
            )
        self.loss = value
        reached = {*collect([value])}
        self.runs = [
            run
            for run in self.runs
            if any(s.record in reached for step in run.steps for s in step.after)
        ]
        self._places = _nested(self.runs)

    def gradients(self, targets: list[Tensor]) -> list[np.ndarray]:
        """DL by each of these, zeros where the loss does not depend on one."""
        found = differentiate([self.loss], [ones_like(self.loss)], targets, retain_graph=True)
        pairs = zip(targets, found, strict=True)
        return [np.zeros(v.shape, v.dtype) if g is None else to_host(g) for v, g in pairs]

    def step_of(self, record: Record) -> tuple[Run, int] | None:
        """The innermost step that a record belongs to, as a run and its number there."""
        k = bisect_right(self._places, record.position, key=lambda place: place.start) - 1
        while k >= 0 and self._places[k].end <= record.position:
            k = self._places[k].around
        return None if k < 0 else (self._places[k].run, self._places[k].number)

    def _step(self, cell: Any, x: Any, state: Any, valid: Any) -> Any:
        """A step, made in the place of the cell."""
        if not is_recording():
            return cell.step(x, state)
        origin, start, given = current_place.get().origin, next_position(), leaves(state)
        gates = [_gate(s) if s.dtype.kind == "f" else s for s in given]
        before = [identity(s) if s.dtype.kind == "f" else s for s in gates]
        with collected_notes(wanted=True) as notes:
            found = cell.step(x, rebuild(state, before))
        after = leaves(found[1]) if isinstance(found, tuple) and len(found) == 2 else []
        if [getattr(s, "dtype", None) for s in after] != [s.dtype for s in given]:
            return found  # which the loop will refuse
        handed = [identity(s) if s.dtype.kind == "f" else s for s in after]
        same = {id(old): new for old, new in zip(after[::-1], handed[::-1], strict=True)}
        made = [s if _is_new(s, start) else s_ for s, s_ in zip(after, handed, strict=True)]
        y, notes = tree_map(lambda v: same.get(id(v), v), (found[0], notes))
        note(**notes)
        run = self._run(cell, origin, state)
        floats = [k for k, s in enumerate(given) if s.dtype.kind == "f"]
        run.steps.append(
            Step(
                origin.step, start, next_position(), x, state, [gates[k] for k in floats],
                [before[k] for k in floats], [made[k] for k in floats],
                [handed[k] for k in floats], notes, None if valid is None else to_host(valid.array),
            )
        )  # fmt: skip
        return y, rebuild(found[1], handed)

    def _run(self, cell: Any, origin: Any, state: Any) -> Run:
        """The run that a step continues, if its state comes from the last step of one."""
        key = id(cell), origin.layer, origin.reverse
        run = self._last.get(key)
        if run is not None:
            last = run.steps[-1]
            left = {s.record for s in last.after}
            if any(record in left for record in collect(leaves(state), last.start)):
                return run
        label = origin.layer or type(cell).__name__
        if origin.reverse and not label.endswith("_reverse"):
            label += " reversed"
        number = self._labels[label] = self._labels.get(label, 0) + 1
        run = Run(cell, label if number == 1 else f"{label} ({number})", origin.reverse, state)
        self._last[key] = run
        self.runs.append(run)
        return run


def _is_new(value: Tensor, start: int) -> bool:
    """Whether it was computed after this position, by more than handing a value on."""
    record = value.record
    return record is not None and record.position > start and record.primitive.name != "identity"


def _gate(value: Tensor) -> Tensor:
    """The value, once more, which a gradient can be asked for."""
    return identity(value) if value.needs_grad else Tensor(value.array, True)
