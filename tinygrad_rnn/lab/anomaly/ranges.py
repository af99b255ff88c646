"""The values of an operand in a few numbers: smallest, largest, how many are not finite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.backends import Array, backend_of, there, to_host
from tinygrad_rnn.tape import Traced


class Range(NamedTuple):
    """What a value holds.

    Attributes
    ----------
    name : what it is called; None where it has no name.
    dtype, shape : those of an array; None and () of a number.
    low, high : the smallest and the largest finite element, None where there is none.
    nan, inf, minus_inf : how many elements are NaN, infinite, and infinite below 0.
    size : the number of elements.
    """

    name: str | None
    dtype: str | None
    shape: tuple[int, ...]
    low: float | None
    high: float | None
    nan: int
    inf: int
    minus_inf: int
    size: int

    @property
    def is_finite(self) -> bool:
        """Whether every element is a finite number."""
        return not (self.nan or self.inf or self.minus_inf)

    @property
    def holds(self) -> str:
        """``nan``, ``inf`` or ``-inf``: the worst that it holds; "" where all is finite."""
        return "nan" * bool(self.nan) or "inf" * bool(self.inf) or "-inf" * bool(self.minus_inf)

    def __str__(self) -> str:
        """For reading: ``x float64 (2, 3) 1 of 6 nan, else from -1 to 2``."""
        kinds = ("nan", self.nan), ("inf", self.inf), ("-inf", self.minus_inf)
        worse = [f"{count:,} of {self.size:,} {kind}" for kind, count in kinds if count]
        if self.dtype is None:
            value = "".join(kind for kind, count in kinds if count) or f"{self.low:.4g}"
            return f"{self.name} = {value}" if self.name else value
        span = "" if self.low is None else f"from {self.low:.4g} to {self.high:.4g}"
        if self.low is not None and self.low == self.high:
            span = f"{'all ' * self.is_finite}{self.low:.4g}"
        rest = f"else {span}" if span and worse else span
        holds = ", ".join(filter(None, (*worse, rest)))
        return " ".join(filter(None, (self.name, self.dtype, str(self.shape), holds)))


def range_of(value: Any, name: str | None = None) -> Range:
    """What an array, a Tensor or a number holds."""
    values = host(value)
    kind = str(values.dtype) if hasattr(array_of(value), "dtype") else None
    numbers = values.astype(np.float64) if values.dtype.kind != "f" else values
    finite = numbers[np.isfinite(numbers)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
    nan, inf = int(np.isnan(numbers).sum()), int(np.isposinf(numbers).sum())
    below = values.size - finite.size - nan - inf
    return Range(name, kind, tuple(values.shape), low, high, nan, inf, below, values.size)


def array_of(value: Any) -> Any:
    """The array behind a Tensor; what is none, as it is."""
    return value.array if isinstance(value, Traced) else value


def host(value: Any) -> Any:
    """The values of an operand on the host."""
    array = array_of(value)
    return np.asarray(to_host(array) if hasattr(array, "dtype") else array)


def bad_elements(value: Any) -> Any:
    """Where a value is not finite, as bools on the host."""
    values = host(value)
    return ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(values.shape, np.bool_)


def first_index(bad: Any) -> tuple[int, ...]:
    """The place of the first True."""
    return tuple(int(k) for k in np.unravel_index(int(np.argmax(bad)), bad.shape))


def spread_out(values: Any, shape: tuple[int, ...]) -> Any:
    """Values broadcast to a shape, None where they do not fit it."""
    try:
        return np.broadcast_to(values, shape)
    except ValueError:
        return None


@there
def _all_finite(array: Array) -> bool:
    backend = backend_of(array)
    return bool(backend.to_host(backend.xp.all(backend.xp.isfinite(array))))


def is_finite(value: Any) -> bool:
    """Whether no element is infinite or NaN; what holds no floating numbers is finite."""
    array = array_of(value)
    if isinstance(array, float):
        return bool(np.isfinite(array))
    return not (hasattr(array, "dtype") and array.dtype.kind == "f") or _all_finite(array)


def all_finite(values: Iterable[Any]) -> bool:
    """Whether :func:`is_finite` is true of all of them."""
    return all(map(is_finite, values))


def has_part(given: Any, value: Any, t: int | None) -> bool:
    """Whether an array is a value, or has it at time step t, at any step for None."""
    values = host(value)
    if getattr(given, "shape", None) == values.shape:
        parts = (given,)
    elif getattr(given, "shape", ())[1:] == values.shape:
        parts = given if t is None else given[t : t + 1]
    else:
        return False
    return any(np.array_equal(host(part), values, equal_nan=True) for part in parts)
