"""How an elementwise operation is written: as a function without a body, under its mathematics.

::

    @of_floats("tanh(x0)", lambda g, y, x: g * (1 - y * y))
    def tanh(x: A, /) -> A:
        \"""The hyperbolic tangent.\"""
        ...

The decorator takes the operation as one expression for the fuser, in the language of
``kernel_language.py``; one gradient rule per argument; and the forward, where the array namespace
has no function of that name. Letters: ``g`` the cotangent of the result ``y``, then the arguments
``a, b`` or ``x``. Broadcasting is undone by the engine.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops.promotion import as_floats, together
from tinygrad_rnn.tape import Function, Primitive, Promotion

P = ParamSpec("P")
R = TypeVar("R")


class TypedPrimitive(Primitive, Generic[P, R]):
    """A primitive with the arguments of the function that declares it."""

    __wrapped__: Callable[P, R]
    """The function, whose signature ``inspect.signature`` tells."""

    if TYPE_CHECKING:

        def __call__(self, *inputs: P.args, **params: P.kwargs) -> R: ...


TypedPrimitive.__name__ = Primitive.__name__  # to a user it is one like any other


def elementwise(
    kernel: str,
    *rules: Function | None,
    forward: Function | None = None,
    promote: Promotion | None = together,
) -> Callable[[Callable[P, R]], TypedPrimitive[P, R]]:
    """The operation of a function that gives it its name, its arguments and its docstring."""

    def operation(function: Callable[P, R]) -> TypedPrimitive[P, R]:
        name = function.__name__

        def by_name(xp: Any, *arrays: Any) -> Array:
            return getattr(xp, name)(*arrays)

        found: TypedPrimitive[P, R] = TypedPrimitive(
            name, forward or by_name, rules, kernel=kernel, promote=promote
        )
        call = f"{name}({', '.join(inspect.signature(function).parameters)})"
        found.__doc__ = f"{call}\n\n{inspect.cleandoc(function.__doc__ or '')}"
        found.__module__ = function.__module__
        found.__wrapped__ = function
        return found

    return operation


def of_floats(
    kernel: str, *rules: Function | None, forward: Function | None = None
) -> Callable[[Callable[P, R]], TypedPrimitive[P, R]]:
    """An operation whose results are no integers, though its operands may be."""
    return elementwise(kernel, *rules, forward=forward, promote=as_floats)
