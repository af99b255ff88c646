"""What arrives at a value during a backward pass, and how it is added up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_rnn.backends import as_array
from tinygrad_rnn.tape.record import Traced


class Deferred:
    """A contribution to a cotangent that is cheaper to add together with its like.

    A rule may return ``Deferred(combine, *parts)`` instead of an array. Once a value has received
    every contribution, the engine calls ``combine(shape, dtype, [parts, parts, ...])`` once for
    all those that share ``combine``, and keeps the array that it returns. So the gradient of a
    weight that was used at T time steps is one product over all of them, and T reads ``x[t]`` cost
    T and not T squared.
    """

    __slots__ = ("combine", "parts")

    def __init__(self, combine: Callable[..., Any], *parts: Any) -> None:
        self.combine = combine
        self.parts = parts


_Conform = Callable[[Any, tuple[int, ...], Any], Any]
_conform: _Conform | None = None


def register_conform(function: _Conform) -> None:
    """Tell the walk how a cotangent is summed to a shape and cast to a dtype; ops/ does so.

    ``function(g, shape, dtype)`` undoes broadcasting and raises ValueError where ``shape`` cannot
    have been broadcast to that of ``g``.
    """
    global _conform
    _conform = function


class Cotangent:
    """What has arrived so far for one value."""

    __slots__ = ("deferred", "owned", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.owned = False  # whether value is an array that only this pass holds
        self.deferred: dict[Callable[..., Any], list[tuple[Any, ...]]] | None = None

    def defer(self, g: Deferred) -> None:
        if self.deferred is None:
            self.deferred = {}
        self.deferred.setdefault(g.combine, []).append(g.parts)

    def add(self, g: Any, like: Any, fresh: bool = False) -> None:
        """Add an array, in the shape and dtype of ``like``, whose cotangent it is.

        Unless it is ``fresh`` others may hold it too: then the first sum is a new array, and the
        rest is added to that.
        """
        if g.shape != like.shape or g.dtype != like.dtype:
            g = _conform(g, like.shape, like.dtype)  # pyright: ignore[reportOptionalCall]
        if self.value is None:
            self.value = g
            self.owned = fresh and not isinstance(g, Traced)
        elif self.owned and not isinstance(g, Traced):
            self.value += g
        else:
            self.value = self.value + g
            self.owned = not isinstance(self.value, Traced)

    def total(self, array: Any) -> Any:
        """The sum of everything that arrived, as a cotangent of ``array``."""
        if self.deferred is not None:
            for combine, parts in self.deferred.items():
                self.add(combine(tuple(array.shape), array.dtype, parts), array, fresh=True)
            self.deferred = None
        return self.value

    def kept(self, array: Any) -> Any:
        """The total as its receiver may keep it: contiguous, writable and shared with nobody."""
        g = self.total(array)
        if isinstance(g, Traced):
            return g
        g = g if type(g) is type(array) else as_array(g)
        if not self.owned or not g.flags.c_contiguous:
            g = g.copy(order="C")
        self.owned = False
        self.value = g
        return g


def contribution(g: Any, array: Any) -> Any:
    """What a rule gave, alone, as a cotangent of ``array``; what was put off is computed."""
    found = Cotangent()
    if isinstance(g, Deferred):
        found.defer(g)
    else:
        found.add(g, array)
    return found.total(array)
