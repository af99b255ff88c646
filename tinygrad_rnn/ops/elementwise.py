"""Elementwise operations: a table of forward, kernel expression and gradient rules.

Each row reads: name, the operation as one expression for the fuser, one rule per argument, and the
forward where the array namespace has no function of that name. Letters: ``g`` the cotangent of
the result ``y``, then the arguments ``a, b`` or ``x``. Broadcasting is undone by the engine.

A kernel expression says what the forward computes, in the language of ``kernel_language.py``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, device_of, transfer
from tinygrad_rnn.ops.promotion import (
    INTEGER,
    as_floats,
    as_integers,
    cast,
    common_dtype,
    dtype_of,
    promotion,
    together,
)
from tinygrad_rnn.tape import Function, Primitive, Promotion, Traced


def elementwise(
    name: str,
    kernel: str,
    *rules: Function | None,
    forward: Function | None = None,
    promote: Promotion = together,
) -> Primitive:
    """One row of the table."""

    def by_name(xp: Any, *arrays: Any) -> Array:
        return getattr(xp, name)(*arrays)

    return Primitive(
        name,
        forward or by_name,
        rules,
        kernel=kernel,
        promote=promote,
        doc=f"{name}: {kernel}",
    )


def of_floats(
    name: str, kernel: str, *rules: Function | None, forward: Function | None = None
) -> Primitive:
    """The row of an operation whose results are no integers, though its operands may be."""
    return elementwise(name, kernel, *rules, forward=forward, promote=as_floats)


def _sigmoid(xp: Any, x: Array) -> Array:
    """1 / (1 + exp(-x)) in one buffer.

    Accurate to 4 ulp on both sides, unlike 0.5 tanh(0.5 x) + 0.5. Where exp(-x) overflows (x below
    -88.7 in float32) the result is 0 in place of a subnormal number.
    """
    with np.errstate(over="ignore"):
        y = xp.exp(-x)
    y += 1
    return xp.reciprocal(y, out=y) if y.ndim else 1 / y


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


def _power_base(g: Array, y: Array, x: Array, p: Array) -> Array:
    if isinstance(p, int | float):
        return g * (p * x ** (p - 1)) if p != 0 else g * 0
    constant = p == 0
    return g * where(constant, 0.0, p * x ** where(constant, 1.0, p - 1))


def _power_exponent(g: Array, y: Array, x: Array, p: Array) -> Array:
    if isinstance(x, int | float):
        if x == 0:
            return g * where(p < 0, -math.inf, where(p >= 0, 0.0, p))
        return g * y * (math.log(x) if x > 0 else math.nan)
    flat = (x == 0) & (p >= 0)
    return g * where(flat, 0.0, y * log(where(flat, 1.0, x)))


def _larger(g: Array, a: Array, b: Array) -> Array:
    """The cotangent of ``a`` in maximum(a, b): all of it, or half where the two are equal."""
    return where(a > b, g, where(a == b, 0.5 * g, 0.0))


def _branches(who: str, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The two branches meet, whatever the condition is; what is not 0 counts as true."""
    condition = inputs[0]
    if getattr(condition, "dtype", _TRUTH) is not _TRUTH:
        inputs = (cast(condition, _TRUTH), *inputs[1:])
    return _last_two(who, inputs)


_TRUTH = np.dtype(np.bool_)
_last_two = promotion(start=1)


def _where(xp: Any, condition: Array, a: Any, b: Any) -> Array:
    y = xp.where(condition, a, b)
    if dtype_of(a) is None and dtype_of(b) is None:
        y = y.astype(common_dtype((a, b), "where"))
    return y


def _sign(xp: Any, x: Array) -> Array:
    return x if x.dtype == np.bool_ else xp.sign(x)


def _round(xp: Any, x: Array) -> Array:
    """To the nearest integer, halves to the even one; NumPy's rint makes integers floats."""
    return xp.rint(x) if x.dtype.kind == "f" else x


# Arithmetic
add = elementwise("add", "x0 + x1", lambda g, y, a, b: g, lambda g, y, a, b: g)
subtract = elementwise("subtract", "x0 - x1", lambda g, y, a, b: g, lambda g, y, a, b: -g)
multiply = elementwise("multiply", "x0 * x1", lambda g, y, a, b: g * b, lambda g, y, a, b: g * a)
divide = of_floats("divide", "x0 / x1", lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b)
negative = elementwise("negative", "-x0", lambda g, y, x: -g)
power = elementwise("power", "power(x0, x1)", _power_base, _power_exponent, promote=as_integers)
remainder = elementwise(
    "remainder",
    "remainder(x0, x1)",
    lambda g, y, a, b: g,
    lambda g, y, a, b: -g * floor_divide(a, b),
    promote=as_integers,
)
floor_divide = elementwise("floor_divide", "x0 // x1", None, None, promote=as_integers)

# Functions of one argument
abs = elementwise("abs", "abs(x0)", lambda g, y, x: g * sign(x))
exp = of_floats("exp", "exp(x0)", lambda g, y, x: g * y)
expm1 = of_floats("expm1", "expm1(x0)", lambda g, y, x: g * (y + 1))
log = of_floats("log", "log(x0)", lambda g, y, x: g / x)
log1p = of_floats("log1p", "log1p(x0)", lambda g, y, x: g / (x + 1))
sqrt = of_floats("sqrt", "sqrt(x0)", lambda g, y, x: g / (2 * y))
square = elementwise("square", "x0 * x0", lambda g, y, x: g * (2 * x), promote=as_integers)
sin = of_floats("sin", "sin(x0)", lambda g, y, x: g * cos(x))
cos = of_floats("cos", "cos(x0)", lambda g, y, x: -g * sin(x))
erf = of_floats(
    "erf", "erf(x0)", lambda g, y, x: g * exp(-x * x) * (2 / math.sqrt(math.pi)), forward=_erf
)

# Activations
# 1 - y y is right to the rounding of y: an absolute error, and 0 where y is 1; y (1 - y) likewise
tanh = of_floats("tanh", "tanh(x0)", lambda g, y, x: g * (1 - y * y))
sigmoid = of_floats("sigmoid", "sigmoid(x0)", lambda g, y, x: g * (y * (1 - y)), forward=_sigmoid)
relu = elementwise(
    "relu",
    "maximum(x0, 0)",
    lambda g, y, x: where(x > 0, g, 0.0),
    forward=lambda xp, x: xp.maximum(x, 0),
)
softplus = of_floats(
    "softplus",
    "maximum(x0, 0) + log1p(exp(-abs(x0)))",
    lambda g, y, x: g * sigmoid(x),
    forward=lambda xp, x: xp.logaddexp(x, 0),
)
leaky_relu_p = of_floats(
    "leaky_relu",
    "select(x0 > 0, x0, slope * x0)",
    lambda g, y, x, slope: where(x > 0, g, slope * g),
    forward=lambda xp, x, slope: xp.where(x > 0, x, slope * x),
)

# Choice
maximum = elementwise(
    "maximum",
    "maximum(x0, x1)",
    lambda g, y, a, b: _larger(g, a, b),
    lambda g, y, a, b: _larger(g, b, a),
)
minimum = elementwise(
    "minimum",
    "minimum(x0, x1)",
    lambda g, y, a, b: _larger(g, b, a),
    lambda g, y, a, b: _larger(g, a, b),
)
where = elementwise(
    "where",
    "select(x0, x1, x2)",
    None,
    lambda g, y, condition, a, b: where(condition, g, 0.0),
    lambda g, y, condition, a, b: where(condition, 0.0, g),
    forward=_where,
    promote=_branches,
)
clip_p = elementwise(
    "clip",
    "minimum(maximum(x0, low), high)",
    lambda g, y, x, low, high: where((x >= low) & (x <= high), g, 0.0),
    forward=lambda xp, x, low, high: xp.minimum(xp.maximum(x, low), high),
)

# Steps: a gradient of zero almost everywhere, and none is sent back
sign = elementwise("sign", "sign(x0)", None, forward=_sign)
floor = elementwise("floor", "floor(x0)", None)
ceil = elementwise("ceil", "ceil(x0)", None)
round = elementwise("round", "round(x0)", None, forward=_round)

# Comparison and logic: bool results, which carry no gradient
equal = elementwise("equal", "x0 == x1")
not_equal = elementwise("not_equal", "x0 != x1")
less = elementwise("less", "x0 < x1")
less_equal = elementwise("less_equal", "x0 <= x1")
greater = elementwise("greater", "x0 > x1")
greater_equal = elementwise("greater_equal", "x0 >= x1")
isnan = elementwise("isnan", "isnan(x0)")
isfinite = elementwise("isfinite", "isfinite(x0)")
bitwise_and = elementwise("bitwise_and", "x0 & x1")
bitwise_or = elementwise("bitwise_or", "x0 | x1")
bitwise_xor = elementwise("bitwise_xor", "x0 ^ x1")
invert = elementwise("invert", "~x0")


def _device(x: Array) -> str:
    return device_of(x.array if isinstance(x, Traced) else x)


to_device_p = Primitive(
    "to_device",
    lambda xp, x, device: transfer(x, device),
    [lambda g, y, x, device: to_device_p(g, device=_device(x))],
)
identity = Primitive(
    "identity", lambda xp, x: x, [lambda g, y, x: g], kernel="x0", doc="x, as a new value"
)
copy = Primitive(
    "copy", lambda xp, x: x.copy(), [lambda g, y, x: g], kernel="x0", doc="x, in memory of its own"
)


def to_device(x: Array, device: str) -> Array:
    """The same values on another device; the gradient travels back."""
    return to_device_p(x, device=device)


def leaky_relu(x: Array, slope: float = 0.01) -> Array:
    """X where x > 0, else slope * x. Source: Maas, Hannun, Ng 2013."""
    return leaky_relu_p(x, slope=slope)


def _bound(value: Any) -> Any:
    """A Python number or None, for a bound that may be one of NumPy's numbers."""
    if getattr(value, "ndim", 0) or isinstance(value, Traced):
        raise TypeError("clip: low and high must be numbers; use maximum and minimum for arrays")
    return value.item() if hasattr(value, "dtype") else value


def clip(x: Array, low: float | None = None, high: float | None = None) -> Array:
    """X limited to [low, high]; the gradient passes where x lies within, bounds included."""
    if isinstance(low, Traced) or isinstance(high, Traced):
        raise TypeError(
            "clip: bounds must be numbers, got a Tensor; write maximum(minimum(x, high), low)"
        )
    low, high = _bound(low), _bound(high)
    if low is not None and high is not None and low > high:
        raise ValueError(f"clip: low must not exceed high, got {low} and {high}")
    dtype = common_dtype((x, low, high), "clip", INTEGER)
    lowest, highest = -math.inf, math.inf
    if dtype.kind != "f":  # an infinity would turn integers into floats
        lowest, highest = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    return clip_p(
        x if x.dtype == dtype else cast(x, dtype),
        low=lowest if low is None else max(low, lowest),
        high=highest if high is None else min(high, highest),
    )


def gelu(x: Array, approximate: str = "none") -> Array:
    """X Phi(x), Phi the standard normal distribution function.

    ``approximate="tanh"`` takes 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). For negative x
    the sum cancels: there the absolute error is small, that of 1 times x. Beyond 40, where Phi is 1
    or 0 to the last digit, it is x or 0, with a derivative of 1 or 0; so at the infinities too.
    Source: Hendrycks, Gimpel 2016.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    (x,) = as_floats("gelu", (x,))
    within = clip(x, -40.0, 40.0)
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (within + 0.044715 * within * within * within)
        return 0.5 * maximum(x, -40.0) * (1 + tanh(inner))
    return 0.5 * maximum(x, -40.0) * (1 + erf(within * math.sqrt(0.5)))
