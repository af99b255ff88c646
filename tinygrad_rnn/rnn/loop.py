"""The one time loop."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from tinygrad_rnn.backends import device_of
from tinygrad_rnn.nn import Module
from tinygrad_rnn.ops import add, expand_dims, generator_state, set_generator_state, squeeze
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
from tinygrad_rnn.rnn.arguments import (
    Layout,
    check_inputs,
    fit_probe,
    fit_state,
    keep_valid,
    valid_steps,
)
from tinygrad_rnn.rnn.cells import Cell
from tinygrad_rnn.rnn.notes import collected_notes
from tinygrad_rnn.rnn.pure_steps import KEPT, TRACED_STEPS, Settings, depends_on
from tinygrad_rnn.rnn.repeated import again, remember
from tinygrad_rnn.tape import enable_grad, is_recording, is_tracing, leaves, no_grad, tree_map
from tinygrad_rnn.tensor import Tensor, zeros


class How(NamedTuple):
    """How a cell is run over time; see :class:`Recurrent`.

    ``used`` takes the traced step of each run, None for one that may not be used again.
    """

    valid: Tensor | None
    reverse: bool
    record: tuple[str, ...]
    probe: Any
    unroll: bool
    checkpoint: int | str | None
    used: list[TracedStep | None]


class Recurrent(Module):
    """A cell run over time: inputs (T, B, I) to outputs (T, B, H) and the last state.

    Parameters
    ----------
    cell : its equations.
    reverse : run from the last step to the first; outputs stay at their steps.
    batch_first : inputs and outputs are (B, T, I) and (B, T, H); states are as ever.
    unroll : write every operation of every step on the tape, to be studied, instead of replaying
        the tape of one step. Slower, with the same results.
    checkpoint : hold the states before every k-th step only and compute the rest again in the
        backward pass, or ``"sqrt"``: see :func:`tinygrad_rnn.scan`.
    """

    def __init__(
        self,
        cell: Cell,
        reverse: bool = False,
        batch_first: bool = False,
        unroll: bool = False,
        checkpoint: int | str | None = None,
    ) -> None:
        if not isinstance(cell, Cell):
            raise TypeError(f"Recurrent: expected a Cell, got {type(cell).__name__}")
        for name in ("input_size", "hidden_size"):
            if not hasattr(cell, name):
                raise TypeError(
                    f"Recurrent: the cell {type(cell).__name__} must have the attribute {name}, "
                    "an integer"
                )
        self.cell = cell
        self.reverse = reverse
        self.batch_first = batch_first
        self.unroll = unroll
        check_options("Recurrent", unroll, checkpoint)
        self.checkpoint = checkpoint

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
        probe: Any = None,
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
        probe : Tensors (T, B, ...) in the containers of the state, which are added to the state
            after each step. The gradient of zeros is the total gradient of the state as every
            step hands it on: through the steps that follow, the last state, and the output of the
            step where that is a field of the state, as h is.
        """
        plain = lengths is None and not record and not reverse and probe is None
        found = again(self, x, state) if plain else None
        if found is not None:
            return found
        who = f"Recurrent({type(self.cell).__name__})"
        layout = Layout(who, x, self.cell.input_size, self.batch_first, self.cell)
        xs = layout.enter(x)
        valid = valid_steps(who, lengths, xs)
        if valid is not None:
            xs = keep_valid(valid, xs, 0)
        given, state = state, layout.enter_state(who, state, self.cell, 0)
        if isinstance(record, str):
            raise TypeError(f"record: expected a list of names, got the string {record!r}")
        if probe is not None:
            probe = fit_probe(who, probe, state, len(xs))
        turned = reverse != self.reverse
        how = How(valid, turned, tuple(record), probe, self.unroll, self.checkpoint, [])
        output, state, recorded = run(self.cell, xs, state, how)
        if plain and layout.is_plain:
            remember(self, x, given, how.used, 1)
        found = (layout.leave(output), layout.leave_state(state, 0))
        if not record:
            return found
        return *found, {name: layout.leave(value) for name, value in recorded.items()}

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step of a stream: inputs (B, I) to outputs (B, H) and the next state."""
        if self.reverse:
            raise ValueError("Recurrent.step: a stream has no end to begin a reversed run at")
        found = again(self, x, state, single=True)
        if found is not None:
            return found
        who = f"Recurrent({type(self.cell).__name__}).step"
        check_inputs(who, x, ("B", self.cell.input_size), self.cell)
        used: list[TracedStep | None] = []
        start = fit_state(who, state, self.cell, x.shape[0])
        found = one_step(self.cell, x, start, self.unroll, used)
        remember(self, x, state, used, 1, single=True)
        return found

    def explain(self, batch_size: int = 8, gradients: bool = True) -> str:
        """What the replay makes of the cell: its program, the parts in which it is run, the
        products and kernels of the loop, the memory per step, and why anything is left slow.

        Parameters
        ----------
        batch_size : B of the shapes and bytes that are shown.
        gradients : as in training, with gradients of all parameters, the inputs and the first
            state; else as under ``no_grad``.
        """
        return explain_cell(self.cell, batch_size, self.reverse, gradients)

    def extra_repr(self) -> str:
        flags = ("reverse", "batch_first", "unroll")
        return ", ".join(name for name in flags if getattr(self, name))


def check_options(who: str, unroll: bool, checkpoint: int | str | None) -> None:
    """Refuse what the loop cannot do."""
    segment_length(checkpoint, 1)
    if unroll and checkpoint is not None:
        raise ValueError(f"{who}: checkpoint needs the replayed loop, got unroll=True")


def run(
    cell: Cell,
    xs: Tensor,
    state: Any,
    how: How,
) -> tuple[Tensor, Any, dict[str, Tensor]]:
    """A cell over time: outputs (T, B, ...), the last state, recorded values.

    In rows where ``how.valid`` (T, B) is False, the output is 0 and the state stays as it was, in
    both directions.
    """
    inputs = {"x": xs}
    if how.valid is not None:
        inputs["valid"] = how.valid
    if how.probe is not None:
        inputs["probe"] = how.probe
    step = partial(_step, cell, how.record)
    if how.unroll:
        found = scan(step, inputs, state, reverse=how.reverse, unroll=True)
    else:
        found = _replayed(cell, step, inputs, state, how)
    (output, series), state = found
    return output, state, dict(zip(how.record, series, strict=True))


def one_step(
    cell: Cell, x: Tensor, state: Any, unroll: bool, used: list[TracedStep | None]
) -> tuple[Tensor, Any]:
    """One step of a stream: a loop of one step."""
    if unroll:
        return cell.step(x, state)
    how = How(None, False, (), None, False, None, used)
    y, state, _ = run(cell, expand_dims(x, 0), state, how)
    return squeeze(y, 0), state


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
    if not Settings(cell).is_plain:
        title += (
            "\nretraced at each call; if its step depends on x, the state, its parameters and "
            "plain attributes alone, say so in the class: pure = True"
        )
    inputs = [*traced.captured, x, *blocks, *leaves(state)]
    wanted = wanted_of(traced.replay, inputs) if gradients else None
    return f"{title}\n{explain_replay(traced.replay, wanted)}"


def _replayed(cell: Cell, step: Any, inputs: dict[str, Any], state: Any, how: How) -> Any:
    """The loop replayed, from a trace made earlier if that still holds."""
    xs, start = leaves(inputs), leaves(state)
    steps = xs[0].shape[0]
    every = segment_length(how.checkpoint, steps)
    remembered = TRACED_STEPS.of(cell)
    may_keep = not is_tracing() and remembered.holds(cell)
    key = (
        how.record,
        how.reverse,
        is_recording(),
        tuple(inputs),
        *((v.array.shape[1:], v.array.dtype, v.needs_grad) for v in xs),
        *((v.array.shape, v.array.dtype, v.needs_grad) for v in start),
        device_of(xs[0].array),
    )
    traced = remembered.known.get(key) if may_keep else None
    if traced is not None:
        how.used.append(traced)
        return traced.run(xs, start, traced.draw(steps), steps, every)
    found = trace(step, inputs, state, steps, how.reverse)
    if isinstance(found, Steps):
        how.used.append(None)
        return found.unrolled()
    traced, blocks = found
    kept = may_keep and depends_on(traced, cell)
    if kept:
        remembered.keep(key, traced, KEPT)
    how.used.append(traced if kept else None)
    return traced.run(xs, start, blocks, steps, every)


def _step(cell: Cell, record: Sequence[str], inputs: dict[str, Any], state: Any) -> Any:
    """One step of a cell, with what the loop adds to it: noted values, rows that have ended."""
    with collected_notes(wanted=bool(record)) as notes:
        found: Any = cell.step(inputs["x"], state)
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
