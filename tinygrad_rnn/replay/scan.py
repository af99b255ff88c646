"""scan: a step run over time, replayed as one operation of the tape, or unrolled on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinygrad_rnn import tape
from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops import Draw
from tinygrad_rnn.ops.arrays import raw
from tinygrad_rnn.replay.cache import CACHE, cache_key
from tinygrad_rnn.replay.primitive import apply, origins_of
from tinygrad_rnn.replay.program.checks import check_arguments
from tinygrad_rnn.replay.program.reach import Look, differs
from tinygrad_rnn.replay.program.trace import Trace, drawn
from tinygrad_rnn.replay.run.replay import Replay
from tinygrad_rnn.replay.steps import Step, Steps, containers, differ


class TracedStep:
    """A traced step as it can be run again: on other inputs, with the same captured values.

    It holds what the step captured, and nothing of the run in which it was traced but where its
    lines came from.
    """

    def __init__(self, trace: Trace, y: Any, state: Any, asked: list[Draw], replay: Replay) -> None:
        self.captured = trace.captured
        self.looked_outside = trace.looked_outside
        self.asked = asked
        self.replay = replay
        self.origins: tuple[tape.Origin, ...] = ()
        if tape.current_modes.get().looking:
            self.origins = origins_of(trace.program, replay.reverse)
        self.y_form, self.state_form = containers(y, state)
        fields: tuple[Any, ...] = getattr(self.state_form, "_fields", ())
        self._is_flat = bool(fields) and all(isinstance(part, int) for part in self.state_form)

    def run(
        self,
        xs: Sequence[Any],
        state: Sequence[Any],
        blocks: Sequence[Any],
        steps: int,
        every: int | None,
    ) -> tuple[list[Any], list[Any]]:
        """The values of the outputs over time and of the last state."""
        inputs = [*xs, *blocks]
        if not tape.current_modes.get().looking:
            ys, ends, _ = apply(self.replay, self.captured, inputs, state, steps, every)
            return ys, ends
        with tape.with_origin(reverse=self.replay.reverse, inside=self.origins):
            ys, ends, _ = apply(self.replay, self.captured, inputs, state, steps, every)
            return ys, ends

    def run_bare(
        self, xs: Sequence[Array], state: Sequence[Array], steps: int
    ) -> tuple[list[Array], list[Array]]:
        """The same of arrays and as arrays, where nobody records or looks."""
        consts = [x.array for x in self.captured]
        found = self.replay.forward(consts, xs, state, steps, None)
        count = len(self.replay.program.ys)
        return found[:count], found[count : count + len(state)]

    def state_of(self, values: Sequence[Any]) -> Any:
        """The values of a state in the containers of the step's."""
        form = self.state_form
        return form._make(values) if self._is_flat else tape.rebuild(form, values)

    def draw(self, steps: int) -> list[Any]:
        """New random numbers for another run."""
        return [drawn(draw, steps) for draw in self.asked]


def trace(
    step: Step, xs: Any, state: Any, steps: int, reverse: bool
) -> tuple[TracedStep, list[Any]] | Steps:
    """Trace a step, as the first of the loop: what came of it, and random numbers for all steps.

    Where a program is new, the second step is traced too, and must be the same. If a step has done
    anything besides its operations, what comes back is the loop as far as it has been made, to be
    finished unrolled: so nothing that a step does is done twice. Arguments are those of
    :func:`scan`. The traced program is ``traced.replay.program``.
    """
    loop = Steps(step, xs, state, steps, reverse)
    before = Look(step)
    first = loop.traced()
    array = raw(tape.leaves(xs)[0])
    changed = differs(before, Look(step))
    watched = first.is_watched
    key = cache_key(first.program, reverse, array)
    known = CACHE.known.get(key)
    is_new = known is None or not known.compared or first.asked_for_grad
    if steps > 1 and is_new and changed is None and not watched:
        second = loop.traced()
        changed, watched = differs(before, Look(step)), second.is_watched
        if differ(first, second):
            loop.why = "does not do the same in the second step as in the first"
    if changed is not None:
        loop.why = f"changes {changed}"
    elif watched:
        loop.why = "asks for the gradient of a value (register_hook, retain_grad)"
    if loop.why is None:
        replay = CACHE.find(key, first.program, reverse, array)
        traced = TracedStep(first, loop.form, state, loop.draws.asked, replay)
        if not loop.put_aside():
            replay.compared = replay.compared or steps > 1
            return traced, loop.draws.blocks
        loop.why = "puts values aside"
    elif tape.current_modes.get().observers:
        loop.show()
    loop.warn()
    return loop


def segment_length(checkpoint: int | str | None, steps: int) -> int | None:
    """How many steps lie between two states that are held; None for all of them."""
    if checkpoint is None:
        return None
    if checkpoint == "sqrt":
        return math.isqrt(steps - 1) + 1
    if not isinstance(checkpoint, int) or isinstance(checkpoint, bool) or checkpoint < 1:
        raise ValueError(
            f'checkpoint: expected a number of steps >= 1 or "sqrt", got {checkpoint!r}'
        )
    return checkpoint


def scan(
    step: Step,
    xs: Any,
    state: Any,
    *,
    reverse: bool = False,
    unroll: bool = False,
    checkpoint: int | str | None = None,
) -> tuple[Any, Any]:
    """Run ``step(x_t, state) -> (y_t, state)`` over the leading axis of ``xs``.

    Returns the outputs of all steps and the last state. The step is traced once; its tape is
    differentiated, split, fused and run T times, and the whole is one operation on the tape, with
    gradients of any order for everything that the step reads.

    Parameters
    ----------
    step : reads Tensors and returns Tensors, in nested tuples or NamedTuples of any form. What it
        closes over is found by itself. It may not look at elements (``float(h)``, ``if h > 0``). A
        step that does more than operations (it counts, draws from a generator of its own, keeps
        values) runs unrolled, with a warning; what it prints or writes to a file it does once per
        trace.
    xs : Tensors (T, ...), T >= 1, in containers.
    state : Tensors in containers; those that the step returns must have the same form, shapes and
        dtypes.
    reverse : begin at the last step. Outputs stay at their steps.
    unroll : call the step T times instead, with every operation of every step on the tape.
    checkpoint : hold the states before every k-th step only, and compute the rest again in the
        backward pass; ``"sqrt"`` for k = sqrt(T), with memory in proportion.

    >>> import tinygrad_rnn as tg
    >>> decay = tg.tensor(0.5, requires_grad=True)
    >>> ys, last = tg.scan(lambda x, h: (h, decay * h + x), tg.ones(4), tg.tensor(0.0))
    >>> ys, last
    (tensor([0.  , 1.  , 1.5 , 1.75], ...), tensor(1.875, ...))
    """
    steps = check_arguments(xs, state)
    if unroll:
        if checkpoint is not None:
            raise ValueError("scan: checkpoint needs the replayed loop, unroll=True was given")
        return Steps(step, xs, state, steps, reverse).unrolled()
    every = segment_length(checkpoint, steps)
    found = trace(step, xs, state, steps, reverse)
    if isinstance(found, Steps):
        return found.unrolled()
    traced, blocks = found
    ys, ends = traced.run(tape.leaves(xs), tape.leaves(state), blocks, steps, every)
    return tape.rebuild(traced.y_form, ys), traced.state_of(ends)
