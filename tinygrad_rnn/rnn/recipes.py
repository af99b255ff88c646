"""When the trace of a cell's step may be used again without tracing.

That saves a millisecond's fraction per call, which is what a small layer takes. It is done only
where nothing that the step can see has changed: the cell's attributes are plain values, Tensors and
modules, no attribute of any module was assigned since, and neither the cell's methods nor the
functions that it holds look at anything else that could change.
"""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tinygrad_rnn.nn import CHANGES, Module
from tinygrad_rnn.replay import Recipe
from tinygrad_rnn.tensor import Tensor

KEPT = 16
"""Recipes per cell; beyond, those that were not used for longest go."""

_PACKAGE = __name__.partition(".")[0]
_PLAIN = (bool, int, float, str, type(None), np.dtype, types.ModuleType, type, np.number)


class Recipes:
    """The recipes of one cell."""

    def __init__(self) -> None:
        self.count = -1
        self.known: OrderedDict[Any, Recipe] = OrderedDict()

    def find(self, key: Any) -> Recipe | None:
        """The recipe for a key, if nothing has changed since it was made."""
        if self.count != CHANGES.count:
            self.known.clear()
            self.count = CHANGES.count
        return self.known.get(key)

    def keep(self, key: Any, recipe: Recipe, cell: Module) -> bool:
        """Keep a recipe, if the cell's step depends on the cell alone."""
        if recipe.looked_outside or self.count != CHANGES.count:
            return False
        own = {id(value) for value in _tensors(cell)}
        if not (all(id(x) in own for x in recipe.captured) and looks_at_itself_only(cell)):
            return False
        self.known[key] = recipe
        while len(self.known) > KEPT:
            self.known.popitem(last=False)
        return True


_recipes: WeakKeyDictionary[Module, Recipes] = WeakKeyDictionary()


def recipes_of(cell: Module) -> Recipes:
    """The recipes of a cell; they go with it."""
    found = _recipes.get(cell)
    if found is None:
        found = _recipes[cell] = Recipes()
    return found


def _tensors(cell: Module) -> Iterator[Tensor]:
    for module in cell.modules():
        for value in vars(module).values():
            stack = [value]
            while stack:
                item = stack.pop()
                if isinstance(item, Tensor):
                    yield item
                elif isinstance(item, list | tuple):
                    stack.extend(item)
                elif isinstance(item, dict):
                    stack.extend(item.values())


def looks_at_itself_only(cell: Module) -> bool:
    """Whether the step can depend on nothing but assigned attributes of the cell."""
    for module in cell.modules():
        if module.has_hooks or not all(map(_is_fixed, vars(module).values())):
            return False
        for kind in type(module).__mro__:
            if kind.__module__.partition(".")[0] == _PACKAGE:
                break
            members = vars(kind).values()
            functions = [getattr(m, "fget", m) for m in members]
            if not all(_is_closed(f) for f in functions if isinstance(f, types.FunctionType)):
                return False
    return True


def _is_fixed(value: Any) -> bool:
    """Whether an attribute changes by assignment only."""
    if isinstance(value, tuple):
        return all(map(_is_fixed, value))
    if isinstance(value, list | dict):
        items = value.values() if isinstance(value, dict) else value
        return all(isinstance(item, Tensor | Module) for item in items)
    if isinstance(value, types.FunctionType):
        return _is_closed(value)
    return isinstance(value, (*_PLAIN, Tensor, Module)) or _is_known(value)


def _is_known(value: Any) -> bool:
    """Whether a callable is a function of this package, of NumPy or built in."""
    if not callable(value):
        return False
    home = getattr(type(value) if not hasattr(value, "__module__") else value, "__module__", "")
    return str(home).partition(".")[0] in (_PACKAGE, "builtins", "numpy", "math")


def _is_closed(function: Callable[..., Any]) -> bool:
    """Whether a function reads no variable of its surroundings but modules, classes, functions."""
    code: Any = getattr(function, "__code__", None)
    if code is None or function.__module__.partition(".")[0] == _PACKAGE:
        return True
    names: list[Any] = []
    codes = [code]
    while codes:
        one = codes.pop()
        names += one.co_names
        codes += [c for c in one.co_consts if isinstance(c, types.CodeType)]
    around = function.__globals__
    seen = [around[name] for name in names if name in around]
    seen += [c.cell_contents for c in function.__closure__ or () if _is_filled(c)]
    return all(isinstance(v, types.ModuleType | type) or callable(v) for v in seen)


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
