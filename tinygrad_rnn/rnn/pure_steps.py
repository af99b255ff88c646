"""When the trace of a cell's step may be used again without tracing.

That saves a fraction of a millisecond per call, which is what a small layer takes. It is for cells
that say ``pure = True``, as the built-in ones do: their step depends on its arguments, on their
parameters and on plain attributes alone. These are compared by value, and the trace is used while
all of them are as they were.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from operator import is_
from typing import Any

import numpy as np

from tinygrad_rnn.backends import device_of
from tinygrad_rnn.nn import Module
from tinygrad_rnn.replay import TracedStep
from tinygrad_rnn.rnn.cells import Cell
from tinygrad_rnn.rnn.per_module import PerModule
from tinygrad_rnn.tape import Primitive
from tinygrad_rnn.tensor import Tensor

KEPT = 16
"""Recipes per cell; beyond, those that were not used for longest go."""

_PLAIN = (bool, int, str, type(None), type, Primitive)


class Settings:
    """All that the steps of the cells in a module may depend on, as it is now.

    A parameter stands for itself: its values may change, but neither another one in its place nor
    what is wanted of it.

    Attributes
    ----------
    values : to be compared with those of another time.
    is_plain : whether there is nothing else: every cell is pure, every attribute plain.
    """

    def __init__(self, module: Module) -> None:
        self.values: list[Any] = []
        self._held: list[tuple[Mapping[str, Any], tuple[Any, ...]]] = []
        self._tensors: dict[int, tuple[Tensor, bool, Any, type]] = {}
        self._modules: set[int] = set()
        self.is_plain = self._note(module)

    def hold(self) -> bool:
        """Whether nothing has been assigned since; a quick look at what is there, not at equals."""
        if not self.is_plain:
            return False
        for held, values in self._held:
            if len(held) != len(values) or not all(map(is_, held.values(), values)):
                return False
        return all(
            tensor.needs_grad is wanted
            and tensor.array.dtype is dtype
            and tensor.array.__class__ is kind
            for tensor, wanted, dtype, kind in self._tensors.values()
        )

    def _note(self, value: Any) -> bool:
        """Note a value and what is in it; says whether it is plain."""
        kind: Any = type(value)
        if kind in _PLAIN:
            self.values += (kind, value)
            return True
        if isinstance(value, Tensor):
            array = value.array
            where = None if type(array) is np.ndarray else device_of(array)
            self.values += (id(value), value.needs_grad, array.dtype, where)
            self._tensors[id(value)] = value, value.needs_grad, array.dtype, type(array)
            return True
        if isinstance(value, float | np.number | np.dtype):
            self.values += (kind, repr(value))  # nan equals nan, and 0 does not equal -0
            return True
        if isinstance(value, Module):
            return self._note_module(value)
        if isinstance(value, tuple):
            self.values += (kind, len(value))
            return all(map(self._note, value))
        if isinstance(value, dict):  # of modules; what else it holds might change unseen
            self._hold(value)
            self.values += (kind, *value)
            return all(isinstance(item, Module) and self._note(item) for item in value.values())
        return False

    def _note_module(self, module: Module) -> bool:
        self.values.append(id(module))
        if id(module) in self._modules:
            return True
        self._modules.add(id(module))
        if isinstance(module, Cell) and not module.is_pure:
            return False
        self._hold(vars(module))
        for name, content in vars(module).items():
            self.values.append(name)
            if not self._note(content):
                return False
        return all(map(self._note, self._of_class(type(module))))

    def _hold(self, held: Mapping[str, Any]) -> None:
        self._held.append((held, tuple(held.values())))

    def _of_class(self, kind: type) -> Iterator[Any]:
        """The attributes that a user's class gives to its objects."""
        for base in kind.__mro__:
            if base.__module__.partition(".")[0] == __name__.partition(".")[0]:
                return
            self._hold(vars(base))
            for name, member in vars(base).items():
                if not name.startswith("__") and not hasattr(member, "__get__"):
                    yield member


class Remembered:
    """What is remembered of a module for its settings as they were last."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.known: OrderedDict[Any, Any] = OrderedDict()

    def holds(self, module: Module) -> bool:
        """Whether anything may be remembered; what is there is forgotten if that was before."""
        if self.settings is not None and self.settings.hold():
            return True
        now = Settings(module)
        if self.settings is None or not now.is_plain or now.values != self.settings.values:
            self.known.clear()
        self.settings = now
        return now.is_plain

    def keep(self, key: Any, value: Any, count: int) -> None:
        """Remember a value, and no more than so many."""
        self.known[key] = value
        while len(self.known) > count:
            self.known.popitem(last=False)


TRACED_STEPS = PerModule(Remembered)
"""The traced steps of each cell."""


def depends_on(traced: TracedStep, cell: Module) -> bool:
    """Whether a traced step reads nothing but what belongs to a cell, and no values of that."""
    own = {id(value) for value in cell.tensors()}
    return not traced.looked_outside and all(id(x) in own for x in traced.captured)
