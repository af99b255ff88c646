"""Every use of a parameter on a tape, and what each adds to the gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygrad_rnn.backends import to_host
from tinygrad_rnn.lab.flow.followed import Followed
from tinygrad_rnn.nn import Parameter
from tinygrad_rnn.ops.arrays import raw
from tinygrad_rnn.replay import is_replayed, rerun
from tinygrad_rnn.tape import (
    Observer,
    Record,
    Traced,
    contribution,
    format_bytes,
    observe,
    unseen,
)

Place = tuple[str, int]
"""The place of a use: the label of its loop or layer, and a number that rises with time."""


class Sums:
    """What the uses of each parameter add to its gradient, summed at each place.

    With ``norms`` a sum gives way to its norm as soon as the pass is done with its place.
    ``limit`` is how many bytes may be held.
    """

    def __init__(self, norms: bool, limit: float = math.inf) -> None:
        self.norms, self.limit, self.bytes = norms, limit, 0
        self.sums: dict[tuple[str, Place], Any] = {}
        self.sizes: dict[tuple[str, Place], float] = {}
        self._starts: dict[tuple[str, Place], int] = {}

    def add(self, name: str, place: Place, start: int, value: np.ndarray) -> None:
        """Add a use at a place that begins at the position ``start``."""
        key = name, place
        if key in self.sums:
            self.sums[key] = self.sums[key] + value
            return
        self.sums[key], self._starts[key] = value, start
        self.bytes += value.nbytes
        if self.bytes > self.limit:
            raise MemoryError(
                f"contributions: those to {name} take more than {format_bytes(int(self.limit))}, "
                f"{format_bytes(value.nbytes)} each; give norms=True, or a higher limit="
            )

    def passed(self, position: float) -> None:
        """The pass has come to this position, and none of what is later comes again."""
        if self.norms:
            for key in [key for key, start in self._starts.items() if start > position]:
                del self._starts[key]
                value = self.sums.pop(key)
                self.bytes -= value.nbytes
                self.sizes[key] = norm_of(value)


class Uses(Observer):
    """Sees the uses of parameters in a backward pass."""

    def __init__(self, followed: Followed, parameters: Mapping[str, Parameter], sums: Sums) -> None:
        self.followed, self.sums = followed, sums
        self.names = {id(p.array): name for name, p in parameters.items()}
        self.labels = {run.label for run in followed.runs}
        self.loop: Record | None = None
        self.arrived: tuple[Any, ...] = ()

    def before_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        if self.loop is None:
            self.sums.passed(record.position)
            self.arrived = cotangents

    def after_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        used = [k for k, x in enumerate(record.inputs) if self._is_used(x, cotangents[k])]
        if not used or record.primitive.name == "checkpoint":  # what it runs again is seen itself
            return
        if is_replayed(record):
            self._look_inside(record)
            return
        place, start = self._place(record)
        for k in used:
            array = record.inputs[k].array
            value = to_host(contribution(cotangents[k], array))
            self.sums.add(self.names[id(array)], place, start, value)

    def _is_used(self, x: Any, g: Any) -> bool:
        return (
            g is not None
            and isinstance(x, Traced)
            and x.record is None
            and id(x.array) in self.names
        )

    def _look_inside(self, record: Record) -> None:
        """A loop of the user's own, which is replayed: step by step, once more."""
        arrived, around, self.loop = self.arrived, self.loop, self.loop or record
        try:
            with unseen(), observe(self):
                rerun(record, [None if g is None else raw(g) for g in arrived])
        finally:
            self.loop = around

    def _place(self, record: Record) -> tuple[Place, int]:
        """Where a record is, and the position where that begins, -1 where it is not known."""
        found = self.followed.step_of(self.loop or record)
        if found is not None:
            run, number = found
            return (run.label, run.times()[number]), run.steps[number].start
        origin = record.origin
        layer = (origin and origin.layer) or "model"
        if layer in self.labels:  # by what is around the steps, such as a learned first state
            layer += ", outside of its steps"
        if origin is not None and origin.step is not None:
            return (layer + " reversed" * origin.reverse, origin.step), -1
        return (layer, record.position), record.position


def norm_of(value: np.ndarray) -> float:
    """The Euclidean norm in float64, in which no square of a float32 vanishes or overflows."""
    return float(np.linalg.norm(np.asarray(value, np.float64)))


def by_loop(followed: Followed, values: Mapping[Place, Any], zero: Any) -> dict[str, np.ndarray]:
    """Values by place as one array for each loop, with zeros at the steps that have none."""
    lengths = {run.label: len(run.steps) for run in followed.runs}
    found: dict[str, list[Any]] = {}
    for label, number in sorted(values):
        if label not in found:
            found[label] = [zero] * lengths.get(label, 0)
        if label in lengths:
            found[label][number] = values[label, number]
        else:
            found[label].append(values[label, number])
    return {label: np.array(entries) for label, entries in found.items()}
