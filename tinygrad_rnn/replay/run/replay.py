"""One step, compiled: forward with or without residuals, backward, whole or in segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_rnn.backends import Array, Backend
from tinygrad_rnn.replay.passes.gradient import Backward, Wanted, with_residuals
from tinygrad_rnn.replay.program.program import Program, replace_outputs
from tinygrad_rnn.replay.run.compiled import Compiled, Found
from tinygrad_rnn.replay.run.memory import Lease

Arrays = Sequence[Array]

MANY = 4
"""Steps from which on it pays to bring the constants of a loop into another order."""


class Held:
    """What a forward pass leaves for its backward pass.

    ``every`` is the length of a segment where states are checkpointed: then only the states before
    each segment are held, and the rest is computed again.
    """

    def __init__(self, wanted: Wanted, every: int | None, backend: Backend) -> None:
        self.wanted = wanted
        self.every = every
        self.lease = Lease(backend)
        self.residuals: list[Array] = []
        self.starts: list[list[Array]] = []

    def __repr__(self) -> str:
        return "held" if self.every is None else f"held every {self.every} steps"


class Training:
    """The forward program that leaves residuals, for one choice of gradients that may be wanted."""

    def __init__(self, replay: Replay, wanted: Wanted) -> None:
        program = replay.program
        back = with_residuals(program, wanted, replay.backend, replay.device)
        reads = {x for op in back.program.ops for x in op.values()} | set(back.program.outputs)
        first = len(program.xs)
        inside = back.program.xs[first : first + len(program.state)]
        self.states = [s for s, x in zip(program.state, inside, strict=True) if x in reads]
        self.stored = back.stored
        leaving = replace_outputs(program, [*program.ys, *self.states, *self.stored])
        self.forward = Compiled(leaving, replay.reverse, len(program.ys), replay.backend)


class Replay:
    """Everything compiled from one step on one device, in one direction.

    ``compared`` says that two steps of a loop were found to be alike.
    Threads that compile the same at once all use what was finished first.
    """

    def __init__(self, program: Program, reverse: bool, backend: Backend, device: str) -> None:
        self.compared = False
        self.program = program
        self.reverse = reverse
        self.backend = backend
        self.device = device
        self._inference: dict[bool, Compiled] = {}
        self._training: dict[Wanted, Training] = {}
        self._backward: dict[tuple[Wanted, Wanted], tuple[Backward, Compiled]] = {}

    def __repr__(self) -> str:
        return repr(self.program)

    def inference(self, steps: int = MANY) -> Compiled:
        """The forward program without residuals."""
        brief = steps < MANY
        found = self._inference.get(brief)
        if found is None:
            given = len(self.program.ys)
            made = Compiled(self.program, self.reverse, given, self.backend, brief)
            found = self._inference.setdefault(brief, made)
        return found

    def training(self, wanted: Wanted) -> Training:
        """The forward program with the residuals of a backward pass."""
        found = self._training.get(wanted)
        if found is None:
            found = self._training.setdefault(wanted, Training(self, wanted))
        return found

    def backward_program(self, held: Wanted, wanted: Wanted) -> tuple[Backward, Compiled]:
        """The backward program for these gradients, from residuals held for those."""
        found = self._backward.get((held, wanted))
        if found is None:
            stored = self.training(held).stored
            back = with_residuals(self.program, wanted, self.backend, self.device, stored)
            compiled = Compiled(back.program, not self.reverse, len(back.program.ys), self.backend)
            found = self._backward.setdefault((held, wanted), (back, compiled))
        return found

    def segments(self, steps: int, every: int) -> list[slice]:
        """The stretches of time in the order in which the forward pass takes them."""
        parts = [slice(t, min(t + every, steps)) for t in range(0, steps, every)]
        return parts[::-1] if self.reverse else parts

    def forward(
        self, consts: Arrays, xs: Arrays, state: Arrays, steps: int, held: Held | None
    ) -> list[Array]:
        """Outputs, final states and totals."""
        if held is not None and held.every is not None:
            return self._forward_in_segments(consts, xs, state, steps, held.every, held)
        if held is None:
            ys, ends, sums = self.inference(steps).run(consts, xs, state, steps)
            return [*ys, *ends, *sums]
        count = len(self.program.ys)
        form = self.training(held.wanted).forward
        ys, ends, sums = form.run(consts, xs, state, steps, held.lease)
        held.residuals = ys[count:]
        return [*ys[:count], *ends, *sums]

    def _forward_in_segments(
        self, consts: Arrays, xs: Arrays, state: Arrays, steps: int, every: int, held: Held
    ) -> list[Array]:
        pieces: list[tuple[slice, list[Array]]] = []
        totals: list[Array] = []
        form = self.inference(steps)
        for part in self.segments(steps, every):
            held.starts.append([*state])
            length = part.stop - part.start
            ys, state, sums = form.run(consts, [x[part] for x in xs], state, length)
            totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else sums
            pieces.append((part, ys))
        return [*self._joined(pieces), *state, *totals]

    def _joined(self, pieces: list[tuple[slice, list[Array]]]) -> list[Array]:
        ordered = [ys for _, ys in sorted(pieces, key=lambda piece: piece[0].start)]
        return [self.backend.xp.concatenate(parts, axis=0) for parts in zip(*ordered, strict=True)]

    def backward(
        self,
        wanted: Wanted,
        consts: Arrays,
        xs: Arrays,
        state: Arrays,
        dys: Arrays,
        dstate: Arrays,
        dtotals: Arrays,
        steps: int,
        held: Held,
    ) -> Found:
        """The cotangents of the inputs over time, the first states, and the constants."""
        training = self.training(held.wanted)
        back, compiled = self.backward_program(held.wanted, wanted)
        fixed = [*consts, *dtotals, *back.zeros]
        if held.every is None:
            series = self._series(training, back, xs, held.residuals, dys)
            return compiled.run(fixed, series, dstate, steps)
        starts = [*held.starts]
        pieces: list[tuple[slice, list[Array]]] = []
        totals: list[Array] = []
        for part in reversed(self.segments(steps, held.every)):
            length = part.stop - part.start
            inputs = [x[part] for x in xs]
            lease = Lease(self.backend)
            ys, _, _ = training.forward.run(consts, inputs, starts.pop(), length, lease)
            residuals, partial = ys[len(self.program.ys) :], [g[part] for g in dys]
            series = self._series(training, back, inputs, residuals, partial)
            dxs, dstate, sums = compiled.run(fixed, series, dstate, length)
            pieces.append((part, dxs))
            totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else sums
        return self._joined(pieces), [*dstate], totals

    def _series(
        self, training: Training, back: Backward, xs: Arrays, residuals: Arrays, dys: Arrays
    ) -> list[Any]:
        """The inputs of the backward program over time; None for a state that it does not read."""
        of = dict(zip([*training.states, *training.stored], residuals, strict=True))
        before = [of.get(s) for s in self.program.state]
        return [*xs, *before, *dys, *[of[v] for v in back.stored]]
