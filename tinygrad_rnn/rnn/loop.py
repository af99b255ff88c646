"""The one time loop: a cell over all time steps, replayed or unrolled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from tinygrad_rnn.ops import add, generator_state, set_generator_state
from tinygrad_rnn.replay import (
    Steps,
    TracedStep,
    checked_step,
    explain_replay,
    scan,
    segment_length,
    trace,
    wanted_of,
)
from tinygrad_rnn.rnn.arguments import keep_valid
from tinygrad_rnn.rnn.cells import Cell
from tinygrad_rnn.rnn.known_calls import Settings, depends_on
from tinygrad_rnn.rnn.notes import collected_notes
from tinygrad_rnn.rnn.watched import are_steps_watched, step_of
from tinygrad_rnn.tape import enable_grad, leaves, no_grad, rebuild, tree_map
from tinygrad_rnn.tensor import Tensor, zeros


class How(NamedTuple):
    """How a cell is run over time; see :class:`Recurrent`."""

    record: tuple[str, ...]
    reverse: bool
    unroll: bool
    checkpoint: int | str | None


CellRun: TypeAlias = tuple[Any, Sequence[Any], Sequence[Any]]
"""What a cell gives over time: outputs, what was recorded, the values of the last state."""


def over_time(
    cell: Cell, inputs: dict[str, Any], state: Any, how: How
) -> tuple[CellRun, TracedStep | None]:
    """A cell over time, and its traced step if that may be used again.

    ``inputs`` are ``x`` (T, B, I) and, where they are given, ``probe`` and ``valid``: in rows where
    that (T, B) is False, the output is 0 and the state stays as it was, in both directions.
    """
    step = partial(_step, cell, how.record)
    if how.unroll or are_steps_watched():
        (output, series), end = scan(step, inputs, state, reverse=how.reverse, unroll=True)
        return (output, series, leaves(end)), None
    steps = len(inputs["x"])
    found = trace(step, inputs, state, steps, how.reverse)
    if isinstance(found, Steps):
        (output, series), end = found.unrolled()
        return (output, series, leaves(end)), None
    traced, blocks = found
    every = segment_length(how.checkpoint, steps)
    run = _cell_run(traced, *traced.run(leaves(inputs), leaves(state), blocks, steps, every))
    return run, traced if depends_on(traced, cell) else None


def over_time_again(
    traced: TracedStep,
    inputs: Sequence[Any],
    state: Sequence[Any],
    checkpoint: int | str | None,
    bare: bool,
) -> CellRun:
    """A traced step over time, from the values of its inputs in the order of their names.

    With ``bare`` these and what comes out are arrays.
    """
    steps = inputs[-1].shape[0]
    blocks = traced.draw(steps) if traced.asked else []
    if bare:
        return _cell_run(traced, *traced.run_bare([*inputs, *blocks], state, steps))
    every = None if checkpoint is None else segment_length(checkpoint, steps)
    return _cell_run(traced, *traced.run(inputs, state, blocks, steps, every))


def _cell_run(traced: TracedStep, ys: list[Any], end: Sequence[Any]) -> CellRun:
    if isinstance(traced.y_form[0], int):  # the output is one value
        return ys[0], ys[1:], end
    output, series = rebuild(traced.y_form, ys)
    return output, series, end


def explain_cell(cell: Cell, batch_size: int, reverse: bool, gradients: bool) -> str:
    """The replay of a cell in words."""
    like = cell.some_tensor()
    x = zeros((2, batch_size, cell.input_size))
    x = x if like is None else x.to(like.dtype).to(like.device)
    state = cell.initial_state(batch_size)
    for value in (x, *leaves(state)):
        value.requires_grad = gradients and value.is_leaf and value.dtype.kind == "f"
    before = generator_state()
    with enable_grad() if gradients else no_grad():
        found = trace(partial(_step, cell, ()), {"x": x}, state, 2, reverse)
    set_generator_state(before)
    title = f"{type(cell).__name__}({cell.extra_repr()})"
    if isinstance(found, Steps):
        return f"{title}\nruns unrolled: {found.reason}"
    traced, blocks = found
    if not Settings([cell]).is_plain:
        title += (
            "\nretraced at each call; if its step depends on x, the state, its parameters and "
            "plain attributes alone, say so in the class: pure = True"
        )
    inputs = [*traced.captured, x, *blocks, *leaves(state)]
    wanted = wanted_of(traced.replay, inputs) if gradients else None
    return f"{title}\n{explain_replay(traced.replay, wanted)}"


def _step(cell: Cell, record: Sequence[str], inputs: dict[str, Any], state: Any) -> Any:
    """One step of a cell, with what the loop adds to it: noted values, rows that have ended."""
    with collected_notes(wanted=bool(record)) as notes:
        found: Any = step_of(cell, inputs["x"], state, inputs.get("valid"))
    y, after = checked_step(found, state, f"{type(cell).__name__}.step")
    fields = getattr(after, "_asdict", dict)()
    notes |= {name: s for name, s in fields.items() if isinstance(s, Tensor)}
    series = tuple(_noted(cell, name, notes) for name in record)
    if "probe" in inputs:
        probed = tree_map(add, after, inputs["probe"])
        same = {id(old): new for old, new in zip(leaves(after), leaves(probed), strict=True)}
        y, series = tree_map(lambda value: same.get(id(value), value), (y, series))
        after = probed
    if "valid" in inputs:
        valid = inputs["valid"]
        y, series = tree_map(lambda value: keep_valid(valid, value, 0), (y, series))
        after = tree_map(partial(keep_valid, valid), after, state)
    return (y, series), after


def _noted(cell: Cell, name: str, notes: dict[str, Tensor]) -> Tensor:
    if name not in notes:
        raise ValueError(
            f"record: {type(cell).__name__} has no inner value {name!r}, only {sorted(notes)}"
        )
    return notes[name]
