"""The dtype in which operands meet, and the cast that brings them there.

The rule is PyTorch's: bool < integer < float. Among Tensors and arrays the widest dtype of the
highest kind decides, whatever their shapes. A Python number can raise the kind, to int64 or
float32, and never the width. An operation sees operands of one dtype only: what had another is
cast first, by a line of its own on the tape, so that gradient rules and the replay never promote.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_rnn.ops.arrays import A
from tinygrad_rnn.ops.kernel_language import plain
from tinygrad_rnn.tape import Primitive, Promotion, Traced

BOOL, INTEGER, FLOAT = range(3)
"""The kinds of numbers, each of which holds those before it."""

DEFAULTS = (np.dtype(np.bool_), np.dtype(np.int64), np.dtype(np.float32))
"""The dtype of a kind that only a Python number, or the operation itself, asks for."""

_KINDS = {"b": BOOL, "u": INTEGER, "i": INTEGER, "f": FLOAT}
_PLAIN = frozenset((float, int))


def _cast(xp: Any, x: Any, dtype: Any) -> Any:
    """What float16 cannot hold is inf, of which NumPy, alone among the backends, would warn."""
    if dtype != np.float16:
        return x.astype(dtype)
    with np.errstate(over="ignore"):
        return x.astype(dtype)


cast_p = Primitive(
    "cast",
    _cast,
    [lambda g, y, x, dtype: cast(g, x.dtype)],
    doc="cast(x, dtype): the same values in another dtype",
)


def cast(x: A, dtype: Any) -> A:
    """The same values in another dtype; the gradient is cast back."""
    return cast_p(x, dtype=np.dtype(dtype))


def dtype_of(x: Any) -> np.dtype[Any] | None:
    """The dtype of a Tensor or an array, None for all else."""
    return getattr(x.array if isinstance(x, Traced) else x, "dtype", None)


def _kind(dtype: np.dtype[Any], who: str) -> int:
    kind = _KINDS.get(dtype.kind)
    if kind is None or dtype.itemsize > 8:
        raise TypeError(
            f"{who}: expected floats of up to 64 bits, integers or bools, got an array of {dtype}"
        )
    return kind


def _kind_of_number(x: object) -> int:
    if isinstance(x, bool):
        return BOOL
    return INTEGER if isinstance(x, numbers.Integral) else FLOAT


def common_dtype(operands: Iterable[Any], who: str, lowest: int = BOOL) -> np.dtype[Any]:
    """The dtype in which operands meet: Tensors, arrays and Python's numbers.

    ``lowest`` is the kind that the operation needs at least. Integers meet as in NumPy, but for
    uint64 and a signed dtype, which have no integer dtype that holds both.
    """
    highest, asked = -1, lowest
    widest = DEFAULTS[lowest]
    for x in operands:
        dtype = dtype_of(x)
        if dtype is None:
            if isinstance(x, numbers.Real):
                asked = max(asked, _kind_of_number(x))
            continue
        kind = _kind(dtype, who)
        if kind > highest:
            highest, widest = kind, dtype
        elif kind == highest and dtype is not widest:
            found = np.promote_types(widest, dtype)
            if found.kind == "f" and kind != FLOAT:
                raise TypeError(
                    f"{who}: {widest} and {dtype} have no common integer dtype; cast one of the "
                    "two with .astype(...)"
                )
            widest = found
    return widest if highest >= asked else DEFAULTS[asked]


def _plain(x: Any, traced: bool) -> Any:
    """An operand with its numbers as Python has them.

    Beside Tensors NumPy's scalars are numbers. Among raw arrays they are NumPy's 0-d results.
    """
    number = plain(x) if traced or not issubclass(type(x), np.generic) else None
    return x if number is None else number


def promotion(lowest: int = BOOL, start: int = 0) -> Promotion:
    """The promotion of a primitive whose operands meet, from number ``start`` on."""

    def promote(who: str, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        operands = inputs[start:] if start else inputs
        known = None
        for x in operands:
            if x.__class__ in _PLAIN:
                continue
            dtype = getattr(x, "dtype", None)
            if dtype is not known:
                if known is not None or dtype is None or dtype.kind != "f":
                    break
                known = dtype
        else:
            return inputs  # floats of one dtype and numbers: the common case, in a moment
        if len(operands) == 1 and lowest == BOOL:
            return inputs
        traced = any(isinstance(x, Traced) for x in inputs)
        operands = [_plain(x, traced) for x in operands]
        dtype = common_dtype(operands, who, lowest)
        found = [
            x if dtype_of(x) is None or dtype_of(x) == dtype else cast(x, dtype) for x in operands
        ]
        return (*inputs[:start], *found)

    return promote


def as_float(x: A) -> A:
    """X itself, or in float32 where it holds integers or bools."""
    return x if x.dtype.kind == "f" else cast(x, DEFAULTS[FLOAT])


together = promotion()
"""All operands meet."""

as_integers = promotion(INTEGER)
"""All operands meet, and bools among themselves in int64."""

as_floats = promotion(FLOAT)
"""All operands meet, and integers and bools among themselves in float32."""
