"""A loop step by step: all of it unrolled, or its first steps traced and the rest unrolled."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from tinygrad_rnn import ops, tape
from tinygrad_rnn.backends import to_host
from tinygrad_rnn.ops.arrays import raw
from tinygrad_rnn.replay.cache import program_key
from tinygrad_rnn.replay.program.checks import checked_step
from tinygrad_rnn.replay.program.program import evaluate
from tinygrad_rnn.replay.program.reach import user_function
from tinygrad_rnn.replay.program.trace import Draws, Trace
from tinygrad_rnn.tensor import Tensor

Step = Callable[[Any, Any], Any]


_WARNED: dict[Any, Any] = {}


def _nothing(_: Any) -> int:
    return 0


def containers(*trees: Any) -> list[Any]:
    """The containers of trees without the values in them, to be filled by ``tape.rebuild``."""
    return [tape.tree_map(_nothing, tree) for tree in trees]


class UnrolledWarning(RuntimeWarning):
    """A loop that runs unrolled, since its step does more than operations on Tensors."""


class Steps:
    """The time steps of a loop in their order, as far as they have been made.

    Attributes
    ----------
    draws : the random numbers of all steps.
    why : why the rest of the loop is not replayed, None where nothing speaks against it.
    """

    def __init__(self, step: Step, xs: Any, state: Any, steps: int, reverse: bool) -> None:
        self.step, self.xs, self.start = step, xs, state
        self.times = range(steps - 1, -1, -1) if reverse else range(steps)
        self.reverse, self.looking = reverse, tape.current_modes.get().looking
        self.draws = Draws(steps)
        self.why: str | None = None
        self._traces: list[Trace] = []
        self._forget()

    def _forget(self) -> None:
        """Stand before the first step again, with nothing computed."""
        self.state, self.form, self.done = self.start, None, 0
        self._outputs: list[Any] = [None] * len(self.times)

    def _take(self, found: Any) -> None:
        self.form, self.state = checked_step(found, self.start)
        self._outputs[self.times[self.done]] = tape.leaves(self.form)
        self.done += 1

    def traced(self) -> Trace:
        """Make the next step, and follow it. Observers see none of it until it is known whether the
        loop is replayed.
        """
        t = self.times[self.done]
        self.draws.begin(t)
        with self._at(t), tape.unseen() if self.looking else nullcontext():
            x = tape.rebuild(self.xs, [ops.getitem(x, (t, ...)) for x in tape.leaves(self.xs)])
            with tape.enable_grad():  # a state that wants a gradient says so, also within no_grad
                state = tape.tree_map(ops.identity, self.state)
            trace = Trace(self.step, x, state, self.draws)
        self._take(trace.result)
        trace.finish(tape.leaves(self.form), tape.leaves(self.state))
        self._traces.append(trace)
        return trace

    def _at(self, t: int) -> AbstractContextManager[Any]:
        """Within the block a step is made, which records know while somebody looks."""
        return tape.in_step(t, self.reverse) if self.looking else nullcontext()

    def put_aside(self) -> bool:
        """Whether the traced steps have put any of their values aside.

        To find out, their results are forgotten. If so, they are computed again.
        """
        forms = containers(self.form, self.state)
        self._forget()
        self.draws.parts = []
        for trace in self._traces:
            trace.forget()
        if not any(trace.alive() for trace in self._traces):
            return False
        gc.collect()  # a function that calls itself holds what it closes over
        if not any(trace.alive() for trace in self._traces):
            return False
        self._compute(*forms)
        return True

    def show(self) -> None:
        """Let observers see the operations of the traced steps."""
        self._compute(*containers(self.form, self.state))

    def _compute(self, y_form: Any, state_form: Any) -> None:
        """The results of the traced steps from their programs; the steps are not called again."""
        self._forget()
        for trace in self._traces:
            t, program = self.times[self.done], trace.program
            self.draws.begin(t)
            xs = [ops.getitem(x, (t, ...)) for x in tape.leaves(self.xs)]
            xs += [self.draws.read(draw) for draw in self.draws.asked]
            known = evaluate(program, trace.captured, xs, tape.leaves(self.state))
            y = tape.rebuild(y_form, [known[v] for v in program.ys])
            self._take((y, tape.rebuild(state_form, [known[v] for v in program.next_state])))

    def unrolled(self) -> tuple[Any, Any]:
        """Make the steps that are left, each called in turn, with all that it does on the tape."""
        columns = [ops.unstack(x, 0) for x in tape.leaves(self.xs)]
        with ops.blocks_of_steps(self.draws) as self.draws.around:
            for t in self.times[self.done :]:
                self.draws.begin(t)
                x = tape.rebuild(self.xs, [column[t] for column in columns])
                with self._at(t):
                    self._take(self.step(x, self.state))
        series = [ops.stack(values, 0) for values in zip(*self._outputs, strict=True)]
        return tape.rebuild(self.form, series), self.state

    def warn(self) -> None:
        """Say once that this loop is not replayed, and why, at the line of its step."""
        file, line = self._place()
        message = f"scan: {self.reason}; the loop runs unrolled"
        warnings.warn_explicit(message, UnrolledWarning, file, line, registry=_WARNED)

    def _place(self) -> tuple[str, int]:
        function = user_function(self.step)
        if function is None:
            return "<unknown>", 1
        return function.__code__.co_filename, function.__code__.co_firstlineno

    @property
    def reason(self) -> str:
        """Why the loop is not replayed, with the place of its step."""
        file, line = self._place()
        return f"the step at {file}:{line} {self.why}"


def differ(first: Trace, second: Trace) -> bool:
    """Whether two traces of a step say different things."""
    if program_key(first.program) != program_key(second.program):
        return True
    return not all(map(_same, first.captured, second.captured))


def _same(a: Any, b: Any) -> bool:
    """Whether two captured values are one, or made anew with equal elements."""
    if a is b:
        return True
    if type(a) is not type(b) or (isinstance(a, Tensor) and a.requires_grad):
        return False
    x, y = (to_host(raw(v)) for v in (a, b))
    return x.dtype == y.dtype and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
