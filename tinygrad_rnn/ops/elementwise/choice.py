"""One value or another: maximum, minimum, where, clip."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops.arrays import A, AnyArray
from tinygrad_rnn.ops.elementwise.declaration import elementwise
from tinygrad_rnn.ops.promotion import INTEGER, cast, common_dtype, dtype_of, promotion, together
from tinygrad_rnn.tape import Primitive, Traced

_TRUTH = np.dtype(np.bool_)
_last_two = promotion(start=1)


def _branches(who: str, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The two branches meet, whatever the condition is; what is not 0 counts as true."""
    condition = inputs[0]
    if getattr(condition, "dtype", _TRUTH) is not _TRUTH:
        inputs = (cast(condition, _TRUTH), *inputs[1:])
    return _last_two(who, inputs)


def _where(xp: Any, condition: Array, a: Any, b: Any) -> Array:
    y = xp.where(condition, a, b)
    if dtype_of(a) is None and dtype_of(b) is None:
        y = y.astype(common_dtype((a, b), "where"))
    return y


def _to_first(g: AnyArray, y: AnyArray, condition: AnyArray, *branches: Any) -> AnyArray:
    return where(condition, g, 0.0)


def _to_second(g: AnyArray, y: AnyArray, condition: AnyArray, *branches: Any) -> AnyArray:
    return where(condition, 0.0, g)


@elementwise("select(x0, x1, x2)", None, _to_first, _to_second, forward=_where, promote=_branches)
def where(condition: AnyArray | bool, a: A | float, b: A | float, /) -> A:
    """``a`` where the condition is true (or not 0), else ``b``; the gradient goes the same way."""
    ...


def _larger(g: AnyArray, a: AnyArray, b: AnyArray) -> AnyArray:
    """The cotangent of ``a`` in maximum(a, b): all of it, or half where the two are equal."""
    return where(a > b, g, where(a == b, 0.5 * g, 0.0))


@elementwise(
    "maximum(x0, x1)",
    lambda g, y, a, b: _larger(g, a, b),
    lambda g, y, a, b: _larger(g, b, a),
)
def maximum(a: A | float, b: A | float, /) -> A:
    """The larger of the two; where they are equal each gets half of the gradient."""
    ...


@elementwise(
    "minimum(x0, x1)",
    lambda g, y, a, b: _larger(g, b, a),
    lambda g, y, a, b: _larger(g, a, b),
)
def minimum(a: A | float, b: A | float, /) -> A:
    """The smaller of the two; where they are equal each gets half of the gradient."""
    ...


clip_p = Primitive(
    "clip",
    lambda xp, x, low, high: xp.minimum(xp.maximum(x, low), high),
    [lambda g, y, x, low, high: where((x >= low) & (x <= high), g, 0.0)],
    kernel="minimum(maximum(x0, low), high)",
    promote=together,
)


def _bound(value: Any) -> Any:
    """A Python number or None, for a bound that may be one of NumPy's numbers."""
    if getattr(value, "ndim", 0) or isinstance(value, Traced):
        raise TypeError("clip: low and high must be numbers; use maximum and minimum for arrays")
    return value.item() if hasattr(value, "dtype") else value


def clip(x: A, low: float | None = None, high: float | None = None) -> A:
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
