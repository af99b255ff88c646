"""Calls like an earlier one, without the checks that it passed: what follows a stream step by step.

A layer remembers the kinds of arguments (containers, shapes, dtypes, devices) that it was called
with, and the traced steps that ran. As long as its settings are as they were, another call with
such arguments is these traced steps again. That is so where nothing is written on a tape; and a
call that drew random numbers is not remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_rnn.backends import backend_of
from tinygrad_rnn.nn import Module
from tinygrad_rnn.replay import TracedStep
from tinygrad_rnn.rnn.arguments import kind_of
from tinygrad_rnn.rnn.per_module import PerModule
from tinygrad_rnn.rnn.pure_steps import Remembered
from tinygrad_rnn.tape import is_quiet, leaves, rebuild

KEPT = 64
"""Kinds of calls that are remembered per layer."""


_CALLS = PerModule(Remembered)
"""Of each layer the traced steps by kind of call: those of each level of cells, from below."""


def remember(
    layer: Module,
    x: Any,
    state: Any,
    used: Sequence[TracedStep | None],
    cells: int,
    ways: int = 1,
    single: bool = False,
) -> None:
    """Remember a call of a layer of so many cells, so many at each level, if it can be repeated.

    ``used`` has a traced step per cell, None for one that may not be used again.
    """
    traced = [r for r in used if r is not None and not r.asked]
    if state is None or len(traced) != cells or not is_quiet():
        return
    calls = _CALLS.of(layer)
    if calls.holds(layer):
        levels = [traced[k : k + ways] for k in range(0, cells, ways)]
        calls.keep((single, kind_of(x), kind_of(state)), levels, KEPT)


def again(
    layer: Module, x: Any, state: Any, single: bool = False, stacked: bool = False
) -> tuple[Any, Any] | None:
    """(output, state) of a call that is remembered, else None.

    Parameters
    ----------
    single : whether x is one step (B, I) and not a sequence (T, B, I).
    stacked : whether the Tensors of the state have a first axis for the cells.
    """
    if state is None or not is_quiet():
        return None
    calls = _CALLS.of(layer)
    levels: list[list[TracedStep]] | None = calls.known.get((single, kind_of(x), kind_of(state)))
    if levels is None or not calls.holds(layer) or not calls.known:
        return None
    xs = x.array[None] if single else x.array
    start = [s.array for s in leaves(state)]
    xp = backend_of(xs).xp
    ends: list[list[Any]] = []
    outputs = [xs]
    for level in levels:
        inputs = outputs if len(outputs) == 1 else [xp.concatenate(outputs, axis=-1)]
        outputs = []
        for step in level:
            own = [s[len(ends)] for s in start] if stacked else start
            ys, last = step.run_arrays(inputs, own, len(xs))
            outputs += ys
            ends.append(last)
    step = levels[0][0]
    output = outputs if len(levels[-1]) == 1 else [xp.concatenate(outputs, axis=-1)]
    if single:
        output = [y[0] for y in output]
    joined = [_joined(xp, parts) for parts in zip(*ends, strict=True)] if stacked else ends[0]
    wrap = x.output_type
    (y, _) = rebuild(step.y_form, [wrap(y) for y in output])
    return y, rebuild(step.state_form, [wrap(s) for s in joined])


def _joined(xp: Any, parts: Sequence[Any]) -> Any:
    return xp.stack(parts) if len(parts) > 1 else parts[0][None]
