"""Activations: tanh, sigmoid, relu, leaky_relu, softplus, gelu.

The derivative of tanh is 1 - y y, right to the rounding of y: an absolute error, and 0 where y is
1; y (1 - y), that of the sigmoid, likewise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops.arrays import A
from tinygrad_rnn.ops.elementwise.choice import clip, maximum, where
from tinygrad_rnn.ops.elementwise.declaration import elementwise, of_floats
from tinygrad_rnn.ops.elementwise.erf import erf
from tinygrad_rnn.ops.promotion import as_floats
from tinygrad_rnn.tape import Primitive


@of_floats("tanh(x0)", lambda g, y, x: g * (1 - y * y))
def tanh(x: A, /) -> A:
    """The hyperbolic tangent, (e^x - e^-x) / (e^x + e^-x)."""
    ...


def _sigmoid(xp: Any, x: Array) -> Array:
    """1 / (1 + exp(-x)) in one buffer.

    Accurate to 4 ulp on both sides, unlike 0.5 tanh(0.5 x) + 0.5. Where exp(-x) overflows (x below
    -88.7 in float32) the result is 0 in place of a subnormal number.
    """
    with np.errstate(over="ignore"):
        y = xp.exp(-x)
    y += 1
    return xp.reciprocal(y, out=y) if y.ndim else 1 / y


@of_floats("sigmoid(x0)", lambda g, y, x: g * (y * (1 - y)), forward=_sigmoid)
def sigmoid(x: A, /) -> A:
    """1 / (1 + e^-x), accurate on both sides of 0."""
    ...


@elementwise(
    "maximum(x0, 0)",
    lambda g, y, x: where(x > 0, g, 0.0),
    forward=lambda xp, x: xp.maximum(x, 0),
)
def relu(x: A, /) -> A:
    """max(x, 0); its derivative at 0 is 0."""
    ...


leaky_relu_p = Primitive(
    "leaky_relu",
    lambda xp, x, slope: xp.where(x > 0, x, slope * x),
    [lambda g, y, x, slope: where(x > 0, g, slope * g)],
    kernel="select(x0 > 0, x0, slope * x0)",
    promote=as_floats,
)


def leaky_relu(x: A, slope: float = 0.01) -> A:
    """X where x > 0, else slope * x. Source: Maas, Hannun, Ng 2013."""
    return leaky_relu_p(x, slope=slope)


@of_floats(
    "maximum(x0, 0) + log1p(exp(-abs(x0)))",
    lambda g, y, x: g * sigmoid(x),
    forward=lambda xp, x: xp.logaddexp(x, 0),
)
def softplus(x: A, /) -> A:
    """log(1 + e^x), without overflow: x itself where x is large."""
    ...


def gelu(x: A, approximate: str = "none") -> A:
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
