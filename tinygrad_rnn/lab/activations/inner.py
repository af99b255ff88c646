"""Inner values over time of all recurrent layers of a model as it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.backends import to_host
from tinygrad_rnn.rnn.arguments import fields_of
from tinygrad_rnn.rnn.notes import collected_notes, note
from tinygrad_rnn.rnn.watched import watch_steps
from tinygrad_rnn.tape import current_place, look


@dataclass(frozen=True)
class Inner:
    """What one cell computed over time.

    Attributes
    ----------
    layer : the path of names to it.
    reverse : whether it ran from the last step to the first; the values are in the order of time.
    values : its noted values (gates) and the fields of its state by name, each (T, B, ...); a state
        that is one Tensor is ``h``. Past the end of a sequence that is shorter they are 0.
    """

    layer: str
    reverse: bool
    values: dict[str, np.ndarray]


class _Steps:
    """The steps of one cell, as they are made."""

    def __init__(self, reverse: bool) -> None:
        self.reverse = reverse
        self.times: list[int] = []
        self.values: dict[str, list[np.ndarray]] = {}

    def add(self, time: int | None, values: dict[str, np.ndarray]) -> None:
        """One more step."""
        self.times.append(time or 0)
        for name, array in values.items():
            self.values.setdefault(name, []).append(array)

    def over_time(self) -> dict[str, np.ndarray]:
        """Values in the order of time, calls in the order in which they were made."""
        call, order = 0, [(0, t) for t in self.times]
        for k, t in enumerate(self.times):  # a call ends where time turns back, or stands still
            before = self.times[k - 1] if k else None
            turned = before is not None and (t >= before if self.reverse else t <= before)
            call += turned
            order[k] = call, t
        places = sorted(range(len(order)), key=order.__getitem__)
        whole = {n: column for n, column in self.values.items() if len(column) == len(places)}
        return {name: np.stack([column[k] for k in places]) for name, column in whole.items()}


def inner_values(run: Callable[[], Any]) -> dict[str, Inner]:
    """Of every recurrent layer that ``run()`` runs its inner values, by layer.

    Where a layer is called several times, as a stream is, its calls follow each other in time. What
    cannot, as it runs in the other direction or has another batch, is there again by itself, as
    ``name reversed`` or ``name (2)``.
    """
    found: dict[tuple[Any, ...], _Steps] = {}
    labels: dict[str, Any] = {}

    def step(cell: Any, x: Any, state: Any, valid: Any) -> Any:
        with collected_notes(wanted=True) as notes:
            made = cell.step(x, state)
        note(**notes)  # for a ``record=`` of the user's
        origin = current_place.get().origin
        layer = origin.layer or type(cell).__name__
        after = made[1] if isinstance(made, tuple) and len(made) == 2 else ()
        fields = {".".join(path): value for path, value in fields_of(after)}
        named = notes | fields
        values = {n: to_host(v.array) for n, v in named.items() if v.dtype.kind == "f"}
        if valid is not None:
            ended = ~to_host(valid.array)
            values = {name: _without(v, ended) for name, v in values.items()}
        key = layer, origin.reverse, tuple(value.shape for value in fields.values())
        if key not in found:
            found[key] = _Steps(origin.reverse)
            labels[_label(layer, origin.reverse, labels)] = found[key]
        found[key].add(origin.step, values)
        return made

    with look(), watch_steps(step):
        run()
    return {name: Inner(name, steps.reverse, steps.over_time()) for name, steps in labels.items()}


def _label(layer: str, reverse: bool, taken: dict[str, Any]) -> str:
    """A name that is not taken."""
    for label in (layer, f"{layer} reversed" if reverse else layer):
        if label not in taken:
            return label
    numbers = (f"{layer} ({k})" for k in range(2, len(taken) + 3))
    return next(label for label in numbers if label not in taken)


def _without(values: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """The values, 0 in rows that have ended."""
    if values.ndim == 0 or len(values) != len(ended):
        return values
    return np.where(ended.reshape(-1, *[1] * (values.ndim - 1)), 0, values)
