"""Comparisons and logic: results are bools (or bits), and carry no gradient."""

from __future__ import annotations

from tinygrad_rnn.ops.arrays import A
from tinygrad_rnn.ops.elementwise.declaration import elementwise


@elementwise("x0 == x1")
def equal(a: A | float, b: A | float, /) -> A:
    """Whether a = b, as bools."""
    ...


@elementwise("x0 != x1")
def not_equal(a: A | float, b: A | float, /) -> A:
    """Whether a and b differ, as bools; NaN differs from itself."""
    ...


@elementwise("x0 < x1")
def less(a: A | float, b: A | float, /) -> A:
    """Whether a < b, as bools."""
    ...


@elementwise("x0 <= x1")
def less_equal(a: A | float, b: A | float, /) -> A:
    """Whether a <= b, as bools."""
    ...


@elementwise("x0 > x1")
def greater(a: A | float, b: A | float, /) -> A:
    """Whether a > b, as bools."""
    ...


@elementwise("x0 >= x1")
def greater_equal(a: A | float, b: A | float, /) -> A:
    """Whether a >= b, as bools."""
    ...


@elementwise("isnan(x0)")
def isnan(x: A, /) -> A:
    """Whether an element is NaN, as bools."""
    ...


@elementwise("isfinite(x0)")
def isfinite(x: A, /) -> A:
    """Whether an element is neither infinite nor NaN, as bools."""
    ...


@elementwise("x0 & x1")
def bitwise_and(a: A | int, b: A | int, /) -> A:
    """The bits that both have, for bools: whether both are true. TypeError for floats."""
    ...


@elementwise("x0 | x1")
def bitwise_or(a: A | int, b: A | int, /) -> A:
    """The bits that either has, for bools: whether one is true. TypeError for floats."""
    ...


@elementwise("x0 ^ x1")
def bitwise_xor(a: A | int, b: A | int, /) -> A:
    """The bits that one of the two has, for bools: whether they differ. TypeError for floats."""
    ...


@elementwise("~x0")
def invert(x: A, /) -> A:
    """All bits turned over, for bools: whether x is false. TypeError for floats."""
    ...
