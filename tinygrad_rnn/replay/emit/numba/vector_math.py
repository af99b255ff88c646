"""exp and tanh of float32 as straight lines of arithmetic, which LLVM turns into vectors.

Error against float64, over all float32: exp below 4 ulp, and 0 where the result is subnormal; tanh
below 7 ulp, never beyond 1, and 1 from 9.5 on. So 1 - y y, its derivative, has an absolute error
below 2^-20 and is 0 in the end. Infinities and nan as in NumPy.
"""

from __future__ import annotations

import math
from typing import Any

from tinygrad_rnn.replay.emit.numba.intrinsics import ir, of_floats

FLOAT, INT = ir.FloatType(), ir.IntType(32)
KEEP = ("contract",)  # may fuse a product and a sum, and no more

LOG2_E = 1.44269504088896341
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4  # 10 bits, so that n * LN2_HIGH is exact
SHIFT = 12582912.0  # 1.5 * 2^23: adding it rounds to an integer, found in the low bits
EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
       5.0000001201e-1)  # fmt: skip
"""exp(r) = 1 + r + r^2 P(r) for |r| <= ln 2 / 2, highest power first. Moshier, Cephes, expf."""
EXP_LOW, EXP_HIGH = -87.33654, 88.72283
"""Below the first the result is subnormal and 0 is given; above the second it overflows."""

TANH_TOP = (1.394553628e-8, 2.102733560e-5, 3.520756727e-3, 1.340216100e-1, 1.0)
TANH_BOTTOM = (8.015776984e-7, 3.326951409e-4, 2.597254514e-2, 4.673548340e-1, 1.0)
"""tanh(x) = x P(x^2) / Q(x^2) for |x| < 9, highest power first, with 1 at the end of both so that
small x lose nothing. Eigen, GenericPacketMathFunctions.h."""
TANH_LIMIT = 9.5
"""Here the quotient exceeds 1 by 16 ulp, more than its roundings; the true value rounds to 1."""


class Writer:
    """Arithmetic on float32 values with fixed roundings."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def number(self, value: float) -> Any:
        return ir.Constant(FLOAT, value)

    def fused(self, a: Any, b: Any, c: Any) -> Any:
        """A b + c, in one rounding where the processor can."""
        return self.plus(self.times(a, b), c)

    def times(self, a: Any, b: Any) -> Any:
        return self.builder.fmul(a, b, flags=KEEP)

    def plus(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b, flags=KEEP)

    def minus(self, a: Any, b: Any) -> Any:
        return self.builder.fsub(a, b, flags=KEEP)

    def polynomial(self, coefficients: tuple[float, ...], x: Any) -> Any:
        total = self.number(coefficients[0])
        for coefficient in coefficients[1:]:
            total = self.fused(total, x, self.number(coefficient))
        return total

    def limit(self, x: Any, most: float) -> Any:
        """X no further from 0 than so; nan stays nan."""
        b = self.builder
        for sign, bound in (("<", -most), (">", most)):
            x = b.select(b.fcmp_ordered(sign, x, self.number(bound)), self.number(bound), x)
        return x


@of_floats(1)
def exp(builder: Any, x: Any) -> Any:
    """Of a float32: 2^n exp(r), x = n ln 2 + r; n is added to the exponent in the bits."""
    w = Writer(builder)
    shifted = w.fused(x, w.number(LOG2_E), w.number(SHIFT))
    n = w.minus(shifted, w.number(SHIFT))
    r = w.fused(n, w.number(-LN2_HIGH), x)
    r = w.fused(n, w.number(-LN2_LOW), r)
    y = w.fused(w.polynomial(EXP, r), w.times(r, r), r)
    y = w.plus(y, w.number(1.0))
    exponent = builder.shl(builder.bitcast(shifted, INT), INT(23))
    y = builder.bitcast(builder.add(builder.bitcast(y, INT), exponent), FLOAT)
    low = builder.fcmp_ordered("<", x, w.number(EXP_LOW), flags=KEEP)
    high = builder.fcmp_unordered(">", x, w.number(EXP_HIGH), flags=KEEP)
    y = builder.select(low, w.number(0.0), y)
    return builder.select(high, w.plus(x, w.number(math.inf)), y)  # nan, too


@of_floats(1)
def tanh(builder: Any, x: Any) -> Any:
    """Of a float32: x P(x^2) / Q(x^2), but no further from 0 than 1."""
    w = Writer(builder)
    x = w.limit(x, TANH_LIMIT)
    square = w.times(x, x)
    top = w.times(x, w.polynomial(TANH_TOP, square))
    y = builder.fdiv(top, w.polynomial(TANH_BOTTOM, square), flags=KEEP)
    return w.limit(y, 1.0)
