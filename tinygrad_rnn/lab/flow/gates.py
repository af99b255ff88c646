"""How far the gates of a cell are saturated at each step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.backends import to_host
from tinygrad_rnn.lab.flow.followed import Run, Step
from tinygrad_rnn.tape import Record, collect

RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
EDGE = 0.1
"""The part of its range, at either end, in which a value counts as saturated."""


class Saturation(NamedTuple):
    """The share of a gate's elements, over batch and units, that are saturated at each step.

    That is, within a tenth of the range of its function from either end: below 0.1 or above 0.9
    for a sigmoid, below -0.8 or above 0.8 for tanh, which is the same of its argument but for a
    factor of 2. Source: Karpathy, Johnson, Fei-Fei 2015, Visualizing and Understanding Recurrent
    Networks, section 4.2.

    Attributes
    ----------
    function : ``sigmoid`` or ``tanh``.
    low, high : (T,) shares from 0 to 1, of the sequences that have this step; nan for none.
    """

    function: str
    low: np.ndarray
    high: np.ndarray


def saturation_of(run: Run) -> dict[str, Saturation]:
    """Of what the cell notes and a sigmoid or a tanh gave; if it notes none of these, of every
    sigmoid and tanh of its step, named by line.
    """
    of_steps = [_noted(step) or _by_line(step) for step in run.steps]
    names = [name for name in of_steps[0] if all(name in found for found in of_steps)]
    gates: dict[str, Saturation] = {}
    for name in names:
        function = of_steps[0][name][0]
        pairs = zip(run.steps, of_steps, strict=True)
        shares = [_shares(function, found[name][1], step.valid) for step, found in pairs]
        low, high = run.in_time(shares).T
        gates[name] = Saturation(function, low, high)
    return gates


def _shares(function: str, values: Any, valid: Any) -> np.ndarray:
    """The shares of the values near both ends."""
    array = to_host(values)
    array = array if valid is None or len(array) != len(valid) else array[valid]
    bottom, top = RANGES[function]
    edge = EDGE * (top - bottom)
    if not array.size:
        return np.array([np.nan, np.nan])
    return np.array([np.mean(array < bottom + edge), np.mean(array > top - edge)])


def _noted(step: Step) -> dict[str, tuple[str, Any]]:
    """The noted results of a sigmoid or a tanh: the function and the array."""
    found: dict[str, tuple[str, Any]] = {}
    for name, value in step.notes.items():
        record: Record | None = value.record
        while record is not None and record.primitive.name == "identity":
            record = getattr(record.inputs[0], "record", None)
        if record is not None and record.primitive.name in RANGES:
            found[name] = record.primitive.name, value.array
    return found


def _by_line(step: Step) -> dict[str, tuple[str, Any]]:
    """Every sigmoid and tanh that the new state comes from."""
    found: dict[str, tuple[str, Any]] = {}
    for record in collect(step.after, step.start):
        if record.primitive.name in RANGES:
            line = (record.origin and record.origin.short_line) or "?"
            name = f"{record.primitive.name} at {line}"
            count = sum(other.partition(" #")[0] == name for other in found)
            found[f"{name} #{count + 1}" if count else name] = (
                record.primitive.name,
                record.results[0],
            )
    return found
