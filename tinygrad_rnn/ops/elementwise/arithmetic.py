"""Arithmetic: the operations of ``+ - * / // % **``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops.arrays import A, AnyArray
from tinygrad_rnn.ops.elementwise.choice import where
from tinygrad_rnn.ops.elementwise.declaration import elementwise, of_floats
from tinygrad_rnn.ops.elementwise.functions import log
from tinygrad_rnn.ops.promotion import as_integers


@elementwise("x0 + x1", lambda g, y, a, b: g, lambda g, y, a, b: g)
def add(a: A | float, b: A | float, /) -> A:
    """The sum a + b; of bools whether one is true."""
    ...


@elementwise("x0 - x1", lambda g, y, a, b: g, lambda g, y, a, b: -g)
def subtract(a: A | float, b: A | float, /) -> A:
    """The difference a - b. TypeError for bools."""
    ...


@elementwise("x0 * x1", lambda g, y, a, b: g * b, lambda g, y, a, b: g * a)
def multiply(a: A | float, b: A | float, /) -> A:
    """The product a b; of bools whether both are true."""
    ...


@of_floats("x0 / x1", lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b)
def divide(a: A | float, b: A | float, /) -> A:
    """The quotient a / b, that of integers in float32."""
    ...


@elementwise("-x0", lambda g, y, x: -g)
def negative(x: A, /) -> A:
    """-x. TypeError for bools."""
    ...


def _power_base(g: AnyArray, y: AnyArray, x: AnyArray, p: AnyArray | float) -> AnyArray:
    if isinstance(p, int | float):
        return g * (p * x ** (p - 1)) if p != 0 else g * 0
    constant = p == 0
    return g * where(constant, 0.0, p * x ** where(constant, 1.0, p - 1))


def _power_exponent(g: AnyArray, y: AnyArray, x: AnyArray | float, p: AnyArray) -> AnyArray:
    if isinstance(x, int | float):
        if x == 0:
            return g * where(p < 0, -math.inf, where(p >= 0, 0.0, p))
        return g * y * (math.log(x) if x > 0 else math.nan)
    flat = (x == 0) & (p >= 0)
    return g * where(flat, 0.0, y * log(where(flat, 1.0, x)))


@elementwise("power(x0, x1)", _power_base, _power_exponent, promote=as_integers)
def power(x: A | float, p: A | float, /) -> A:
    """x^p, with a gradient for the base and, where x >= 0, for the exponent (NaN for x < 0).

    Integers stay integers, and ValueError for a negative exponent of theirs, which only NumPy
    notices: on a GPU and in a compiled loop their power is 0, or 1 or -1 for a base of 1 or -1.
    """
    ...


def _has_own(xp: Any, a: Any, b: Any) -> bool:
    """Whether the namespace divides with a rest as NumPy does; CuPy floors a rounded quotient of
    floats, so that 1 // 0.1 is 10 and the rest of a division by infinity NaN.
    """
    return xp is np or (a if hasattr(a, "dtype") else b).dtype.kind != "f"


def _remainder(xp: Any, a: Any, b: Any) -> Array:
    if _has_own(xp, a, b):
        return xp.remainder(a, b)
    rest = xp.fmod(a, b)
    inward = xp.where((rest < 0) == (b < 0), rest, rest + b)
    return xp.where(rest == 0, xp.copysign(rest, b), inward)


def _floor_divide(xp: Any, a: Any, b: Any) -> Array:
    if _has_own(xp, a, b):
        return xp.floor_divide(a, b)
    rest, ratio = xp.fmod(a, b), a / b
    whole = xp.rint((a - rest) / b - ((rest != 0) & ((rest < 0) != (b < 0))))
    whole = xp.where(whole == 0, xp.copysign(whole, ratio), whole)
    return xp.where(xp.isnan(rest) & (b == 0), ratio, whole)


@elementwise(
    "remainder(x0, x1)",
    lambda g, y, a, b: g,
    lambda g, y, a, b: -g * floor_divide(a, b),
    forward=_remainder,
    promote=as_integers,
)
def remainder(a: A | float, b: A | float, /) -> A:
    """The remainder a - b floor(a / b), which has the sign of b, as Python's ``%``."""
    ...


@elementwise("x0 // x1", None, None, forward=_floor_divide, promote=as_integers)
def floor_divide(a: A | float, b: A | float, /) -> A:
    """The largest whole number that is not above a / b; no gradient is sent back."""
    ...
