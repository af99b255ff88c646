"""When the trace of a cell's step may be used again without tracing.

That saves a millisecond's fraction per call, which is what a small layer takes. It is done only
where nothing that the step can see has changed: the cell's attributes are plain values, Tensors and
modules, no attribute of any module was assigned since, and neither the cell's methods nor the
functions that it holds look at anything else that could change.
"""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tinygrad_rnn.nn import CHANGES, Module
from tinygrad_rnn.replay import Recipe
from tinygrad_rnn.tensor import Tensor

KEPT = 16
"""Recipes per cell; beyond, those that were not used for longest go."""

_KNOWN = (__name__.partition(".")[0], "numpy", "math", "builtins", "typing", "functools")
_NUMBERS = (bool, int, float, str, Tensor)
_PLAIN = (*_NUMBERS, Module, type(None), np.dtype, np.number)


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
    seen: set[Any] = set()
    for module in cell.modules():
        if module.has_hooks or not all(_is_fixed(v, seen) for v in vars(module).values()):
            return False
        for kind in type(module).__mro__:
            if _is_known(kind):
                break
            if not _is_fixed_class(kind, seen):
                return False
    return True


def _is_fixed(value: Any, seen: set[Any]) -> bool:
    """Whether a value that a step may look at changes by assignment to a module only."""
    if isinstance(value, tuple):
        return all(_is_fixed(item, seen) for item in value)
    if isinstance(value, types.ModuleType):
        return value.__name__.partition(".")[0] in _KNOWN
    if isinstance(value, _PLAIN) or _is_known(value):
        return True
    if isinstance(value, type):
        return _is_fixed_class(value, seen)
    return isinstance(value, types.FunctionType) and _is_closed(value, seen)


def _is_known(value: Any) -> bool:
    """Whether a function or class belongs to this package, NumPy or Python, which do not change."""
    return callable(value) and str(getattr(value, "__module__", "")).partition(".")[0] in _KNOWN


def _is_fixed_class(kind: type, seen: set[Any]) -> bool:
    """Whether a class has no values of its own, and functions that look at nothing that changes."""
    if kind in seen:
        return True
    seen.add(kind)
    for name, member in vars(kind).items():
        function = getattr(member, "fget", getattr(member, "__func__", member))
        if isinstance(function, types.FunctionType):
            if not _is_closed(function, seen):
                return False
        elif not name.startswith("_") and not hasattr(member, "__get__"):
            return False
    return True


def _is_closed(function: types.FunctionType, seen: set[Any]) -> bool:
    """Whether a function reads no variable of its surroundings but what is fixed itself."""
    if function in seen or _is_known(function):
        return True
    seen.add(function)
    names: list[str] = []
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        names += code.co_names
        codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    around = function.__globals__
    read = [around[name] for name in names if name in around]
    read += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    read += [c.cell_contents for c in function.__closure__ or () if _is_filled(c)]
    return all(not isinstance(v, _NUMBERS) and _is_fixed(v, seen) for v in read)


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
