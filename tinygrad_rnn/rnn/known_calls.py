"""Calls of a layer that are like an earlier one: made without checks and without tracing.

A layer's memory has the kinds of arguments (containers, shapes, dtypes, devices) that it was called
with, and the traced steps that ran. Another call with such arguments is these steps again, on a
tape or without one, for any number of time steps.

That is for cells that say ``pure = True``, as the built-in ones do: their step depends on its
arguments, on their parameters and on plain attributes alone. These are compared by value, and a
traced step is used while all of them are as they were. It saves a fraction of a millisecond per
call, which is what a small layer takes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from operator import is_
from typing import Any, NamedTuple, Protocol
from weakref import ref

import numpy as np

from tinygrad_rnn.nn import Module
from tinygrad_rnn.replay import TracedStep
from tinygrad_rnn.rnn.arguments import kind_of
from tinygrad_rnn.rnn.cells import Cell
from tinygrad_rnn.tape import Primitive
from tinygrad_rnn.tensor import Tensor

KEPT = 64
"""Calls that are known per layer; beyond, those that were made first go."""

_PLAIN = (bool, int, str, type(None), type)


class HasCells(Protocol):
    """A layer of cells."""

    def cells(self) -> list[Cell]: ...


class KnownCall(NamedTuple):
    """The traced step of each cell, and the kinds of first states, where the cells made these."""

    steps: list[TracedStep]
    starts: Any


class Settings:
    """All that the steps of a layer's cells may depend on, as it is now.

    A parameter stands for itself: its values may change, but neither another one in its place nor
    what is wanted of it.

    Attributes
    ----------
    values : to be compared with those of another time.
    is_plain : whether there is nothing else: every cell is pure, every attribute plain.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.values: list[Any] = []
        self._cells = cells  # held, or others might be found where they were
        self._held: list[tuple[Mapping[str, Any], tuple[Any, ...]]] = []
        self._tensors: dict[int, tuple[Tensor, bool, Any, type]] = {}
        self._modules: set[int] = set()
        self.is_plain = all(map(self._note_module, cells))

    def hold(self) -> bool:
        """Whether nothing has been assigned since; a quick look at what is there, not at equals."""
        if not self.is_plain:
            return False
        for held, values in self._held:
            if len(held) != len(values) or not all(map(is_, held.values(), values)):
                return False
        for tensor, wanted, dtype, kind in self._tensors.values():
            array = tensor.array
            if (
                tensor.needs_grad is not wanted
                or array.dtype is not dtype
                or array.__class__ is not kind
            ):
                return False
        return True

    def _note(self, value: Any) -> bool:
        """Note a value and what is in it; says whether it is plain."""
        kind: Any = type(value)
        if kind in _PLAIN or isinstance(value, Primitive):
            self.values += (kind, value)
            return True
        if isinstance(value, Tensor):
            array = value.array
            self.values += (id(value), *kind_of(value))
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
        self._held.append((held, (*held.values(),)))

    def _of_class(self, kind: type) -> Iterator[Any]:
        """The attributes that a user's class gives to its objects."""
        for base in kind.__mro__:
            if base.__module__.partition(".")[0] == __name__.partition(".")[0]:
                return
            self._hold(vars(base))
            for name, member in vars(base).items():
                if not name.startswith("__") and not hasattr(member, "__get__"):
                    yield member


class Memory:
    """The calls that are known of a layer, for the settings of its cells as they were last.

    ``assigned`` are the identities of the layer's attributes: whatever a user keeps there, such as
    something that holds the layer, is not held here.
    """

    def __init__(self, layer: Any, settings: Settings) -> None:
        key = id(layer)
        self.of = ref(layer, lambda _: _memories.pop(key, None))
        self.settings = settings
        self.assigned: list[int] = []
        self.calls: OrderedDict[Any, KnownCall] = OrderedDict()

    def keep(self, key: Any, call: KnownCall) -> None:
        """Know a call, and no more than so many."""
        self.calls[key] = call
        while len(self.calls) > KEPT:
            self.calls.popitem(last=False)


_memories: dict[int, Memory] = {}
"""By what a layer is, and not by what it equals: it may say that, and need not be hashable."""


def memory_of(layer: HasCells) -> Memory | None:
    """What may be used again of a layer's calls; None where nothing may."""
    memory, assigned = _memories.get(id(layer)), [*map(id, vars(layer).values())]
    if (
        memory is not None
        and memory.assigned == assigned
        and memory.settings.hold()
        and memory.of() is layer
    ):
        return memory
    now = Settings(layer.cells())
    if memory is None or memory.of() is not layer:
        memory = _memories[id(layer)] = Memory(layer, now)
    elif not now.is_plain or now.values != memory.settings.values:
        memory.calls.clear()
    memory.settings, memory.assigned = now, assigned
    return memory if now.is_plain else None


def depends_on(traced: TracedStep, cell: Module) -> bool:
    """Whether a traced step reads nothing but what belongs to a cell, and no values of that."""
    own = {id(value) for value in cell.tensors()}
    return not traced.looked_outside and all(id(x) in own for x in traced.captured)
