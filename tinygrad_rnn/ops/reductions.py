"""Reductions along axes.

float16 is accumulated in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Never

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops.arrays import A, AnyArray
from tinygrad_rnn.ops.elementwise.choice import where
from tinygrad_rnn.ops.elementwise.functions import square
from tinygrad_rnn.ops.promotion import as_float, as_floats, cast
from tinygrad_rnn.ops.scaled import ldexp_p, product_of_others
from tinygrad_rnn.ops.shaping import (
    Axis,
    accumulating,
    broadcast_to,
    dimensions,
    flip,
    normalise_axis,
    reduced_axes,
    reshape,
    sum_along,
    transpose,
)
from tinygrad_rnn.tape import Function, Primitive, Promotion


def spread(g: A, x: A, axis: tuple[int, ...]) -> A:
    """A value per reduced group, with the reduced axes back as size one."""
    return reshape(g, tuple(1 if k in axis else size for k, size in enumerate(x.shape)))


def _wide(x: A) -> A:
    """X itself, or float16 as float32, in which counts and squares neither overflow nor round."""
    return cast(x, np.float32) if x.dtype == np.float16 else x


def _sum_rule(g: A, y: A, x: A, axis: tuple[int, ...], keepdims: bool) -> A:
    return broadcast_to(spread(g, x, axis), x.shape)


def _mean_rule(g: A, y: A, x: A, axis: tuple[int, ...], keepdims: bool) -> A:
    return broadcast_to(_wide(spread(g, x, axis)) / (_count(x, axis) or 1), x.shape)


def _count(x: AnyArray, axis: tuple[int, ...]) -> int:
    return math.prod(x.shape[k] for k in axis)


def _freedom(x: AnyArray, axis: tuple[int, ...], ddof: int) -> float:
    """The count less ddof, or NaN where that leaves nothing to divide by."""
    left = _count(x, axis) - ddof
    return left if left > 0 else math.nan


_mean_along = accumulating("mean")


def _mean_forward(xp: Any, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    """NaN where there is nothing to average, without NumPy's warning."""
    if _count(x, axis):
        return _mean_along(xp, x, axis=axis, keepdims=keepdims)
    return xp.sum(x, axis=axis, keepdims=keepdims) * math.nan


def _extreme_rule(g: A, y: A, x: A, axis: tuple[int, ...], keepdims: bool) -> A:
    """The cotangent goes to the extreme value, in equal shares where several are equal."""
    g = _wide(g)
    hit = cast(x == spread(y, x, axis), g.dtype)
    return hit * (spread(g, x, axis) / sum(hit, axis, keepdims=True))


def _prod_rule(g: A, y: A, x: A, axis: tuple[int, ...], keepdims: bool) -> A:
    """Each element's cotangent is the product of all others; zeros are no special case."""
    kept = tuple(k for k in range(x.ndim) if k not in axis)
    order = kept + axis
    rows = reshape(transpose(x, order), (*(x.shape[k] for k in kept), _count(x, axis)))
    shape = tuple(x.shape[k] for k in order)
    back = [order.index(k) for k in range(x.ndim)]
    mantissa, exponent = (transpose(reshape(part, shape), back) for part in product_of_others(rows))
    return ldexp_p(spread(g, x, axis) * mantissa, exponent)


def _norm_rule(g: A, y: A, x: A, axis: tuple[int, ...], keepdims: bool) -> A:
    length = spread(y, x, axis)
    return spread(g, x, axis) * (x / where(length == 0, 1.0, length))


def _norm_forward(xp: Any, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Scaled by the largest element, so that squares neither overflow nor vanish."""
    if x.size == 0:
        return xp.sqrt(xp.sum(x * x, axis=axis, keepdims=keepdims))
    scale = xp.max(xp.abs(x), axis=axis, keepdims=True)
    scale = xp.where((scale == 0) | ~xp.isfinite(scale), 1, scale).astype(x.dtype)
    ratio = x / scale
    length = xp.sqrt(sum_along(xp, ratio * ratio, axis=axis, keepdims=True)) * scale
    return length if keepdims else xp.squeeze(length, axis)


def _reduction(
    name: str,
    rule: Function | None,
    forward: Function | None = None,
    promote: Promotion | None = None,
) -> Primitive:
    def by_name(xp: Any, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
        return getattr(xp, name)(x, axis=axis, keepdims=keepdims)

    return Primitive(name, forward or by_name, [rule], promote=promote)


sum_p = _reduction("sum", _sum_rule, sum_along)
mean_p = _reduction("mean", _mean_rule, _mean_forward, as_floats)
max_p = _reduction("max", _extreme_rule)
min_p = _reduction("min", _extreme_rule)
prod_p = _reduction("prod", _prod_rule, accumulating("prod"))
norm_p = _reduction("norm", _norm_rule, _norm_forward, as_floats)
any_p = _reduction("any", None)
all_p = _reduction("all", None)
cumsum_p = Primitive(
    "cumsum",
    accumulating("cumsum"),
    [lambda g, y, x, axis: flip(cumsum(flip(g, axis), axis), axis)],
)
argmax_p = Primitive("argmax", lambda xp, x, axis: xp.argmax(x, axis=axis))
argmin_p = Primitive("argmin", lambda xp, x, axis: xp.argmin(x, axis=axis))


def sum(x: A, axis: Axis = None, keepdims: bool = False) -> A:
    """The sum over ``axis`` (all axes by default)."""
    return sum_p(x, axis=reduced_axes(axis, x, "sum"), keepdims=keepdims)


def mean(x: A, axis: Axis = None, keepdims: bool = False) -> A:
    """The arithmetic mean over ``axis`` (all axes by default)."""
    return mean_p(x, axis=reduced_axes(axis, x, "mean"), keepdims=keepdims)


def max(x: A, axis: Axis = None, keepdims: bool = False) -> A:
    """The largest value over ``axis``; its gradient is shared equally between equal maxima."""
    return max_p(x, axis=_nonempty(x, axis, "max"), keepdims=keepdims)


def min(x: A, axis: Axis = None, keepdims: bool = False) -> A:
    """The smallest value over ``axis``; its gradient is shared equally between equal minima."""
    return min_p(x, axis=_nonempty(x, axis, "min"), keepdims=keepdims)


def prod(x: A, axis: Axis = None, keepdims: bool = False) -> A:
    """The product over ``axis``; gradients are right for zeros too."""
    return prod_p(x, axis=reduced_axes(axis, x, "prod"), keepdims=keepdims)


def norm(x: A, *places: Never, axis: Axis = None, keepdims: bool = False) -> A:
    """The Euclidean norm over ``axis``, without overflow; its gradient at 0 is 0."""
    if places:
        raise TypeError(
            f"norm: norm(x, {places[0]!r}) names the order of the norm in PyTorch and NumPy; this "
            "one is Euclidean, and its axis is named: norm(x, axis=...)"
        )
    axes = reduced_axes(axis, x, "norm")
    return _in_float32(x, lambda x: norm_p(x, axis=axes, keepdims=keepdims))


def var(x: A, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> A:
    """The variance over ``axis``: sum (x - mean)^2 / (n - ddof)."""
    axes = reduced_axes(axis, x, "var")

    def function(x: A) -> A:
        centred = x - mean(x, axes, keepdims=True)
        return sum(square(centred), axes, keepdims) / _freedom(x, axes, ddof)

    return _in_float32(x, function)


def std(x: A, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> A:
    """The standard deviation over ``axis``; its gradient is 0 where all values are equal."""
    axes = reduced_axes(axis, x, "std")

    def function(x: A) -> A:
        centred = x - mean(x, axes, keepdims=True)
        return norm_p(centred, axis=axes, keepdims=keepdims) / math.sqrt(_freedom(x, axes, ddof))

    return _in_float32(x, function)


def _in_float32(x: A, function: Callable[[A], A]) -> A:
    """A function of floats, computed in float32 where x holds float16, whose squares overflow."""
    x = as_float(x)
    y = function(_wide(x))
    return y if y.dtype == x.dtype else cast(y, x.dtype)


def cumsum(x: A, axis: int | None = 0) -> A:
    """Running sums along one axis, or of the flat array for None, as of a single number."""
    if not dimensions(x, "cumsum") or axis is None:
        normalise_axis(0 if axis is None else axis, x, "cumsum", new=1)
        return cumsum_p(reshape(x, (-1,)), axis=0)
    return cumsum_p(x, axis=normalise_axis(axis, x, "cumsum"))


def any(x: A, axis: Axis = None, keepdims: bool = False) -> A:
    """Whether any element over ``axis`` is true."""
    return any_p(x, axis=reduced_axes(axis, x, "any"), keepdims=keepdims)


def all(x: A, axis: Axis = None, keepdims: bool = False) -> A:
    """Whether all elements over ``axis`` are true."""
    return all_p(x, axis=reduced_axes(axis, x, "all"), keepdims=keepdims)


def argmax(x: A, axis: int | None = None) -> A:
    """The index of the first largest value along ``axis`` (into the flat array by default)."""
    return _index(argmax_p, x, axis)


def argmin(x: A, axis: int | None = None) -> A:
    """The index of the first smallest value along ``axis`` (into the flat array by default)."""
    return _index(argmin_p, x, axis)


def _index(primitive: Primitive, x: A, axis: int | None) -> A:
    axes = _nonempty(x, axis, primitive.name)
    if axis is None or not axes:
        return primitive(reshape(x, (-1,)), axis=0)
    return primitive(x, axis=axes[0])


def _nonempty(x: AnyArray, axis: Axis, who: str) -> tuple[int, ...]:
    axes = reduced_axes(axis, x, who)
    if _count(x, axes) == 0:
        raise ValueError(f"{who}: there is no element over axes {axes} of shape {tuple(x.shape)}")
    return axes
