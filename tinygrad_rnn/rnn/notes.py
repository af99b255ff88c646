"""Inner values of a step, noted by the cell and collected over time by the loop."""

from __future__ import annotations

from collections.abc import Callable
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


See = Callable[[Any, bool, Any, dict[str, Tensor]], None]
"""Is shown what a cell computed over time: the cell, whether from the last step to the first, its
outputs, and its noted values and fields of its state by name, each (T, B, ...)."""

_seeing: ContextVar[See | None] = ContextVar("tinygrad_rnn_seeing", default=None)


def show_notes(see: See) -> Switch[See | None, None]:
    """Within the block, show ``see`` the inner values of every cell that is run over time.

    To be used where somebody looks (``lab.look()``): then every call is traced anew.
    """
    return Switch("show_notes", _seeing, lambda _: see)


def seeing() -> See | None:
    """Who is to be shown the inner values of a cell, None where nobody is."""
    return _seeing.get()
