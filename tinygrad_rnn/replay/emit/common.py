"""What the emitters share: the kinds of functions that they make, places, numbers, operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from tinygrad_rnn.backends import Array, Backend
from tinygrad_rnn.replay.program.loop import DType, Ref, Step

CompiledLoop: TypeAlias = Callable[[Sequence[Array], int], None]
"""A loop that runs: a function of its arrays and of the number of time steps."""
StepAt: TypeAlias = Callable[[int], Any]
"""One step of a loop on arrays that it holds: a function of the time t."""
CompiledStep: TypeAlias = Callable[[Sequence[Array]], StepAt]
"""One step of a loop by itself; what it writes, its buffers too, belongs to the call."""
Fallback: TypeAlias = Callable[[Step], CompiledStep]
"""What makes something of a step that an emitter cannot compile."""


class Unsupported(ValueError):
    """Something that an emitter cannot translate; the message says what."""


def view(ref: Ref, array: Array, backend: Backend, first: int, steps: int) -> Array:
    """A Ref as an array; where it is stacked, at so many time steps from ``first`` on."""
    if ref.time is None:
        return backend.strided(array, ref.shape, ref.strides, ref.offset)
    per_step = array.size // max(array.shape[0], 1)
    offset = ref.offset + (first + ref.time) * per_step
    return backend.strided(array, (steps, *ref.shape), (per_step, *ref.strides), offset)


# What Python for Numba and CUDA C write alike


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


def rounded(number: float | int | bool, dtype: DType) -> Any:
    """A Python number as one of the dtype; raises Unsupported for what no integer of it is."""
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        if not limits.min <= number <= limits.max or number != int(number):
            raise Unsupported(f"{number} is no {dtype}")
    with np.errstate(over="ignore"):
        return np.asarray(number).astype(dtype)[()]


def variable(name: str, phase: int) -> str:
    """What a name of a kernel's phase is in the source: "v3.1" of the first phase is v3_1_0."""
    return f"{name.replace('.', '_')}_{phase}"


def accumulated(number: int, phase: int) -> str:
    """What holds a reduction of a kernel's phase in the source."""
    return f"a{number}_{phase}"


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
