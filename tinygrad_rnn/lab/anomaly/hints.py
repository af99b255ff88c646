"""Known remedies: what to write instead where an operation makes a nan or an infinity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.lab.anomaly.ranges import Range

HALF = "float16 holds no more than 65504: compute this in float32, or scale by a LossScale"

HALF_BACK = "float16 holds no more than 65504: the gradient has overflowed; lower the loss scale"


class Case(NamedTuple):
    """What a hint is chosen by.

    ``value`` is what was made, ``at`` what each operand holds at the elements in question: arrays
    for operations on each element by itself, else all that the operand holds; ``ranges`` describe
    the operands, ``params`` are those of the operation.
    """

    value: str
    at: Sequence[Any]
    ranges: Sequence[Range]
    params: dict[str, Any]
    dtype: str

    def first(self, k: int) -> float:
        """The operand k at the first element in question, NaN where there is none."""
        values = np.asarray(self.at[k]) if k < len(self.at) else np.empty(0)
        return float(values.flat[0]) if values.size else math.nan


Hint = Callable[[Case], str | None]

OWNED = {
    "parameter": "an update or a file made it so: load a checkpoint from before, and lower the "
    "learning rate or clip the gradient",
    "buffer": "it is made of what was seen before: load a checkpoint from before",
}
"""What to do about what is not finite in a model itself, by its kind."""


def hint_for(operation: str, backward: bool, case: Case) -> str | None:
    """What is known to help, None where nothing is."""
    table = _BACKWARD if backward else _FORWARD
    found = table[operation](case) if operation in table else None
    if found is not None or "inf" not in case.value or not _may_overflow(case):
        return found
    if case.dtype == "float16":
        return HALF_BACK if backward else HALF
    if all(r.is_finite for r in case.ranges):
        return f"it overflows {case.dtype}, in which values or weights have become too large: " + (
            "clip the gradient, or lower the learning rate"
        )
    return None


def _may_overflow(case: Case) -> bool:
    """Whether the operands are large enough: small ones have come to a pole."""
    ends = [abs(end) for r in case.ranges for end in (r.low, r.high) if end is not None]
    top, size = max(ends, default=0.0), max((r.size for r in case.ranges), default=0)
    limit = float(np.finfo(case.dtype).max)
    return top > math.log(limit) or size * top * top > limit


def _log(case: Case) -> str:
    if case.first(0) == 0:
        return (
            "log of 0 is -inf: tg.log(tg.maximum(x, 1e-12)); of probabilities, take "
            "tg.log_softmax of the scores"
        )
    return "log of a number below 0 is nan: what is to keep it positive? tg.exp or tg.softplus do"


def _log1p(case: Case) -> str:
    return "log1p wants numbers above -1: of -1 it is -inf, below nan"


def _sqrt(case: Case) -> str:
    return (
        "sqrt of a number below 0 is nan: where that is a rounding error of 0, "
        "tg.sqrt(tg.maximum(x, 0)); a difference of squares is better tg.var or tg.std"
    )


def _divide(case: Case) -> str | None:
    top, below = case.first(0), case.first(1)
    if below == 0:
        what = "0 / 0" if top == 0 else "division by 0"
        row = ", as where a mask counts nothing in a row, or a norm is 0" if top == 0 else ""
        return f"{what}{row}: divide by tg.where(b == 0, 1, b), or by b + 1e-8"
    if abs(below) < 1 and "inf" in case.value:
        return "division by a number that is nearly 0: divide by b + 1e-8"
    if math.isinf(top) and math.isinf(below):
        return "inf / inf is nan: both have overflowed; take tg.softmax or tg.sigmoid of the scores"
    return None


def _exp(case: Case) -> str:
    limit = math.log(float(np.finfo(case.dtype).max))
    half = f"; {HALF}" if case.dtype == "float16" else ""
    return (
        f"exp overflows {case.dtype} above {limit:.4g}: subtract the largest value first, as "
        f"tg.softmax, tg.logsumexp and tg.sigmoid do{half}"
    )


def _power(case: Case) -> str | None:
    base = case.first(0)
    if base == 0:
        return "0 to a negative power is inf: add a small number to the base"
    if base < 0:
        return "a negative base to a power that is no integer is nan: take tg.abs of it"
    return None


def _zero_times(case: Case) -> str | None:
    a, b = case.first(0), case.first(1)
    if {0.0} & {a, b} and (math.isinf(a) or math.isinf(b)):
        return (
            "0 times inf is nan: a mask is not multiplied but chosen, "
            "tg.where(mask, scores, -math.inf)"
        )
    return None


def _inf_less_inf(case: Case) -> str | None:
    a, b = case.first(0), case.first(1)
    if math.isinf(a) and math.isinf(b):
        row = ": all of a row is masked" if a < 0 else ""
        return f"inf - inf is nan{row}; tg.softmax and tg.logsumexp take rows of -inf"
    return None


def _softmax(case: Case) -> str | None:
    if case.ranges and case.ranges[0].inf:
        return "a score of +inf leaves nothing to divide: masks are -inf, and scores finite"
    return None


def _log_softmax(case: Case) -> str | None:
    if case.ranges and case.ranges[0].minus_inf and not case.ranges[0].inf:
        return "what is masked with -inf stays so: choose what is not, tg.where(mask, logs, 0.0)"
    return _softmax(case)


def _cross_entropy(case: Case) -> str | None:
    if case.ranges and case.ranges[0].minus_inf:
        return (
            "the logit of a label is -inf, in a row or a class that is masked: leave it out with "
            "mask= or ignore_index="
        )
    return _softmax(case)


def _masked_row(case: Case) -> str | None:
    if case.ranges and case.ranges[0].minus_inf:
        return "all of a row is masked with -inf: leave the row out, tg.where(row.any(), ..., 0)"
    return None


def _mean(case: Case) -> str | None:
    if case.ranges and not case.ranges[0].size:
        return "the mean of nothing is nan"
    return None


def _prod(case: Case) -> str | None:
    if "inf" in case.value:
        return "a product of many numbers overflows: take the sum of their logarithms"
    return None


def _cast(case: Case) -> str | None:
    return HALF if case.dtype == "float16" else None


_FORWARD: dict[str, Hint] = {
    "log": _log,
    "log1p": _log1p,
    "sqrt": _sqrt,
    "divide": _divide,
    "remainder": _divide,
    "floor_divide": _divide,
    "exp": _exp,
    "expm1": _exp,
    "power": _power,
    "multiply": _zero_times,
    "add": _inf_less_inf,
    "subtract": _inf_less_inf,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _masked_row,
    "max": _masked_row,
    "cross_entropy": _cross_entropy,
    "mean": _mean,
    "cast": _cast,
    "prod": _prod,
}


def _sqrt_back(case: Case) -> str | None:
    if case.first(0) == 0:
        return (
            "the derivative of sqrt at 0 is infinite: tg.sqrt(x + 1e-12); a root of a sum of "
            "squares is tg.norm, whose gradient at 0 is 0"
        )
    return None


def _log_back(case: Case) -> str | None:
    if case.first(0) == 0:
        return "the derivative of log at 0 is infinite: tg.log(tg.maximum(x, 1e-12))"
    return None


def _divide_back(case: Case) -> str | None:
    if case.first(1) == 0:
        return "division by 0: divide by tg.where(b == 0, 1, b), or by b + 1e-8"
    return None


def _power_back(case: Case) -> str | None:
    base = case.first(0)
    if base == 0:
        return "the derivative of x ** p with p < 1 is infinite at 0: add a small number to x"
    if base < 0:
        return "the derivative by the exponent takes the log of the base: nan where that is below 0"
    return None


def _exp_back(case: Case) -> str | None:
    return _exp(case) if case.first(0) > 0 else None


_BACKWARD: dict[str, Hint] = {
    "sqrt": _sqrt_back,
    "log": _log_back,
    "divide": _divide_back,
    "power": _power_back,
    "exp": _exp_back,
    "expm1": _exp_back,
}


def safe_branch(operation: str) -> str:
    """What to do about a branch of a ``where`` that is not taken, and yet gives nan."""
    inner = f"tg.{operation}(tg.where(c, x, 1.0))"
    if operation == "divide":
        inner = "a / tg.where(c, b, 1.0)"
    elif operation == "power":
        inner = "tg.where(c, x, 1.0) ** p"
    return (
        "a branch that is not taken is computed all the same: give it numbers that are safe, as in "
        f"tg.where(c, {inner}, 0.0)"
    )
