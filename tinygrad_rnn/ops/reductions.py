"""Reductions along axes, and the functions of a whole axis: softmax and its relatives.

float16 is accumulated in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Never

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops.elementwise import exp, isfinite, multiply, square, where
from tinygrad_rnn.ops.promotion import as_float, as_floats, cast
from tinygrad_rnn.ops.shaping import (
    broadcast_to,
    concat,
    flip,
    normalise_axes,
    normalise_axis,
    reshape,
    split,
    transpose,
)
from tinygrad_rnn.tape import Function, Primitive, Promotion

Axis = int | Sequence[int] | None


def _spread(g: Array, x: Array, axis: tuple[int, ...]) -> Array:
    """A value per reduced group, with the reduced axes back as size one."""
    return reshape(g, tuple(1 if k in axis else size for k, size in enumerate(x.shape)))


def _accumulated(name: str, xp: Any, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    """``xp.<name>`` over axes, with float32 sums where x is float16, int64 for all integers."""
    function = getattr(xp, name)
    if x.dtype == np.float16:
        return function(x, axis=axis, keepdims=keepdims, dtype=np.float32).astype(np.float16)
    dtype = None if x.dtype.kind == "f" else np.int64
    return function(x, axis=axis, keepdims=keepdims, dtype=dtype)


def _sum_rule(g: Array, y: Array, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    return broadcast_to(_spread(g, x, axis), x.shape)


def _mean_rule(g: Array, y: Array, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    return broadcast_to(_spread(g, x, axis) / (_count(x, axis) or 1), x.shape)


def _count(x: Array, axis: tuple[int, ...]) -> int:
    return math.prod(x.shape[k] for k in axis)


def _freedom(x: Array, axis: tuple[int, ...], ddof: int) -> float:
    """The count less ddof, or NaN where that leaves nothing to divide by."""
    left = _count(x, axis) - ddof
    return left if left > 0 else math.nan


def _mean_forward(xp: Any, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    """NaN where there is nothing to average, without NumPy's warning."""
    if _count(x, axis):
        return _accumulated("mean", xp, x, axis, keepdims)
    return xp.sum(x, axis=axis, keepdims=keepdims) * math.nan


def _cumsum_forward(xp: Any, x: Array, axis: int) -> Array:
    if x.dtype == np.float16:
        return xp.cumsum(x, axis=axis, dtype=np.float32).astype(np.float16)
    return xp.cumsum(x, axis=axis, dtype=None if x.dtype.kind == "f" else np.int64)


def _extreme_rule(g: Array, y: Array, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    """The cotangent goes to the extreme value, in equal shares where several are equal."""
    hit = cast(x == _spread(y, x, axis), g.dtype)
    return hit * (_spread(g, x, axis) / sum(hit, axis, keepdims=True))


def _prod_rule(g: Array, y: Array, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Each element's cotangent is the product of all others, found without a division.

    The elements of a group are multiplied in pairs up to the root; on the way down each child is
    handed its parent's product of others, times its sibling. So zeros are no special case.
    """
    kept = tuple(k for k in range(x.ndim) if k not in axis)
    order = kept + axis
    count = _count(x, axis)
    level = reshape(transpose(x, order), (*(x.shape[k] for k in kept), count))
    levels: list[Array] = []
    while level.shape[-1] > 1:
        levels.append(level)
        half = level.shape[-1] // 2
        left, right, rest = split(level, sizes=(half, half, level.shape[-1] - 2 * half))
        level = concat([left * right, rest], -1)
    others = level * 0 + 1
    for level in reversed(levels):
        half = level.shape[-1] // 2
        left, right, _ = split(level, sizes=(half, half, level.shape[-1] - 2 * half))
        above, rest = split(others, sizes=(half, others.shape[-1] - half))
        others = concat([above * right, above * left, rest], -1)
    shape = tuple(x.shape[k] for k in order)
    back = [order.index(k) for k in range(x.ndim)]
    return _spread(g, x, axis) * transpose(reshape(others, shape), back)


def _norm_rule(g: Array, y: Array, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    length = _spread(y, x, axis)
    return x * (_spread(g, x, axis) / where(length == 0, 1.0, length))


def _norm_forward(xp: Any, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Scaled by the largest element, so that squares neither overflow nor vanish."""
    if x.size == 0:
        return xp.sqrt(xp.sum(x * x, axis=axis, keepdims=keepdims))
    scale = xp.max(xp.abs(x), axis=axis, keepdims=True)
    scale = xp.where((scale == 0) | ~xp.isfinite(scale), 1, scale).astype(x.dtype)
    ratio = x / scale
    length = xp.sqrt(_accumulated("sum", xp, ratio * ratio, axis, True)) * scale
    return (
        length
        if keepdims
        else xp.reshape(length, tuple(size for k, size in enumerate(x.shape) if k not in axis))
    )


def _reduction(
    name: str,
    rule: Function | None,
    forward: Function | None = None,
    promote: Promotion | None = None,
) -> Primitive:
    def by_name(xp: Any, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
        return getattr(xp, name)(x, axis=axis, keepdims=keepdims)

    return Primitive(name, forward or by_name, [rule], promote=promote)


sum_p = _reduction(
    "sum", _sum_rule, lambda xp, x, axis, keepdims: _accumulated("sum", xp, x, axis, keepdims)
)
mean_p = _reduction("mean", _mean_rule, _mean_forward, as_floats)
max_p = _reduction("max", _extreme_rule)
min_p = _reduction("min", _extreme_rule)
prod_p = _reduction(
    "prod", _prod_rule, lambda xp, x, axis, keepdims: _accumulated("prod", xp, x, axis, keepdims)
)
norm_p = _reduction("norm", _norm_rule, _norm_forward, as_floats)
any_p = _reduction("any", None)
all_p = _reduction("all", None)
cumsum_p = Primitive(
    "cumsum",
    _cumsum_forward,
    [lambda g, y, x, axis: flip(cumsum(flip(g, axis), axis), axis)],
)
argmax_p = Primitive("argmax", lambda xp, x, axis: xp.argmax(x, axis=axis))
argmin_p = Primitive("argmin", lambda xp, x, axis: xp.argmin(x, axis=axis))


def sum(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """The sum over ``axis`` (all axes by default)."""
    return sum_p(x, axis=normalise_axes(axis, x, "sum"), keepdims=keepdims)


def mean(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """The arithmetic mean over ``axis`` (all axes by default)."""
    return mean_p(x, axis=normalise_axes(axis, x, "mean"), keepdims=keepdims)


def max(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """The largest value over ``axis``; its gradient is shared equally between equal maxima."""
    return max_p(x, axis=_nonempty(x, axis, "max"), keepdims=keepdims)


def min(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """The smallest value over ``axis``; its gradient is shared equally between equal minima."""
    return min_p(x, axis=_nonempty(x, axis, "min"), keepdims=keepdims)


def prod(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """The product over ``axis``; gradients are right for zeros too."""
    return prod_p(x, axis=normalise_axes(axis, x, "prod"), keepdims=keepdims)


def norm(x: Array, *places: Never, axis: Axis = None, keepdims: bool = False) -> Array:
    """The Euclidean norm over ``axis``, without overflow; its gradient at 0 is 0."""
    if places:
        raise TypeError(
            f"norm: norm(x, {places[0]!r}) names the order of the norm in PyTorch and NumPy; this "
            "one is Euclidean, and its axis is named: norm(x, axis=...)"
        )
    return norm_p(x, axis=normalise_axes(axis, x, "norm"), keepdims=keepdims)


def var(x: Array, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Array:
    """The variance over ``axis``: sum (x - mean)^2 / (n - ddof)."""
    axes, x = normalise_axes(axis, x, "var"), as_float(x)
    centred = x - mean(x, axes, keepdims=True)
    return sum(square(centred), axes, keepdims) / _freedom(x, axes, ddof)


def std(x: Array, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Array:
    """The standard deviation over ``axis``; its gradient is 0 where all values are equal."""
    axes, x = normalise_axes(axis, x, "std"), as_float(x)
    centred = x - mean(x, axes, keepdims=True)
    return norm(centred, axis=axes, keepdims=keepdims) / math.sqrt(_freedom(x, axes, ddof))


def cumsum(x: Array, axis: int = 0) -> Array:
    """Running sums along one axis."""
    return cumsum_p(x, axis=normalise_axis(axis, x, "cumsum"))


def any(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether any element over ``axis`` is true."""
    return any_p(x, axis=normalise_axes(axis, x, "any"), keepdims=keepdims)


def all(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether all elements over ``axis`` are true."""
    return all_p(x, axis=normalise_axes(axis, x, "all"), keepdims=keepdims)


def argmax(x: Array, axis: int | None = None) -> Array:
    """The index of the first largest value along ``axis`` (into the flat array by default)."""
    return argmax_p(x, axis=_one_axis(x, axis, "argmax"))


def argmin(x: Array, axis: int | None = None) -> Array:
    """The index of the first smallest value along ``axis`` (into the flat array by default)."""
    return argmin_p(x, axis=_one_axis(x, axis, "argmin"))


def _one_axis(x: Array, axis: int | None, who: str) -> int | None:
    _nonempty(x, axis, who)
    return None if axis is None else normalise_axis(axis, x, who)


def _filled_axis(x: Array, axis: int, who: str) -> int:
    """One axis, counted from the front, which must not be empty."""
    return _nonempty(x, normalise_axis(axis, x, who), who)[0]


def _nonempty(x: Array, axis: Axis, who: str) -> tuple[int, ...]:
    axes = normalise_axes(axis, x, who)
    if _count(x, axes) == 0:
        raise ValueError(f"{who}: there is no element over axes {axes} of shape {tuple(x.shape)}")
    return axes


# Functions of a whole axis


def _shifted(xp: Any, x: Array, axis: int) -> tuple[Array, Array]:
    """X less its largest element along the axis (0 where that is not finite), and that element."""
    top = xp.max(x, axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0).astype(x.dtype)
    with np.errstate(over="ignore"):  # below the smallest float16, exp(x - top) is 0 all the same
        return x - top, top


def _logsumexp_forward(xp: Any, x: Array, axis: int, keepdims: bool) -> Array:
    shifted, top = _shifted(xp, x, axis)
    with np.errstate(divide="ignore"):
        y = xp.log(_accumulated("sum", xp, xp.exp(shifted), (axis,), True)) + top
    return y if keepdims else xp.squeeze(y, axis)


def _logsumexp_rule(g: Array, y: Array, x: Array, axis: int, keepdims: bool) -> Array:
    y = _spread(y, x, (axis,))
    return _spread(g, x, (axis,)) * exp(x - where(isfinite(y), y, 0.0))


def _softmax_forward(xp: Any, x: Array, axis: int) -> Array:
    weight = xp.exp(_shifted(xp, x, axis)[0])
    total = _accumulated("sum", xp, weight, (axis,), True)
    return weight / xp.where(total == 0, 1, total).astype(x.dtype)


def _softmax_rule(g: Array, y: Array, x: Array, axis: int) -> Array:
    weighted = multiply(g, y)
    return weighted - y * sum(weighted, axis, keepdims=True)


def _log_softmax_forward(xp: Any, x: Array, axis: int) -> Array:
    total = _logsumexp_forward(xp, x, axis, True)
    return x - xp.where(xp.isfinite(total), total, 0).astype(x.dtype)


logsumexp_p = Primitive("logsumexp", _logsumexp_forward, [_logsumexp_rule], promote=as_floats)
softmax_p = Primitive("softmax", _softmax_forward, [_softmax_rule], promote=as_floats)
log_softmax_p = Primitive(
    "log_softmax",
    _log_softmax_forward,
    [lambda g, y, x, axis: g - exp(y) * sum(g, axis, keepdims=True)],
    promote=as_floats,
)


def logsumexp(x: Array, axis: int = -1, keepdims: bool = False) -> Array:
    """Log sum exp(x) along an axis, without overflow; -inf (with gradient 0) if all x are -inf."""
    return logsumexp_p(x, axis=_filled_axis(x, axis, "logsumexp"), keepdims=keepdims)


def softmax(x: Array, axis: int = -1) -> Array:
    """exp(x) / sum exp(x) along an axis; an element at -inf gets 0, also where all of them are."""
    return softmax_p(x, axis=_filled_axis(x, axis, "softmax"))


def log_softmax(x: Array, axis: int = -1) -> Array:
    """X - logsumexp(x) along an axis; -inf where x is -inf."""
    return log_softmax_p(x, axis=_filled_axis(x, axis, "log_softmax"))
