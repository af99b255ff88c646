"""Cells over time: all that the recurrent layers share, from a call's arguments to its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

from tinygrad_rnn.nn import Module
from tinygrad_rnn.nn.place import inside
from tinygrad_rnn.ops import concat, current_precision
from tinygrad_rnn.replay import TracedStep, segment_length
from tinygrad_rnn.rnn.arguments import Layout, fit_probe, keep_valid, with_axis, without_axis
from tinygrad_rnn.rnn.cells import Cell
from tinygrad_rnn.rnn.known_calls import KnownCall, kind_of, memory_of
from tinygrad_rnn.rnn.loop import CellRun, How, over_time, over_time_again
from tinygrad_rnn.tape import current_modes, leaves, rebuild, tree_map
from tinygrad_rnn.tensor import Tensor


class Arguments(NamedTuple):
    """The arguments of a call, see :meth:`Recurrent.forward`; ``single`` for one step of a stream.

    ``reverse`` is the direction of the first cell of each level.
    """

    x: Any
    state: Any = None
    lengths: Any = None
    record: tuple[str, ...] = ()
    reverse: bool = False
    probe: Any = None
    single: bool = False


class CellLayer(Module):
    """Cells over time, at each level one or two side by side, each level on top of the one below.

    Attributes
    ----------
    _ways : how many cells are side by side; of two the second runs the other way.
    _batch_axis : which axis of the layer's states is that of the batch.
    """

    _ways: int = 1
    _batch_axis: int = 0
    batch_first: bool
    unroll: bool
    checkpoint: int | str | None

    def _check_options(self) -> None:
        """Refuse what the loop cannot do."""
        segment_length(self.checkpoint, 1)
        if self.unroll and self.checkpoint is not None:
            who = type(self).__name__
            raise ValueError(f"{who}: checkpoint needs the replayed loop, got unroll=True")

    def cells(self) -> list[Cell]:
        """The cells from below, in each level that of the forward direction first."""
        raise NotImplementedError

    def _called(self) -> str:
        """What errors call the layer."""
        return type(self).__name__

    def _name_of(self, k: int) -> str | None:
        """What the k-th cell is called where the layer's tree does not have it."""
        return None

    def initial_state(self, batch_size: int) -> Any:
        """The state that a call without one begins with."""
        raise NotImplementedError

    def _parted(self, values: Sequence[Any], lead: int = 0) -> Sequence[Sequence[Any]]:
        """From the values of the layer's state, with ``lead`` further axes in front, those of each
        cell's.
        """
        return [values]

    def _joined(self, of_cells: Sequence[Sequence[Any]]) -> Sequence[Any]:
        """From values of each cell those of the layer: the inverse of :meth:`_parted`."""
        return of_cells[0]

    def _between(self, k: int, x: Any) -> Any:
        """The inputs of the k-th cell and of those beside it, from the outputs of those below."""
        return x

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step of a stream: inputs (B, I) to outputs (B, H) and the next state."""
        output, state, _ = self._call(Arguments(x, state, single=True))
        return output, state

    def _forward(
        self,
        x: Any,
        state: Any,
        lengths: Any,
        record: Sequence[str],
        reverse: bool,
        probe: Any = None,
    ) -> tuple[Any, ...]:
        """What ``forward`` of the subclasses gives."""
        if isinstance(record, str):
            raise TypeError(f"record: expected a list of names, got the string {record!r}")
        names = tuple(record)
        output, state, values = self._call(Arguments(x, state, lengths, names, reverse, probe))
        if not names:
            return output, state
        return output, state, dict(zip(names, values, strict=True))

    def _call(self, given: Arguments) -> tuple[Any, Any, list[Any]]:
        """(output, last state, recorded values).

        A call that is like an earlier one is made without checks and without tracing.
        """
        x, state, lengths, record, reverse, probe, single = given
        layout, modes = Layout.of(x, self.batch_first, single), current_modes.get()
        if modes.looking:  # what is known of other calls says nothing of this one's lines
            with inside(self):
                return self._anew(given, layout)[0]
        memory = None if self.unroll or modes.tracer is not None else memory_of(self)
        if memory is None:
            return self._anew(given, layout)[0]
        options = layout, self._ways, record, reverse, lengths is None, modes.recording
        precision = current_precision()
        probed = None if probe is None else (kind_of(probe), kind_of(x))  # of as many steps
        key = options, precision, layout.kind_of(x), kind_of(state), probed
        known = memory.calls.get(key)
        found = None if known is None else self._again(given, layout, known, modes.quiet)
        if found is None:
            found, known = self._anew(given, layout)
            if known is not None:
                memory.keep(key, known)
        return found

    def _anew(self, given: Arguments, layout: Layout) -> tuple[Any, KnownCall | None]:
        """A call with all checks and a trace of each cell, and what may be known of it."""
        who, cells = self._called(), self.cells()
        layout.check(who + ".step" * given.single, given.x, cells[0].input_size, self)
        x, valid = layout.enter(given.x), layout.valid_steps(who, given.lengths, given.x)
        if given.state is None:
            states = [cell.initial_state(x.shape[1]) for cell in cells]
        else:
            state = layout.fit_state(who, given.state, self, x.shape[1], self._batch_axis)
            parts = self._parts(layout, leaves(state))
            states = [rebuild(state, part) for part in parts]
        beside: list[dict[str, Any]] = [{} if valid is None else {"valid": valid} for _ in cells]
        if given.probe is not None:
            whole = self._whole(layout, [leaves(s) for s in states])
            found = fit_probe(who, given.probe, rebuild(states[0], whole), len(x))
            for k, part in enumerate(self._parts(layout, leaves(found), 1)):
                beside[k]["probe"] = rebuild(states[k], part)
        steps: list[TracedStep] = []
        looking = current_modes.get().looking

        def run(k: int, x: Any, reverse: bool) -> CellRun:
            how = How(given.record, reverse, self.unroll, self.checkpoint)
            with inside(cells[k], self._name_of(k)) if looking else nullcontext():
                found, step = over_time(cells[k], {"x": x, **beside[k]}, states[k], how)
            steps.extend([] if step is None else [step])
            return found

        found = self._through(given, x, valid, len(cells), run)
        starts = None if given.state is not None else kind_of([leaves(s) for s in states])
        known = KnownCall(steps, starts) if len(steps) == len(cells) else None
        return self._results(layout, partial(rebuild, states[0]), *found), known

    def _again(self, given: Arguments, layout: Layout, known: KnownCall, bare: bool) -> Any:
        """A call that is known, on ``bare`` arrays where nobody records or looks."""
        x, state = given.x, leaves(given.state)
        probe = [] if given.probe is None else leaves(given.probe)
        masks: list[Any] = []
        if given.lengths is not None:
            masks.append(layout.valid_steps(self._called(), given.lengths, x))
        if bare:
            x, state = x.array, [s.array for s in state]
            probe, masks = [p.array for p in probe], [mask.array for mask in masks]
        x = layout.enter(x)
        probes = self._parts(layout, probe, 1) if probe else None
        if given.state is None:
            starts = [leaves(cell.initial_state(x.shape[1])) for cell in self.cells()]
            if kind_of(starts) != known.starts:
                return None
            starts = [[s.array for s in start] for start in starts] if bare else starts
        else:
            starts = self._parts(layout, state)

        def run(k: int, x: Any, reverse: bool) -> CellRun:
            step, inputs = known.steps[k], [*(probes[k] if probes else ()), *masks, x]
            return over_time_again(step, inputs, starts[k], self.checkpoint, bare)

        found = self._through(given, x, masks[0] if masks else None, len(starts), run)
        return self._results(layout, known.steps[0].state_of, *found, bare)

    def _parts(
        self, layout: Layout, state: Sequence[Any], lead: int = 0
    ) -> Sequence[Sequence[Any]]:
        """The values of the layer's state for each cell, with an axis for the batch."""
        if not layout.batched:
            state = [with_axis(s, lead + self._batch_axis) for s in state]
        return self._parted(state, lead)

    def _whole(self, layout: Layout, of_cells: Sequence[Sequence[Any]]) -> Sequence[Any]:
        """The inverse of :meth:`_parts`."""
        state = self._joined(of_cells)
        return state if layout.batched else [without_axis(s, self._batch_axis) for s in state]

    def _through(
        self,
        given: Arguments,
        x: Any,
        valid: Any,
        count: int,
        run: Callable[[int, Any, bool], CellRun],
    ) -> tuple[Any, list[CellRun]]:
        """From level to level: the outputs of the last one, and what each cell gives."""
        runs: list[CellRun] = []
        ways = self._ways
        x = x if valid is None else keep_valid(valid, x, 0)
        for k in range(0, count, ways):
            x = self._between(k, x)
            runs += [run(k + way, x, given.reverse != (way == 1)) for way in range(ways)]
            x = runs[k][0] if ways == 1 else concat([output for output, _, _ in runs[k:]], -1)
        return x, runs

    def _results(
        self,
        layout: Layout,
        state_of: Callable[[Sequence[Any]], Any],
        output: Any,
        runs: Sequence[CellRun],
        bare: bool = False,
    ) -> tuple[Any, Any, list[Any]]:
        """What a call gives, laid out as its arguments are; ``bare`` arrays as Tensors."""
        state = self._whole(layout, [end for _, _, end in runs])
        output, recorded = tree_map(layout.leave, output), []
        if runs[0][1]:
            recorded = self._joined([[*map(layout.leave, series)] for _, series, _ in runs])
        if bare:
            wrap = Tensor.output_type
            output, state = tree_map(wrap, output), [*map(wrap, state)]
            recorded = [*map(wrap, recorded)]
        return output, state_of(state), [*recorded]
