"""Products that neither overflow nor vanish on the way: of mantissas and powers of two."""

from __future__ import annotations

import numpy as np

from tinygrad_rnn.ops.arrays import AnyArray
from tinygrad_rnn.ops.joining import concat, split, zeros_like_p
from tinygrad_rnn.tape import Primitive

exponent_p = Primitive(
    "exponent", lambda xp, x: xp.where(xp.isfinite(x), xp.frexp(x)[1], 0).astype(np.int32), [None]
)
ldexp_p = Primitive(
    "ldexp",
    lambda xp, x, exponent: xp.ldexp(x, exponent),
    [lambda g, y, x, exponent: ldexp_p(g, exponent), None],
)

Scaled = tuple[AnyArray, AnyArray]
"""Mantissas, and the exponents of the powers of two that they are to be multiplied with."""


def _scaled(mantissa: AnyArray, exponent: AnyArray | int = 0) -> Scaled:
    """The same numbers with mantissas of 0.5 to 1 in size."""
    found = exponent_p(mantissa)
    return ldexp_p(mantissa, -found), found + exponent


def _product(a: Scaled, b: Scaled) -> Scaled:
    return _scaled(a[0] * b[0], a[1] + b[1])


def _split(x: Scaled, sizes: tuple[int, ...]) -> list[Scaled]:
    return [*zip(*(split(part, sizes=sizes) for part in x), strict=True)]


def _joined(*xs: Scaled) -> Scaled:
    mantissas, exponents = zip(*xs, strict=True)
    return concat(mantissas, -1), concat(exponents, -1)


def product_of_others(x: AnyArray) -> Scaled:
    """For each element of the last axis the product of all others, found without a division.

    The elements are multiplied in pairs up to the root; on the way down each child is handed its
    parent's product of others, times its sibling.
    """
    level = _scaled(x)
    levels: list[Scaled] = []
    while (size := level[0].shape[-1]) > 1:
        levels.append(level)
        left, right, rest = _split(level, (size // 2, size // 2, size % 2))
        level = _joined(_product(left, right), rest)
    mantissa, exponent = level
    others: Scaled = (zeros_like_p(mantissa) + 1, zeros_like_p(exponent))
    for level in reversed(levels):
        size = level[0].shape[-1]
        left, right, _ = _split(level, (size // 2, size // 2, size % 2))
        above, rest = _split(others, (size // 2, size % 2))
        others = _joined(_product(above, right), _product(above, left), rest)
    return others
