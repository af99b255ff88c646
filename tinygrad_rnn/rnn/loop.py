"""The one time loop."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tinygrad_rnn.nn import Module
from tinygrad_rnn.ops import stack, unstack
from tinygrad_rnn.rnn.arguments import Layout, keep_valid, valid_steps
from tinygrad_rnn.rnn.cells import Cell
from tinygrad_rnn.rnn.notes import collected_notes
from tinygrad_rnn.tape import tree_map
from tinygrad_rnn.tensor import Tensor


class Recurrent(Module):
    """A cell run over time: inputs (T, B, I) to outputs (T, B, H) and the last state.

    Parameters
    ----------
    cell : its equations.
    reverse : run from the last step to the first; outputs stay at their steps.
    batch_first : inputs and outputs are (B, T, I) and (B, T, H); states are as ever.
    """

    def __init__(self, cell: Cell, reverse: bool = False, batch_first: bool = False) -> None:
        if not isinstance(cell, Cell):
            raise TypeError(f"Recurrent: expected a Cell, got {type(cell).__name__}")
        self.cell = cell
        self.reverse = reverse
        self.batch_first = batch_first

    def initial_state(self, batch_size: int) -> Any:
        """The state that a call without one begins with."""
        return self.cell.initial_state(batch_size)

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        *,
        lengths: Any = None,
        record: Sequence[str] = (),
        reverse: bool = False,
    ) -> tuple[Any, ...]:
        """``(output, state)``: the outputs at every step and the last state.

        Parameters
        ----------
        x : (T, B, I), or (T, I) without a batch: then nothing that comes back has one either.
        state : where to begin, for instance the state of an earlier call.
        lengths : how many steps of each sequence count, in any order and down to 0, as a list or
            an array of B integers. Outputs past a sequence's end are 0, its last state is that of
            its last step that counts, and nothing past its end is read, be it nan. A reversed run
            begins at each sequence's own end.
        record : names of inner values (gates, fields of the state) that shall come back over time:
            then the result is ``(output, state, {name: (T, B, ...)})``.
        reverse : turn the direction of this call round.
        """
        who = f"Recurrent({type(self.cell).__name__})"
        layout = Layout(who, x, self.cell.input_size, self.batch_first, self.cell)
        xs = layout.enter(x)
        valid = valid_steps(who, lengths, xs)
        if valid is not None:
            xs = keep_valid(valid, xs, 0)
        state = layout.enter_state(who, state, self.cell.initial_state(xs.shape[1]), 0)
        output, state, recorded = run(self.cell, xs, state, valid, reverse != self.reverse, record)
        found = (layout.leave(output), layout.leave_state(state, 0))
        if not record:
            return found
        return *found, {name: layout.leave(value) for name, value in recorded.items()}

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step of a stream: inputs (B, I) to outputs (B, H) and the next state."""
        if self.reverse:
            raise ValueError("Recurrent.step: a stream has no end to begin a reversed run at")
        return self.cell(x, state)

    def extra_repr(self) -> str:
        return ", ".join(name for name in ("reverse", "batch_first") if getattr(self, name))


def run(
    cell: Cell,
    xs: Tensor,
    state: Any,
    valid: Tensor | None = None,
    reverse: bool = False,
    record: Sequence[str] = (),
) -> tuple[Tensor, Any, dict[str, Tensor]]:
    """Every step of a cell on the tape: outputs (T, B, ...), the last state, recorded values.

    ``valid`` (T, B) says which steps count. In rows where one does not, the output is 0 and the
    state stays as it was, in both directions.
    """
    if isinstance(record, str):
        raise TypeError(f"record: expected a list of names, got the string {record!r}")
    inputs = unstack(xs, 0)
    masks = None if valid is None else unstack(valid, 0)
    outputs: list[Any] = [None] * len(inputs)
    recorded: dict[str, list[Any]] = {name: [None] * len(inputs) for name in record}
    times = range(len(inputs))
    with collected_notes(wanted=bool(record)) as notes:
        for t in reversed(times) if reverse else times:
            notes.clear()
            y, after = _step(cell, inputs[t], state)
            if record:
                fields = getattr(after, "_asdict", dict)()
                notes |= {name: s for name, s in fields.items() if isinstance(s, Tensor)}
                for name in record:
                    recorded[name][t] = _noted(cell, name, notes)
            if masks is not None:
                after = tree_map(partial(keep_valid, masks[t]), after, state)
            outputs[t], state = y, after
    output = stack(outputs, 0)
    series = {name: stack(values, 0) for name, values in recorded.items()}
    if valid is not None:
        output = keep_valid(valid, output, 0)
        series = {name: keep_valid(valid, values, 0) for name, values in series.items()}
    return output, state, series


def _step(cell: Cell, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    found: Any = cell.step(x, state)
    if type(found) is not tuple or len(found) != 2:
        raise TypeError(
            f"{type(cell).__name__}: step must return (y, state), got {type(found).__name__}"
        )
    return found


def _noted(cell: Cell, name: str, notes: dict[str, Tensor]) -> Tensor:
    if name not in notes:
        raise ValueError(
            f"record: {type(cell).__name__} has no inner value {name!r}, only {sorted(notes)}"
        )
    return notes[name]
