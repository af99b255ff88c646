"""What the compiling emitters share: operators, numbers, and how they refuse what they have not."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from tinygrad_rnn.replay.program.loop import DType


def _between(**signs: str) -> dict[str, str]:
    return {name: f"({{a}} {sign} {{b}})" for name, sign in signs.items()}


_ALL = _between(
    equal="==", not_equal="!=", less="<", less_equal="<=", greater=">", greater_equal=">="
) | {"cast": "{a}"}
_LOGIC = _between(bitwise_and="&", bitwise_or="|", bitwise_xor="^")
_ARITHMETIC = _between(add="+", subtract="-", multiply="*") | {"negative": "(-{a})"}

OPERATORS: dict[str, dict[str, str]] = {
    "b": _ALL | _LOGIC,
    "i": _ALL | _ARITHMETIC | _LOGIC | {"invert": "(~{a})"},
    "f": _ALL | _ARITHMETIC | _between(divide="/"),
}
"""The text of a function of ``a`` and ``b``, by the kind of their dtype."""


class Unsupported(ValueError):
    """Something that an emitter cannot translate; the message says what."""


def rounded(number: float | int | bool, dtype: DType) -> Any:
    """A Python number as one of the dtype; raises Unsupported for what no integer of it is."""
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        if not limits.min <= number <= limits.max or number != int(number):
            raise Unsupported(f"{number} is no {dtype}")
    with np.errstate(over="ignore"):
        return np.asarray(number).astype(dtype)[()]


def identity(reduction: Literal["sum", "max", "min"], dtype: DType) -> float | int | bool:
    """What a reduction of nothing gives, and every other begins with."""
    if reduction == "sum":
        return 0
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        return int(limits.min if reduction == "max" else limits.max)
    if dtype.kind == "b":
        return reduction == "min"
    return -math.inf if reduction == "max" else math.inf
