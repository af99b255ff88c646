"""The source of an elementwise kernel, written by running a Python function on symbols.

An optimizer's rule is a function such as ``v *= momentum; v += g; p -= lr * v``. Given arrays it
computes; given a :class:`Symbol` for each of them it writes the same statements in C.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

PREAMBLE = """
template <typename T> __device__ T rule_sign(T x) { return T(x > 0) - T(x < 0); }
template <typename T> __device__ T rule_maximum(T x, T y) { return x != x || x > y ? x : y; }
template <typename T> __device__ T rule_minimum(T x, T y) { return x != x || x < y ? x : y; }
"""
"""NumPy's functions that C has not: sign, and a maximum and a minimum that let nan through."""


def is_fixed(number: float) -> bool:
    """Whether a number is part of a kernel's source: rules may branch on bools, and on zeros."""
    return isinstance(number, bool) or number == 0


def _function(name: str) -> Callable[..., Symbol]:
    """A function of ``xp`` on elements, by its name in C."""
    return lambda xp, *operands: xp.value(f"{name}({', '.join(map(xp.element, operands))})")


class Source:
    """The statements written so far; also the namespace ``xp`` that a rule is given."""

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        self.lines: list[str] = []

    def value(self, text: str, number: bool = False) -> Symbol:
        """A new variable. A number is kept in double until it meets an element, as on the host."""
        name = f"t{len(self.lines)}"
        self.lines.append(f"{'double' if number else self.type_name} {name} = {text};")
        return Symbol(self, name, number)

    def element(self, operand: Any) -> str:
        """An operand as an element: a number is rounded to the type of the elements."""
        if isinstance(operand, Symbol):
            return f"{self.type_name}({operand.name})" if operand.number else operand.name
        return f"{self.type_name}({float(operand)!r})"

    def binary(self, left: Any, sign: str, right: Any) -> Symbol:
        """An operator between two operands, one of them a symbol."""
        operands = left, right
        if all(not isinstance(o, Symbol) or o.number for o in operands):
            a, b = (o.name if isinstance(o, Symbol) else repr(float(o)) for o in operands)
            return self.value(f"{a} {sign} {b}", number=True)
        return self.value(f"{self.element(left)} {sign} {self.element(right)}")

    sqrt, abs, sign = _function("sqrt"), _function("fabs"), _function("rule_sign")
    maximum, minimum = _function("rule_maximum"), _function("rule_minimum")


_Operator = Callable[["Symbol", Any], "Symbol"]


def _operator(sign: str) -> tuple[_Operator, _Operator, _Operator]:
    """An operator with a symbol on its left, on its right, and in place."""

    def assign(self: Symbol, right: Any) -> Symbol:
        if self.number:
            raise TypeError("a rule cannot change a number")
        self.source.lines.append(f"{self.name} = {self.name} {sign} {self.source.element(right)};")
        return self

    return (
        lambda self, right: self.source.binary(self, sign, right),
        lambda self, left: self.source.binary(left, sign, self),
        assign,
    )


class Symbol:
    """An element of an array, or a number, that has a name in the source."""

    def __init__(self, source: Source, name: str, number: bool = False) -> None:
        self.source, self.name, self.number = source, name, number

    def __bool__(self) -> bool:
        if not self.number:
            raise TypeError("a rule cannot branch on the value of an element")
        return True  # a number that is 0 is no symbol

    __add__, __radd__, __iadd__ = _operator("+")
    __sub__, __rsub__, __isub__ = _operator("-")
    __mul__, __rmul__, __imul__ = _operator("*")
    __truediv__, __rtruediv__, __itruediv__ = _operator("/")


def update_source(
    rule: Callable[..., None],
    dtype: np.dtype[Any],
    present: Sequence[bool],
    fixed: Mapping[str, float],
    free: Sequence[str],
) -> str:
    """The body of the kernel that does ``rule(xp, g, *targets, **numbers)`` for one element.

    It reads ``gradient``, the numbers in ``free`` by their names and ``keep``, and reads and
    writes ``target0``, ``target1``, ..., those that are present. ``fixed`` numbers are in the
    source.
    """
    type_name = {"float32": "float", "float64": "double"}[dtype.name]
    source = Source(type_name)
    there = [k for k, one in enumerate(present) if one]
    symbols = [Symbol(source, f"x{k}") if one else None for k, one in enumerate(present)]
    numbers = {name: Symbol(source, name, number=True) for name in free}
    rule(source, Symbol(source, "g"), *symbols, **fixed, **numbers)
    lines = [
        f"const {type_name} g = {type_name}(gradient);",
        *(f"{type_name} x{k} = {type_name}(target{k});" for k in there),
        *source.lines,
        *(f"target{k} = keep ? x{k} : {type_name}(target{k});" for k in there),
    ]
    return "\n".join(lines)
