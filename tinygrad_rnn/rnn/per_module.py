"""What is remembered of a module and goes with it, without being a part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import ref

from tinygrad_rnn.nn import Module

T = TypeVar("T")


class PerModule(Generic[T]):
    """A value for each module, found by what it is and not by what it equals.

    So a module may say when it equals another, as a dataclass does, and need not be hashable.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._known: dict[int, tuple[ref[Module], T]] = {}

    def of(self, module: Module) -> T:
        """The value of a module, made where there is none."""
        key = id(module)
        found = self._known.get(key)
        if found is None or found[0]() is not module:
            gone = ref(module, lambda seen: self._forget(key, seen))
            found = self._known[key] = gone, self._make()
        return found[1]

    def _forget(self, key: int, gone: ref[Module]) -> None:
        if key in self._known and self._known[key][0] is gone:
            del self._known[key]
