"""The operations of kernels in CUDA C: types, numbers, casts, and the functions that they call.

float16 is stored as two bytes and computed as a float that is rounded after each line. What C
leaves open follows NumPy: nan goes through maximum and minimum, a remainder has the sign of the
divisor, integers divided by 0 give 0. The functions named ``loop_`` are in the preamble.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinygrad_rnn.ops.kernel_language import COMPARISONS, LOGIC, PREDICATES
from tinygrad_rnn.replay.program.loop import DType

_VALUE = {
    "bool": "bool",
    "int32": "int",
    "int64": "long long",
    "float16": "float",
    "float32": "float",
    "float64": "double",
}
BOOL, FLOAT = np.dtype(np.bool_), np.dtype(np.float32)

_ROUNDINGS = {"floor": "floor", "ceil": "ceil", "round": "rint"}
_FUNCTIONS = ("exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "tanh", "erf")
_SIGNS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/",
    "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^",
    "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">",
    "greater_equal": ">=",
}  # fmt: skip
_BETWEEN_BOOLS = {"add": "||", "multiply": "&&"}


def value_type(dtype: DType) -> str:
    """The C type of a value in a register."""
    if dtype.name not in _VALUE:
        raise ValueError(f"CUDA kernel: dtype {dtype} is not one of {', '.join(_VALUE)}")
    return _VALUE[dtype.name]


def stored_type(dtype: DType) -> str:
    """The C type of an element of an array."""
    return "unsigned short" if dtype == np.float16 else value_type(dtype)


def to_half(text: str, source: DType) -> str:
    """The two bytes of a value as a float16."""
    return f"loop_to_half({text if source.kind == 'f' else f'(float)({text})'})"


def cast(text: str, source: DType, target: DType) -> str:
    """A value of one dtype as a value of another one."""
    if source == target:
        return text
    if target == np.float16:
        return f"loop_from_half({to_half(text, source)})"
    if target == np.bool_:
        return f"({text} != 0)"
    if source == np.float16 and target == np.float32:
        return text
    return f"({value_type(target)})({text})"


def literal(number: float, dtype: DType) -> str:
    """A Python number, rounded to a dtype."""
    if dtype == np.bool_:
        return "true" if number else "false"
    if dtype.kind in "iu":
        whole = int(number)
        if whole != number or not np.iinfo(dtype).min <= whole <= np.iinfo(dtype).max:
            raise ValueError(f"CUDA kernel: {number} is no {dtype}")
        lowest = int(np.iinfo(np.int64).min)
        text = f"({lowest + 1}LL - 1)" if whole == lowest else f"{whole}LL"
        return f"({value_type(dtype)})({text})"
    with np.errstate(over="ignore"):
        value = dtype.type(number)
    kind = value_type(dtype)
    if math.isnan(value):
        return f"({kind})loop_nan()"
    if math.isinf(value):
        return f"({kind})loop_infinity()" if value > 0 else f"(-({kind})loop_infinity())"
    text = repr(float(value)) if kind == "double" else f"{np.float32(value)!s}f"
    return f"({text})" if text.startswith("-") else text


def operation(function: str, x: Sequence[str], compute: DType) -> tuple[str, DType]:
    """One operation on operands that are in ``compute`` already, and the dtype of its result.

    A float16 is to be rounded yet: its result is a float32.
    """
    kind = value_type(compute)
    if function == "cast":
        return x[0], compute
    if function == "select":
        return f"({x[0]} ? {x[1]} : {x[2]})", compute
    if function in PREDICATES:
        return f"loop_{function}({x[0]})", BOOL
    if function in COMPARISONS:
        return f"({x[0]} {_SIGNS[function]} {x[1]})", BOOL
    write = {"b": _of_bools, "i": _of_integers, "f": _of_floats}[compute.kind]
    text = write(function, x, kind)
    if text is None:
        raise ValueError(f"CUDA kernel: {function} of a {kind} is unknown")
    return text, FLOAT if compute == np.float16 else compute


def _of_bools(function: str, x: Sequence[str], kind: str) -> str | None:
    if function in _BETWEEN_BOOLS:
        return f"({x[0]} {_BETWEEN_BOOLS[function]} {x[1]})"
    if function in ("maximum", "minimum"):
        return f"loop_{function}<bool>({x[0]}, {x[1]})"
    if function == "invert":
        return f"(!{x[0]})"
    if function in ("abs", *_ROUNDINGS):
        return x[0]
    if function in LOGIC:
        return f"(bool)({x[0]} {_SIGNS[function]} {x[1]})"
    return None


def _of_integers(function: str, x: Sequence[str], kind: str) -> str | None:
    if function in _ROUNDINGS:
        return x[0]
    if function == "invert":
        return f"(~{x[0]})"
    if function == "remainder":
        return f"loop_remainder<{kind}>(loop_modulo<{kind}>({x[0]}, {x[1]}), {x[1]})"
    if function in ("floor_divide", "power"):
        return f"loop_{function}<{kind}>({x[0]}, {x[1]})"
    return _arithmetic(function, x, kind)


def _of_floats(function: str, x: Sequence[str], kind: str) -> str | None:
    suffix = "f" if kind == "float" else ""
    if function in _ROUNDINGS:
        return f"{_ROUNDINGS[function]}{suffix}({x[0]})"
    if function in _FUNCTIONS:
        return f"{function}{suffix}({x[0]})"
    if function == "sigmoid":
        return f"(1 / (1 + exp{suffix}(-{x[0]})))"
    if function == "power":
        return f"pow{suffix}({x[0]}, {x[1]})"
    if function == "abs":
        return f"fabs{suffix}({x[0]})"
    if function == "remainder":
        return f"loop_remainder<{kind}>(fmod{suffix}({x[0]}, {x[1]}), {x[1]})"
    if function == "floor_divide":
        rest = f"fmod{suffix}({x[0]}, {x[1]})"
        return f"rint{suffix}(loop_ratio<{kind}>({x[0]}, {x[1]}, {rest}))"
    return None if function in LOGIC else _arithmetic(function, x, kind)


def _arithmetic(function: str, x: Sequence[str], kind: str) -> str | None:
    """What is the same for integers and floats."""
    if function in _SIGNS:
        return f"({x[0]} {_SIGNS[function]} {x[1]})"
    if function == "negative":
        return f"(-{x[0]})"
    if function in ("maximum", "minimum", "abs", "sign"):
        return f"loop_{function}<{kind}>({', '.join(x)})"
    return None
