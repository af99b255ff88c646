"""Functions of a whole axis: softmax, log_softmax and logsumexp.

The largest element is subtracted before anything is exponentiated, and stays apart from the
logarithm of the sum until the end: their rounded total would cost large inputs their digits.
Only -inf is treated: such an element weighs nothing, also where all of them are -inf. +inf and NaN
propagate. float16 is computed in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops.arrays import A
from tinygrad_rnn.ops.elementwise.arithmetic import multiply
from tinygrad_rnn.ops.elementwise.choice import where
from tinygrad_rnn.ops.elementwise.functions import exp
from tinygrad_rnn.ops.promotion import as_floats
from tinygrad_rnn.ops.reductions import spread, sum
from tinygrad_rnn.ops.shaping import dimensions, normalise_axis, reshape
from tinygrad_rnn.tape import Primitive


def _weights(xp: Any, x: Array, axis: int) -> tuple[Array, Array, Array]:
    """X less its largest element, the exponentials of that, and their sum, 1 in place of 0."""
    x = x.astype(np.float32) if x.dtype == np.float16 else x
    top = xp.max(x, axis=axis, keepdims=True)
    shifted = x - xp.where(top == -math.inf, 0, top)
    weight = xp.exp(shifted)
    total = xp.sum(weight, axis=axis, keepdims=True)
    return shifted, weight, xp.where(total == 0, 1, total)


def _softmax_forward(xp: Any, x: Array, axis: int) -> Array:
    if not x.size:
        return xp.zeros_like(x)
    with np.errstate(invalid="ignore", over="ignore"):
        _, weight, total = _weights(xp, x, axis)
        return (weight / total).astype(x.dtype)


def _softmax_rule(g: A, y: A, x: A, axis: int) -> A:
    weighted = multiply(g, y)
    return weighted - y * sum(weighted, axis, keepdims=True)


def _log_softmax_forward(xp: Any, x: Array, axis: int) -> Array:
    if not x.size:
        return xp.zeros_like(x)
    with np.errstate(invalid="ignore", over="ignore"):
        shifted, _, total = _weights(xp, x, axis)
        return (shifted - xp.log(total)).astype(x.dtype)


def _logsumexp_forward(xp: Any, x: Array, axis: int, keepdims: bool) -> Array:
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    shape = tuple(1 if k == axis else n for k, n in enumerate(x.shape))
    kept = shape if keepdims else (*x.shape[:axis], *x.shape[axis + 1 :])
    if not x.size:
        return xp.full(kept, -math.inf, dtype=x.dtype)
    top = xp.max(wide, axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0)
    with np.errstate(divide="ignore", over="ignore"):
        total = xp.sum(xp.exp(wide - top), axis=axis, keepdims=True)
        return xp.reshape((xp.log(total) + top).astype(x.dtype), kept)


def _logsumexp_rule(g: A, y: A, x: A, axis: int, keepdims: bool) -> A:
    """The softmax of x; beside an infinite x the finite ones have no share."""
    y = spread(y, x, (axis,))
    beside = (y == math.inf) & (x < y)
    return multiply(spread(g, x, (axis,)), where(beside, 0.0, softmax_p(x, axis=axis)))


logsumexp_p = Primitive("logsumexp", _logsumexp_forward, [_logsumexp_rule], promote=as_floats)
softmax_p = Primitive("softmax", _softmax_forward, [_softmax_rule], promote=as_floats)
log_softmax_p = Primitive(
    "log_softmax",
    _log_softmax_forward,
    [lambda g, y, x, axis: g - exp(y) * sum(g, axis, keepdims=True)],
    promote=as_floats,
)


def logsumexp(x: A, axis: int = -1, keepdims: bool = False) -> A:
    """Log sum exp(x) along an axis, without overflow; -inf (with gradient 0) if all x are -inf."""
    return _along(logsumexp_p, x, axis, keepdims=keepdims)


def _along(primitive: Primitive, x: A, axis: int, **params: bool) -> A:
    """An operation along one axis; that of one number is axis 0."""
    if not dimensions(x, primitive.name):
        normalise_axis(axis, x, primitive.name, new=1)
        return reshape(primitive(reshape(x, (1,)), axis=0, **params), ())
    return primitive(x, axis=normalise_axis(axis, x, primitive.name), **params)


def softmax(x: A, axis: int = -1) -> A:
    """exp(x) / sum exp(x) along an axis; an element at -inf gets 0, also where all of them are."""
    return _along(softmax_p, x, axis)


def log_softmax(x: A, axis: int = -1) -> A:
    """X - logsumexp(x) along an axis; -inf where x is -inf."""
    return _along(log_softmax_p, x, axis)
