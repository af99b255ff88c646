"""Calls like an earlier one, without the checks that it passed: what follows a stream step by step.

A layer remembers the kinds of arguments (containers, shapes, dtypes, devices) that it was called
with, and the recipes that ran. As long as nothing but the values of parameters has changed in any
module, another call with such arguments is these recipes again. That is so where nothing is written
on a tape; and a call that drew random numbers is not remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from tinygrad_rnn.backends import backend_of
from tinygrad_rnn.nn import CHANGES, Module
from tinygrad_rnn.replay import Recipe
from tinygrad_rnn.rnn.arguments import kind_of
from tinygrad_rnn.tape import is_quiet, leaves, rebuild

KEPT = 64
"""Kinds of calls that are remembered per layer."""


class Used:
    """What one call replays: a recipe per cell, None for one that may not be used again."""

    def __init__(self) -> None:
        self.count = CHANGES.count
        self.recipes: list[Recipe | None] = []


class Calls:
    """The calls that one layer remembers: the recipes of each level of cells, from below."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.known: dict[Any, list[list[Recipe]]] = {}


_calls: WeakKeyDictionary[Module, Calls] = WeakKeyDictionary()


def remember(
    layer: Module, x: Any, state: Any, used: Used, cells: int, ways: int = 1, single: bool = False
) -> None:
    """Remember a call of a layer of so many cells, so many at each level, if it can be repeated."""
    recipes = [r for r in used.recipes if r is not None and not r.draws]
    if state is None or used.count != CHANGES.count or len(recipes) != cells or not is_quiet():
        return
    calls = _calls.get(layer)
    if calls is None or calls.count != used.count or len(calls.known) >= KEPT:
        calls = _calls[layer] = Calls(used.count)
    levels = [recipes[k : k + ways] for k in range(0, cells, ways)]
    calls.known[single, kind_of(x), kind_of(state)] = levels


def again(
    layer: Module, x: Any, state: Any, single: bool = False, stacked: bool = False
) -> tuple[Any, Any] | None:
    """(output, state) of a call that is remembered, else None.

    Parameters
    ----------
    single : whether x is one step (B, I) and not a sequence (T, B, I).
    stacked : whether the Tensors of the state have a first axis for the cells.
    """
    calls = _calls.get(layer)
    if state is None or calls is None or calls.count != CHANGES.count or not is_quiet():
        return None
    levels = calls.known.get((single, kind_of(x), kind_of(state)))
    if levels is None:
        return None
    xs = x.array[None] if single else x.array
    start = [s.array for s in leaves(state)]
    xp = backend_of(xs).xp
    ends: list[list[Any]] = []
    outputs = [xs]
    for level in levels:
        inputs = outputs if len(outputs) == 1 else [xp.concatenate(outputs, axis=-1)]
        outputs = []
        for recipe in level:
            own = [s[len(ends)] for s in start] if stacked else start
            ys, last = recipe.run_arrays(inputs, own, len(xs))
            outputs += ys
            ends.append(last)
    recipe = levels[0][0]
    output = outputs if len(levels[-1]) == 1 else [xp.concatenate(outputs, axis=-1)]
    if single:
        output = [y[0] for y in output]
    joined = [_joined(xp, parts) for parts in zip(*ends, strict=True)] if stacked else ends[0]
    wrap = x.output_type
    (y, _) = rebuild(recipe.y_form, [wrap(y) for y in output])
    return y, rebuild(recipe.state_form, [wrap(s) for s in joined])


def _joined(xp: Any, parts: Sequence[Any]) -> Any:
    return xp.stack(parts) if len(parts) > 1 else parts[0][None]
