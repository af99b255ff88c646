"""The table of operations: a row or several for every primitive, from which the tests are driven.

A row says how to call the operation, what NumPy gives for it, which inputs to draw, and how often
it can be differentiated. ``covers`` names the primitives that the call or its gradient reaches.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from op_index_cases import INDEX_CASES
from op_rows import (
    ANY,
    NUMBERS,
    along,
    apart,
    condition,
    divisor,
    elementwise,
    listed,
    nonzero,
    numerator,
    one,
    positive,
    real,
    reduction,
    row,
    special,
    ties,
)
from op_shape_cases import SHAPE_CASES

from tinygrad_rnn import ops
from tinygrad_rnn.backends import device_of

# References that NumPy does not have under one name


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


def _erf(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.vectorize(math.erf, otypes=[float])(x)).astype(x.dtype)


def _round(x: np.ndarray) -> np.ndarray:
    return np.rint(x).astype(x.dtype)


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _norm(x: np.ndarray, axis: Any, keepdims: bool) -> np.ndarray:
    return np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims))


def _logsumexp(x: np.ndarray, axis: int, keepdims: bool = False) -> np.ndarray:
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def _hop(x: Any) -> Any:
    """To another device and back."""
    raw = getattr(x, "array", x)
    home = device_of(raw)
    return ops.to_device(ops.to_device(x, "cpu" if home == "strict" else "strict"), home)


CASES = [
    # Arithmetic
    row("add", ops.add, np.add, elementwise(real, real), NUMBERS),
    row("subtract", ops.subtract, np.subtract, elementwise(real, real), NUMBERS),
    row("multiply", ops.multiply, np.multiply, elementwise(real, real), NUMBERS),
    row("divide", ops.divide, np.divide, elementwise(real, nonzero), NUMBERS, of_floats=True),
    row("negative", ops.negative, np.negative, elementwise(real), NUMBERS),
    row("power", ops.power, np.power, elementwise(positive, real)),
    row("remainder", ops.remainder, np.remainder, elementwise(numerator, divisor), NUMBERS),
    row(
        "floor_divide", ops.floor_divide, np.floor_divide, elementwise(numerator, divisor), NUMBERS
    ),
    row("add a number", lambda x: ops.add(x, 2.5), lambda x: x + 2.5, elementwise(real)),
    row("subtract from a number", lambda x: ops.subtract(3, x), lambda x: 3 - x, elementwise(real)),
    row("multiply by a number", lambda x: ops.multiply(2, x), lambda x: 2 * x, elementwise(real)),
    row("divide a number", lambda x: ops.divide(3, x), lambda x: 3 / x, elementwise(nonzero)),
    row("power of three", lambda x: ops.power(x, 3), lambda x: x**3, elementwise(real)),
    row("power of one", lambda x: ops.power(x, 1), lambda x: x**1, elementwise(real)),
    row("power of -1.5", lambda x: ops.power(x, -1.5), lambda x: x**-1.5, elementwise(positive)),
    row("power of a number", lambda x: ops.power(2.5, x), lambda x: 2.5**x, elementwise(real)),
    row("remainder by a number", lambda x: x % 2.0, lambda x: x % 2.0, elementwise(numerator)),
    # Functions of one argument
    row("abs", ops.abs, np.abs, elementwise(apart), NUMBERS, covers=("abs", "sign")),
    row("exp", ops.exp, np.exp, elementwise(real), ANY, of_floats=True),
    row("expm1", ops.expm1, np.expm1, elementwise(real), ANY, of_floats=True),
    row("log", ops.log, np.log, elementwise(positive), ANY, of_floats=True),
    row("log1p", ops.log1p, np.log1p, elementwise(positive), ANY, of_floats=True),
    row("sqrt", ops.sqrt, np.sqrt, elementwise(positive), ANY, of_floats=True),
    row("square", ops.square, np.square, elementwise(real), NUMBERS),
    row("sin", ops.sin, np.sin, elementwise(real), ANY, of_floats=True),
    row("cos", ops.cos, np.cos, elementwise(real), ANY, of_floats=True),
    row("erf", ops.erf, _erf, elementwise(real), ANY, of_floats=True),
    row("tanh", ops.tanh, np.tanh, elementwise(real), ANY, of_floats=True),
    row("sigmoid", ops.sigmoid, _sigmoid, elementwise(real), ANY, of_floats=True),
    row("relu", ops.relu, lambda x: np.maximum(x, 0), elementwise(apart), NUMBERS),
    row(
        "softplus",
        ops.softplus,
        lambda x: np.log1p(np.exp(x)),
        elementwise(real),
        ANY,
        of_floats=True,
    ),
    row(
        "leaky_relu",
        ops.leaky_relu,
        lambda x: np.where(x > 0, x, 0.01 * x),
        elementwise(apart),
        ANY,
        of_floats=True,
    ),
    row(
        "leaky_relu steep",
        lambda x: ops.leaky_relu(x, 2.0),
        lambda x: np.where(x > 0, x, 2 * x),
        elementwise(apart),
    ),
    row(
        "gelu",
        ops.gelu,
        lambda x: 0.5 * x * (1 + _erf(x * 0.5**0.5)),
        elementwise(real),
        ANY,
        of_floats=True,
        covers=(),
    ),
    row(
        "gelu by tanh",
        lambda x: ops.gelu(x, "tanh"),
        _gelu_tanh,
        elementwise(real),
        ANY,
        of_floats=True,
        covers=(),
    ),
    row("identity", ops.identity, np.copy, elementwise(real), ANY),
    row("copy", ops.copy, np.copy, elementwise(real), ANY),
    row("sign", ops.sign, np.sign, elementwise(apart), NUMBERS),
    row("floor", ops.floor, np.floor, elementwise(apart), NUMBERS),
    row("ceil", ops.ceil, np.ceil, elementwise(apart), NUMBERS),
    row("round", ops.round, _round, elementwise(apart), NUMBERS),
    # Choice
    row("maximum", ops.maximum, np.maximum, elementwise(apart, apart), ANY),
    row("minimum", ops.minimum, np.minimum, elementwise(apart, apart), ANY),
    row("where", ops.where, np.where, elementwise(condition, real, real), ANY),
    row(
        "where or a number",
        lambda c, x: ops.where(c, x, 0.5),
        lambda c, x: np.where(c, x, 0.5),
        elementwise(condition, real),
    ),
    row("clip", lambda x: ops.clip(x, -1, 1), lambda x: x.clip(-1, 1), elementwise(apart), NUMBERS),
    row("clip below", lambda x: ops.clip(x, -1), lambda x: x.clip(-1), elementwise(apart), NUMBERS),
    row("clip above", lambda x: ops.clip(x, high=1), lambda x: x.clip(max=1), elementwise(apart)),
    # Comparison and logic
    row("equal", ops.equal, np.equal, elementwise(ties, ties), ANY, order=0),
    row("not_equal", ops.not_equal, np.not_equal, elementwise(ties, ties), ANY, order=0),
    row("less", ops.less, np.less, elementwise(ties, ties), ANY, order=0),
    row("less_equal", ops.less_equal, np.less_equal, elementwise(ties, ties), ANY, order=0),
    row("greater", ops.greater, np.greater, elementwise(ties, ties), ANY, order=0),
    row(
        "greater_equal", ops.greater_equal, np.greater_equal, elementwise(ties, ties), ANY, order=0
    ),
    row("isnan", ops.isnan, np.isnan, elementwise(special), order=0),
    row("isfinite", ops.isfinite, np.isfinite, elementwise(special), order=0),
    row("bitwise_and", ops.bitwise_and, np.bitwise_and, elementwise(real, real), "il?", order=0),
    row("bitwise_or", ops.bitwise_or, np.bitwise_or, elementwise(real, real), "il?", order=0),
    row("bitwise_xor", ops.bitwise_xor, np.bitwise_xor, elementwise(real, real), "il?", order=0),
    row("invert", ops.invert, np.invert, elementwise(real), "il?", order=0),
    # Dtypes and devices
    row("cast", lambda x: ops.cast(x, "d"), lambda x: x.astype("d"), elementwise(real), ANY),
    row("to_device", _hop, np.copy, elementwise(real), ANY, reads_host=True),
    # Reductions
    row("sum", ops.sum, np.sum, reduction(real), ANY),
    row("mean", ops.mean, np.mean, reduction(real), ANY, of_floats=True),
    row("max", ops.max, np.max, reduction(apart, 1), ANY),
    row("min", ops.min, np.min, reduction(apart, 1), ANY),
    row("prod", ops.prod, np.prod, reduction(nonzero), ANY, covers=("prod", "exponent", "ldexp")),
    row("norm", ops.norm, _norm, reduction(nonzero), ANY, of_floats=True),
    row(
        "var",
        ops.var,
        np.var,
        reduction(real),
        ANY,
        covers=("mean", "sum", "square"),
        of_floats=True,
    ),
    row("std", ops.std, np.std, reduction(apart), ANY, covers=("mean", "norm"), of_floats=True),
    row(
        "var, unbiased",
        lambda x: ops.var(x, 0, ddof=1),
        lambda x: np.var(x, 0, ddof=1),
        listed(one((3, 2)), one((2, 0)), one((4,))),
        covers=(),
    ),
    row("any", ops.any, np.any, reduction(ties), ANY, order=0),
    row("all", ops.all, np.all, reduction(ties), ANY, order=0),
    row("cumsum", ops.cumsum, np.cumsum, along(real), NUMBERS),
    row("argmax", ops.argmax, np.argmax, along(ties, 1), ANY, order=0),
    row("argmin", ops.argmin, np.argmin, along(ties, 1), ANY, order=0),
    row("argmax of all", ops.argmax, np.argmax, listed(one((2, 3)), one(())), ANY, order=0),
    row("logsumexp", ops.logsumexp, _logsumexp, along(real, 1), ANY, of_floats=True),
    row(
        "logsumexp, keepdims",
        lambda x: ops.logsumexp(x, 0, keepdims=True),
        lambda x: _logsumexp(x, 0, keepdims=True),
        listed(one((2, 3)), one((2, 0))),
        covers=("logsumexp",),
    ),
    row(
        "softmax",
        ops.softmax,
        lambda x, axis: np.exp(x - _logsumexp(x, axis, True)),
        along(real, 1),
        ANY,
        of_floats=True,
    ),
    row(
        "log_softmax",
        ops.log_softmax,
        lambda x, axis: x - _logsumexp(x, axis, True),
        along(real, 1),
        ANY,
        of_floats=True,
    ),
    *SHAPE_CASES,
    *INDEX_CASES,
]
