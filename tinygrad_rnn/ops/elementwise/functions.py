"""Functions of one argument. Integers and bools become float32 where the results are floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops.arrays import A
from tinygrad_rnn.ops.elementwise.declaration import elementwise, of_floats
from tinygrad_rnn.ops.promotion import as_integers


@of_floats("exp(x0)", lambda g, y, x: g * y)
def exp(x: A, /) -> A:
    """e^x."""
    ...


@of_floats("expm1(x0)", lambda g, y, x: g * (y + 1))
def expm1(x: A, /) -> A:
    """e^x - 1, with all its digits near 0 too."""
    ...


@of_floats("log(x0)", lambda g, y, x: g / x)
def log(x: A, /) -> A:
    """The natural logarithm: -inf at 0, NaN below."""
    ...


@of_floats("log1p(x0)", lambda g, y, x: g / (x + 1))
def log1p(x: A, /) -> A:
    """The natural logarithm of 1 + x, with all its digits near 0 too."""
    ...


@of_floats("sqrt(x0)", lambda g, y, x: g / (2 * y))
def sqrt(x: A, /) -> A:
    """The square root, NaN for x < 0; at 0 its derivative 1 / (2 sqrt(x)) is infinite."""
    ...


@elementwise("x0 * x0", lambda g, y, x: g * (2 * x), promote=as_integers)
def square(x: A, /) -> A:
    """x^2; of integers an integer."""
    ...


@of_floats("sin(x0)", lambda g, y, x: g * cos(x))
def sin(x: A, /) -> A:
    """The sine of x, in radians."""
    ...


@of_floats("cos(x0)", lambda g, y, x: -g * sin(x))
def cos(x: A, /) -> A:
    """The cosine of x, in radians."""
    ...


@elementwise("abs(x0)", lambda g, y, x: g * sign(x))
def abs(x: A, /) -> A:
    """The size of x without its sign; its derivative at 0 is 0."""
    ...


# Steps: a gradient of zero almost everywhere, and none is sent back


def _sign(xp: Any, x: Array) -> Array:
    return x if x.dtype == np.bool_ else xp.sign(x)


def _round(xp: Any, x: Array) -> Array:
    """To the nearest integer, halves to the even one; NumPy's rint makes integers floats."""
    return xp.rint(x) if x.dtype.kind == "f" else x


@elementwise("sign(x0)", None, forward=_sign)
def sign(x: A, /) -> A:
    """-1, 0 or 1, in the dtype of x; no gradient is sent back."""
    ...


@elementwise("floor(x0)", None)
def floor(x: A, /) -> A:
    """The largest whole number that is not above x; no gradient is sent back."""
    ...


@elementwise("ceil(x0)", None)
def ceil(x: A, /) -> A:
    """The smallest whole number that is not below x; no gradient is sent back."""
    ...


@elementwise("round(x0)", None, forward=_round)
def round(x: A, /) -> A:
    """The nearest whole number, halves to the even one; no gradient is sent back."""
    ...
