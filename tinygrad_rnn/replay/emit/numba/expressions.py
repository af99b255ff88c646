"""One operation of a kernel as Python for Numba, in the dtype that it is computed in."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

CODES = {np.dtype(code).str[1:]: np.dtype(code) for code in ("f4", "f8", "i4", "i8", "?")}
"""The dtypes that can be compiled, by the codes that name them in the source."""
COMMON = (0, 1, -1, 2, 0.5, math.inf, -math.inf)
CASTS = {"f4": "float32", "f8": "float64", "i4": "int32", "i8": "int64"}
ARITHMETIC = {"add": "+", "subtract": "-", "multiply": "*"}
LOGIC = {"bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^"}
ON_BOOLS = {"add": "|", "multiply": "&", "maximum": "|", "minimum": "&"}
SIGNS = {
    "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">",
    "greater_equal": ">=",
}  # fmt: skip
FROM_LIBM = ("log", "log1p", "expm1", "sin", "cos", "erf")
OF_SINGLES = ("exp", "tanh")  # for which vector_math.py has code
IN_LLVM = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "round": "rint", "abs": "fabs"}
REDUCTIONS = {
    "sum": ("add", "accumulate"),
    "max": ("maximum", "greatest"),
    "min": ("minimum", "least"),
}
"""What adds one more element to a reduction, of integers and of floats."""
BRANCHING = ("power", "remainder", "floor_divide")


class Unsupported(ValueError):
    """Something that cannot be compiled; the message says what."""


def code_of(dtype: np.dtype[Any]) -> str:
    """``"f4"`` for float32, and so on."""
    code = dtype.str[1:]
    if CODES.get(code) != dtype:
        raise Unsupported(f"arrays of {dtype} are not compiled")
    return code


class Scope:
    """The statements of one kernel and the constants that they use."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.constants: dict[str, str] = {}
        self.numbers: list[tuple[int, str]] = []
        self.count = 0

    def name(self, text: str) -> str:
        """A variable that holds ``text``; a name stays itself."""
        if text.isidentifier():
            return text
        self.count += 1
        name = f"v{self.count}"
        self.statements.append(f"{name} = {text}")
        return name

    def parameter(self, value: float | int | bool, code: str) -> str:
        """A number that is no part of the source, so that another needs no other source.

        The commonest are, as LLVM can make something of a product with 1.
        """
        if code == "b1" or value in COMMON:
            return self.constant(value, code)
        number = self.bits(value, code), code
        if number not in self.numbers:
            self.numbers.append(number)
        return f"c{self.numbers.index(number)}"

    def bits(self, value: float | int | bool, code: str) -> int:
        """A number in its dtype, as an integer of the table."""
        dtype = CODES[code]
        if dtype.kind in "ib" and isinstance(value, float) and not value.is_integer():
            raise Unsupported(f"{value} is no number of {dtype}")
        with np.errstate(over="ignore"):
            number = np.asarray(value).astype(dtype)
        return int.from_bytes(number.tobytes(), sys.byteorder, signed=dtype.itemsize == 8)

    def constant(self, value: float | int | bool, code: str) -> str:
        """The name of a module's constant of the dtype."""
        dtype = CODES[code]
        if dtype.kind in "ib" and isinstance(value, float) and not value.is_integer():
            raise Unsupported(f"{value} is no number of {dtype}")
        with np.errstate(over="ignore"):
            number = np.asarray(value).astype(dtype)
        digits = number.tobytes()[::-1].hex()
        if code == "b1":
            return str(bool(number))
        if dtype.kind == "i":
            text = repr(int(number))
        else:
            plain = float(number)
            text = repr(plain) if math.isfinite(plain) else f'"{plain}"'
        name = f"{code}_{digits}"
        self.constants[name] = f"{CASTS[code]}({text})"
        return name


def cast(scope: Scope, text: str, source: str, target: str) -> str:
    """``text`` of one dtype in another, as NumPy's ``astype``."""
    if source == target:
        return text
    if target == "b1":
        return f"({text} != {scope.constant(0, source)})"
    if source == "b1":
        return f"select({text}, {scope.constant(1, target)}, {scope.constant(0, target)})"
    return f"{CASTS[target]}({text})"


class Operation:
    """One operation on operands of one dtype."""

    def __init__(self, scope: Scope, code: str):
        self.scope, self.code = scope, code
        self.float = code in ("f4", "f8")

    def text(self, function: str, *operands: str) -> tuple[str, str]:
        """What computes it in Python, and the code of its dtype."""
        x = [self.scope.name(operand) for operand in operands]
        if function in REDUCTIONS:
            one, many = REDUCTIONS[function]
            return (f"{many}({', '.join(x)})", self.code) if self.float else self.text(one, *x)
        if function == "cast":
            return x[0], self.code
        if function in SIGNS:
            return f"({x[0]} {SIGNS[function]} {x[1]})", "b1"
        if function in ("isnan", "isfinite"):
            return self.predicate(function, x[0]), "b1"
        if function == "select":
            return f"select({', '.join(x)})", self.code
        if self.code == "b1":
            return self.on_bools(function, *x), self.code
        if function in ARITHMETIC:
            return self.wrapped(f"({x[0]} {ARITHMETIC[function]} {x[1]})"), self.code
        if function == "negative":
            return self.wrapped(f"(-{x[0]})"), self.code
        if function in BRANCHING:
            return f"{function}_{'float' if self.float else self.code}({', '.join(x)})", self.code
        write: Callable[..., str] = self.on_floats if self.float else self.on_integers
        return write(function, *x), self.code

    def number(self, value: float | int | bool) -> str:
        return self.scope.constant(value, self.code)

    def wrapped(self, text: str) -> str:
        """Numba widens 32-bit integers; this narrows them again."""
        return f"int32({text})" if self.code == "i4" else text

    def unknown(self, function: str) -> Unsupported:
        return Unsupported(f"{function} is not defined for {CODES[self.code]}")

    def predicate(self, function: str, x: str) -> str:
        if not self.float:
            return str(function == "isfinite")
        if function == "isnan":
            return f"({x} != {x})"
        return f"(fabs({x}) < {self.number(math.inf)})"

    def on_bools(self, function: str, a: str, b: str = "") -> str:
        if function == "invert":
            return f"({a} ^ True)"
        if function in ("abs", "floor", "ceil", "round"):
            return a
        sign = ON_BOOLS.get(function) or LOGIC.get(function)
        if sign is None:
            raise self.unknown(function)
        return f"({a} {sign} {b})"

    def on_floats(self, function: str, a: str, b: str = "") -> str:
        if function == "divide":
            return f"({a} / {b})"
        if function == "sigmoid":
            one = self.number(1)
            return f"({one} / ({one} + {self.on_floats('exp', f'(-{a})')}))"
        if function in FROM_LIBM or (function in OF_SINGLES and self.code == "f8"):
            return f"math.{function}({a})"
        if function in OF_SINGLES:
            return f"{function}({a})"
        if function in IN_LLVM:
            return f"{IN_LLVM[function]}({a})"
        if function in ("maximum", "minimum"):
            return f"{function}({a}, {b})"
        if function == "sign":
            one, zero, less = self.number(1), self.number(0), self.number(-1)
            rest = f"select({a} < {zero}, {less}, select({a} == {zero}, {zero}, {a}))"
            return f"select({a} > {zero}, {one}, {rest})"
        raise self.unknown(function)

    def on_integers(self, function: str, a: str, b: str = "") -> str:
        if function in LOGIC:
            return self.wrapped(f"({a} {LOGIC[function]} {b})")
        if function == "invert":
            return self.wrapped(f"(~{a})")
        if function in ("floor", "ceil", "round"):
            return a
        if function in ("maximum", "minimum"):
            return f"select({a} {'>' if function == 'maximum' else '<'} {b}, {a}, {b})"
        zero = self.number(0)
        if function == "abs":
            return f"select({a} < {zero}, {self.wrapped(f'(-{a})')}, {a})"
        if function == "sign":
            one, less = self.number(1), self.number(-1)
            return f"select({a} > {zero}, {one}, select({a} < {zero}, {less}, {zero}))"
        raise self.unknown(function)
