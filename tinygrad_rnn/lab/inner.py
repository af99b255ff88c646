"""Inner values over time of all recurrent layers of a model as it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.rnn.notes import show_notes
from tinygrad_rnn.tape import current_place, look
from tinygrad_rnn.tensor import Tensor


@dataclass(frozen=True)
class Inner:
    """What one cell computed over time.

    Attributes
    ----------
    layer : the path of names to it.
    reverse : whether it ran from the last step to the first; the values are in the order of time.
    values : its noted values (gates) and fields of its state by name, each (T, B, ...); its outputs
        as ``y`` where none of them is ``h``.
    """

    layer: str
    reverse: bool
    values: dict[str, np.ndarray]


def inner_values(run: Callable[[], Any]) -> tuple[dict[str, Inner], Any]:
    """Of every recurrent layer that ``run()`` runs its inner values, by layer; and what it gives.

    Where a layer is called several times, as by a stream or a loop of the user's, its calls follow
    each other in time.
    """
    found: dict[str, Inner] = {}

    def see(cell: Any, reverse: bool, output: Any, notes: dict[str, Tensor]) -> None:
        layer = current_place.get().origin.layer or type(cell).__name__
        values = {name: np.array(v.numpy()) for name, v in notes.items() if v.dtype.kind == "f"}
        if "h" not in values and isinstance(output, Tensor):
            values["y"] = np.array(output.numpy())
        if layer in found:
            before = found[layer].values
            values = {n: np.concatenate([before[n], v]) for n, v in values.items() if n in before}
        found[layer] = Inner(layer, reverse, values)

    with look(), show_notes(see):
        output = run()
    return found, output
