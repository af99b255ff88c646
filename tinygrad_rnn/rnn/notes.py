"""Inner values of a step, noted by the cell and collected over time by the loop."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from tinygrad_rnn.backends import Switch
from tinygrad_rnn.tensor import Tensor

_notes: ContextVar[dict[str, Tensor] | None] = ContextVar("tinygrad_rnn_notes", default=None)


def note(*unnamed: Any, **values: Tensor) -> None:
    """Give inner values of a step a name, under which ``record=`` can ask for them.

    A cell calls it with what is worth seeing, such as its gates. It costs nothing where nobody
    asks.
    """
    if unnamed:
        raise TypeError("note: expected values with names, as in note(f=f), got one without")
    notes = _notes.get()
    if notes is not None:
        notes.update(values)


def collected_notes(wanted: bool) -> Switch[dict[str, Tensor] | None, dict[str, Tensor]]:
    """Collect what is noted within the block, if it is wanted."""
    notes: dict[str, Tensor] = {}
    return Switch("notes", _notes, lambda _: notes if wanted else None, lambda _: notes)
