"""The error function, which NumPy does not have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops.arrays import A
from tinygrad_rnn.ops.elementwise.declaration import of_floats
from tinygrad_rnn.ops.elementwise.functions import exp

# Rational approximations of erf for |x| < 0.5 and of exp(x^2) erfc(x) for 0.5 <= x <= 6, highest
# power first. W. J. Cody, Rational Chebyshev approximations for the error function, 1969.
_ERF_A = (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2,
          3.77485237685302021e2, 3.20937758913846947e3)  # fmt: skip
_ERF_B = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
          2.84423683343917062e3)  # fmt: skip
_ERF_C = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0,
          6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
          1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3)  # fmt: skip
_ERF_D = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
          1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3,
          3.43936767414372164e3, 1.23033935480374942e3)  # fmt: skip


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    total = x * coefficients[0]
    for coefficient in coefficients[1:-1]:
        total = (total + coefficient) * x
    return total + coefficients[-1]


def _erf(xp: Any, x: Array) -> Array:
    """The error function to 2 ulp in float64 (float16 and float32 are computed in float32)."""
    wide = x.astype(np.float64 if x.dtype == np.float64 else np.float32)
    size = xp.minimum(xp.abs(wide), 6.0)
    inner = xp.minimum(size, 0.5)
    near = inner * _polynomial(_ERF_A, inner * inner) / _polynomial(_ERF_B, inner * inner)
    ratio = _polynomial(_ERF_C, size) / _polynomial(_ERF_D, size)
    far = 1 - xp.exp(-size * size) * ratio
    return xp.copysign(xp.where(size < 0.5, near, far), wide).astype(x.dtype)


@of_floats("erf(x0)", lambda g, y, x: g * exp(-x * x) * (2 / math.sqrt(math.pi)), forward=_erf)
def erf(x: A, /) -> A:
    """The error function: 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    Source: Cody 1969, to 2 units in the last place in float64 and in float32.
    """
    ...
