"""The operations of kernels as Python for Numba: numbers, casts, and the text of each function."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np

from tinygrad_rnn.ops.kernel_language import COMPARISONS, PREDICATES
from tinygrad_rnn.replay.emit.common import OPERATORS, Unsupported, rounded
from tinygrad_rnn.replay.program.loop import DType

CODES = {np.dtype(code).str[1:]: np.dtype(code) for code in ("f4", "f8", "i4", "i8", "?")}
"""The dtypes that can be compiled, by the codes that name them in the source."""
COMMON = (0, 1, -1, 2, 0.5, math.inf, -math.inf)

_OF_FLOATS = {
    "exp": "{exp}({a})",
    "tanh": "{tanh}({a})",
    "sigmoid": "({one} / ({one} + {exp}(-{a})))",
    **{name: f"math.{name}({{a}})" for name in ("log", "log1p", "expm1", "sin", "cos", "erf")},
    **{name: f"{name}({{a}})" for name in ("sqrt", "floor", "ceil")},
    "round": "rint({a})",
    "abs": "fabs({a})",
    "isnan": "({a} != {a})",
    "isfinite": "(fabs({a}) < {type}(math.inf))",
    "sign": "select({a} > {zero}, {one}, "
    "select({a} < {zero}, {minus_one}, select({a} == {zero}, {zero}, {a})))",
    **{name: f"{name}({{a}}, {{b}})" for name in ("maximum", "minimum")},
    "power": "({a} ** {b})",
    **{name: f"{name}_float({{a}}, {{b}})" for name in ("remainder", "floor_divide")},
    "sum": "accumulate({a}, {b})",
    "max": "greatest({a}, {b})",
    "min": "least({a}, {b})",
}
_OF_INTEGERS = {
    "maximum": "select({a} > {b}, {a}, {b})",
    "minimum": "select({a} < {b}, {a}, {b})",
    "abs": "select({a} < {zero}, {type}(-{a}), {a})",
    "sign": "select({a} > {zero}, {one}, select({a} < {zero}, {minus_one}, {zero}))",
    **{
        name: f"{name}_integer(int64({{a}}), int64({{b}}))"
        for name in ("power", "remainder", "floor_divide")
    },
    "sum": "({a} + {b})",
    "max": "select({a} > {b}, {a}, {b})",
    "min": "select({a} < {b}, {a}, {b})",
}
_OF_BOOLS = {"sum": "({a} | {b})", "max": "({a} | {b})", "min": "({a} & {b})"}

TEXTS = {
    kind: OPERATORS[kind] | texts | {"select": "select({a}, {b}, {c})"}
    for kind, texts in {"f": _OF_FLOATS, "i": _OF_INTEGERS, "b": _OF_BOOLS}.items()
}
"""Every function, and what adds one more element to a reduction, by the kind of the operands."""
SINGLE = {"exp": "exp", "tanh": "tanh"}  # for which vector_math.py has code
DOUBLE = {"exp": "math.exp", "tanh": "math.tanh"}


def code_of(dtype: DType) -> str:
    """``"f4"`` for float32, and so on."""
    code = dtype.str[1:]
    if CODES.get(code) != dtype:
        raise Unsupported(f"arrays of {dtype} are not compiled")
    return code


def constant(value: float | int | bool, code: str) -> str:
    """A number of the dtype as it stands in the source."""
    number = rounded(value, CODES[code])
    if code == "b1":
        return str(number)
    return f"{CODES[code]}({number.item()})".replace("inf", "math.inf")


def cast(text: str, source: str, target: str) -> str:
    """``text`` of one dtype in another, as NumPy's ``astype``."""
    if source == target:
        return text
    if target == "b1":
        return f"({text} != {constant(0, source)})"
    if source == "b1":
        return f"select({text}, {constant(1, target)}, {constant(0, target)})"
    return f"{CODES[target]}({text})"


class Statements:
    """The statements of one kernel and the numbers that they use."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.numbers: list[tuple[int, str]] = []
        self.count = 0

    def name(self, text: str, name: str | None = None) -> str:
        """A variable that holds ``text``, of that ``name``; without one, a name stays itself."""
        if name is None and text.isidentifier():
            return text
        if name is None:
            self.count += 1
            name = f"t{self.count}"
        self.lines.append(f"{name} = {text}")
        return name

    def number(self, value: float | int | bool, code: str) -> str:
        """A number that is no part of the source, so that another needs no other source.

        The commonest are, as LLVM can make something of a product with 1.
        """
        if code == "b1" or value in COMMON:
            return constant(value, code)
        number = rounded(value, CODES[code])
        bits = int.from_bytes(number.tobytes(), sys.byteorder, signed=number.itemsize == 8)
        if (bits, code) not in self.numbers:
            self.numbers.append((bits, code))
        return f"c{self.numbers.index((bits, code))}"

    def apply(self, function: str, operands: Sequence[str], code: str) -> str:
        """A function of operands of one dtype, which are not computed again where used twice."""
        text = TEXTS[code[0]].get(function)
        if text is None:
            raise Unsupported(f"{function} is not defined for {CODES[code]}")
        kind = str(CODES[code])
        given = dict(zip("abc", map(self.name, operands), strict=False)) | {"type": kind}
        given |= {"zero": f"{kind}(0)", "one": f"{kind}(1)", "minus_one": f"{kind}(-1)"}
        text = text.format(**given, **(SINGLE if code == "f4" else DOUBLE))
        # Numba widens 32-bit integers; this narrows them again.
        is_bool = function in (*COMPARISONS, *PREDICATES)
        return f"int32({text})" if code == "i4" and not is_bool else text
