"""The operations of kernels in CUDA C: types, numbers, casts, and the text of each function.

float16 is stored as two bytes and computed as a float that is rounded after each line. What C
leaves open follows NumPy: nan goes through maximum and minimum, a remainder has the sign of the
divisor, integers divided by 0 give 0. The functions named ``loop_`` are in the preamble.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinygrad_rnn.replay.emit.common import OPERATORS, Unsupported, rounded
from tinygrad_rnn.replay.program.loop import DType, Line

_VALUE = {
    "bool": "bool",
    "int32": "int",
    "int64": "long long",
    "float16": "float",
    "float32": "float",
    "float64": "double",
}
BOOL, FLOAT, HALF = np.dtype(np.bool_), np.dtype(np.float32), np.dtype(np.float16)

_OF_FLOATS = {
    **{name: f"{name}{{f}}({{a}})" for name in (
        "exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "tanh", "erf", "floor", "ceil"
    )},
    "round": "rint{f}({a})",
    "abs": "fabs{f}({a})",
    "sigmoid": "(1 / (1 + exp{f}(-{a})))",
    "power": "pow{f}({a}, {b})",
    "remainder": "loop_remainder<{type}>(fmod{f}({a}, {b}), {b})",
    "floor_divide": "rint{f}(loop_ratio<{type}>({a}, {b}, fmod{f}({a}, {b})))",
    "isnan": "loop_isnan({a})",
    "isfinite": "loop_isfinite({a})",
}  # fmt: skip
_OF_INTEGERS = {
    "abs": "loop_abs<{type}>({a})",
    "remainder": "loop_remainder<{type}>(loop_modulo<{type}>({a}, {b}), {b})",
    **{name: f"loop_{name}<{{type}}>({{a}}, {{b}})" for name in ("floor_divide", "power")},
}
_OF_BOTH = {
    "sign": "loop_sign<{type}>({a})",
    **{name: f"loop_{name}<{{type}}>({{a}}, {{b}})" for name in ("maximum", "minimum")},
}
TEXTS = {
    kind: OPERATORS[kind] | texts | {"select": "({a} ? {b} : {c})"}
    for kind, texts in {"f": _OF_FLOATS | _OF_BOTH, "i": _OF_INTEGERS | _OF_BOTH, "b": {}}.items()
}
"""Every function, by the kind of its operands."""


def value_type(dtype: DType) -> str:
    """The C type of a value in a register."""
    if dtype.name not in _VALUE:
        raise Unsupported(f"dtype {dtype} is not one of {', '.join(_VALUE)}")
    return _VALUE[dtype.name]


def stored_type(dtype: DType) -> str:
    """The C type of an element of an array."""
    return "unsigned short" if dtype == HALF else value_type(dtype)


def to_half(text: str, source: DType) -> str:
    """The two bytes of a value as a float16."""
    return f"loop_to_half({text if source.kind == 'f' else f'(float)({text})'})"


def cast(text: str, source: DType, target: DType) -> str:
    """A value of one dtype as a value of another one."""
    if source == target:
        return text
    if target == HALF:
        return f"loop_from_half({to_half(text, source)})"
    if target == BOOL:
        return f"({text} != 0)"
    if source == HALF and target == FLOAT:
        return text
    return f"({value_type(target)})({text})"


def literal(number: float, dtype: DType) -> str:
    """A Python number, rounded to a dtype."""
    value, kind = rounded(number, dtype), value_type(dtype)
    if dtype == BOOL:
        return "true" if value else "false"
    if dtype.kind == "i":
        lowest = int(np.iinfo(np.int64).min)
        text = f"({lowest + 1}LL - 1)" if value == lowest else f"{value}LL"
        return f"({kind})({text})"
    if math.isnan(value):
        return f"({kind})loop_nan()"
    if math.isinf(value):
        return f"({kind})loop_infinity()" if value > 0 else f"(-({kind})loop_infinity())"
    text = repr(float(value)) if kind == "double" else f"{np.float32(value)!s}f"
    return f"({text})" if text.startswith("-") else text


def operation(function: str, operands: Sequence[str], compute: DType) -> str:
    """A function of operands that are in ``compute``; of float16 a float, which is yet to be
    rounded.
    """
    kind = value_type(compute)
    text = TEXTS[compute.kind].get(function)
    if text is None:
        raise Unsupported(f"{function} of a {kind} is unknown")
    given = dict(zip("abc", operands, strict=False))
    return text.format(type=kind, f="f" if kind == "float" else "", **given)


def line_text(line: Line, values: dict[str, tuple[str, DType]]) -> str:
    """The value of a line in its dtype, for values of which texts and dtypes are known."""
    operands = [
        cast(*values[x], to) if isinstance(x, str) else literal(x, to)
        for x, to in zip(line.operands, line.operand_dtypes, strict=True)
    ]
    text = operation(line.function, operands, line.compute)
    if line.function in ("cast", "select"):
        return cast(text, line.compute, line.dtype)
    return cast(text, FLOAT, HALF) if line.dtype == HALF else text
