"""Functions of expressions that take a branch or a loop, as NumPy defines them. Imports Numba."""

from __future__ import annotations

import importlib
import math
from typing import Any

from tinygrad_rnn.replay.emit.numba.intrinsics import floor, fmod

numba: Any = importlib.import_module("numba")

njit: Any = numba.njit(error_model="numpy", nogil=True)
int64 = numba.int64


@njit
def remainder_float(a: Any, b: Any) -> Any:
    """The remainder with the sign of b."""
    rest = fmod(a, b)
    if rest == 0:
        return math.copysign(rest, b)
    if (rest < 0) != (b < 0):
        return rest + b
    return rest


@njit
def floor_divide_float(a: Any, b: Any) -> Any:
    """(a - remainder) / b, rounded to the nearest integer."""
    if b == 0:
        return a / b
    rest = fmod(a, b)
    ratio = (a - rest) / b
    one = type(a)(1)
    if rest != 0 and (rest < 0) != (b < 0):
        ratio -= one
    if ratio == 0:
        return math.copysign(type(a)(0), a / b)
    whole = floor(ratio)
    return whole + one if ratio - whole > 0.5 else whole


@njit
def remainder_integer(a: Any, b: Any) -> Any:
    """The remainder with the sign of b; 0 where b is 0."""
    if b in (0, -1):
        return int64(0)
    return int64(a % b)


@njit
def floor_divide_integer(a: Any, b: Any) -> Any:
    """The quotient rounded down; 0 where b is 0."""
    if b == 0:
        return int64(0)
    if b == -1:
        return int64(-a)
    return int64(a // b)


@njit
def power_integer(a: Any, b: Any) -> Any:
    """A power by squaring, modulo 2^64; 0 for a negative exponent."""
    result = int64(1) if b >= 0 else int64(0)
    while b > 0:
        if b & 1:
            result *= a
        a *= a
        b >>= 1
    return result
