"""A kernel expression as Python for Numba, every operation in the dtype that it is computed in."""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

CODES = {np.dtype(code).str[1:]: np.dtype(code) for code in ("f4", "f8", "i4", "i8", "?")}
"""The dtypes that can be compiled, by the codes that name them in the source."""
COMMON = (0, 1, -1, 2, 0.5, math.inf, -math.inf)
CASTS = {"f4": "float32", "f8": "float64", "i4": "int32", "i8": "int64"}
ARITHMETIC: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
LOGIC: dict[type[ast.operator], str] = {ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^"}
ON_BOOLS: dict[type[ast.operator], str] = {ast.Add: "|", ast.Mult: "&"}
COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
FROM_LIBM = {"log", "log1p", "expm1", "sin", "cos", "erf"}
IN_LLVM = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "round": "rint", "abs": "fabs"}
FUNCTIONS: dict[str, int] = {
    **dict.fromkeys(
        (*FROM_LIBM, *IN_LLVM, "exp", "tanh", "sign", "isnan", "isfinite"),
        1,
    ),
    **dict.fromkeys(("power", "maximum", "minimum", "remainder"), 2),
    "select": 3,
}
"""Every function of an expression, with the number of its arguments."""


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


class Writer:
    """One expression, whose operands are of the dtype ``compute``; comparisons yield bools."""

    def __init__(self, scope: Scope, operands: list[str], params: Mapping[str, float], code: str):
        self.scope, self.code = scope, code
        self.names = {f"x{k}": operand for k, operand in enumerate(operands)}
        self.params = params
        self.float = code in ("f4", "f8")

    def text(self, expression: str) -> tuple[str, str]:
        """The expression in Python and the code of its dtype."""
        try:
            tree = ast.parse(expression, mode="eval")
        except SyntaxError:
            raise Unsupported(f"{expression!r} is no expression") from None
        return self.write(tree.body)

    def value(self, node: ast.expr) -> str:
        """A node's value in the dtype of the computation."""
        text, code = self.write(node)
        return cast(self.scope, text, code, self.code)

    def number(self, value: float | int | bool) -> str:
        return self.scope.constant(value, self.code)

    def wrapped(self, text: str) -> str:
        """Numba widens 32-bit integers; this narrows them again."""
        return f"int32({text})" if self.code == "i4" else text

    def write(self, node: ast.expr) -> tuple[str, str]:
        if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            return self.number(node.value), self.code
        if isinstance(node, ast.Name):
            if node.id in self.names:
                return self.names[node.id], self.code
            if node.id in self.params:
                return self.scope.parameter(self.params[node.id], self.code), self.code
            raise Unsupported(f"the name {node.id} in an expression is not known")
        if isinstance(node, ast.BinOp):
            return self.binary(node.op, node.left, node.right)
        if isinstance(node, ast.UnaryOp):
            return self.unary(node.op, node.operand)
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            sign = COMPARISONS.get(type(node.ops[0]))
            if sign:
                left, right = self.value(node.left), self.value(node.comparators[0])
                return f"({left} {sign} {right})", "b1"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self.call(node.func.id, node.args)
        raise Unsupported(f"the expression {ast.unparse(node)} is not known")

    def binary(self, op: ast.operator, left: ast.expr, right: ast.expr) -> tuple[str, str]:
        kind = type(op)
        if kind in LOGIC:
            (a, first), (b, second) = self.write(left), self.write(right)
            code = "b1" if first == second == "b1" else self.code
            if code in ("f4", "f8"):
                raise Unsupported(f"{LOGIC[kind]} is not defined for floats")
            a, b = cast(self.scope, a, first, code), cast(self.scope, b, second, code)
            text = f"({a} {LOGIC[kind]} {b})"
            return (f"int32{text}" if code == "i4" else text), code
        a, b = self.value(left), self.value(right)
        if self.code == "b1" and kind in ON_BOOLS:
            return f"({a} {ON_BOOLS[kind]} {b})", "b1"
        if kind in ARITHMETIC and self.code != "b1":
            return self.wrapped(f"({a} {ARITHMETIC[kind]} {b})"), self.code
        if kind is ast.Div and self.float:
            return f"({a} / {b})", self.code
        raise Unsupported(f"{type(op).__name__} is not defined for {CODES[self.code]}")

    def unary(self, op: ast.unaryop, operand: ast.expr) -> tuple[str, str]:
        text, code = self.write(operand)
        if isinstance(op, ast.Invert | ast.Not) and code == "b1":
            return f"({text} ^ True)", "b1"
        if isinstance(op, ast.Invert) and not self.float:
            return self.wrapped(f"(~{text})"), self.code
        if isinstance(op, ast.USub) and self.code != "b1":
            text = cast(self.scope, text, code, self.code)
            return self.wrapped(f"(-{text})"), self.code
        raise Unsupported(f"{type(op).__name__} is not defined for {CODES[self.code]}")

    def call(self, name: str, nodes: list[ast.expr]) -> tuple[str, str]:
        if FUNCTIONS.get(name) != len(nodes):
            raise Unsupported(f"the function {name} of {len(nodes)} arguments is not known")
        if name == "select":
            condition, code = self.write(nodes[0])
            condition = cast(self.scope, condition, code, "b1")
            return f"select({condition}, {self.value(nodes[1])}, {self.value(nodes[2])})", self.code
        node = nodes[0]
        if name == "floor" and isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            # NumPy's floor_divide, which is no floor of a ratio
            a, b = self.value(node.left), self.value(node.right)
            return self.checked("floor_divide", a, b), self.code
        values = [self.scope.name(self.value(node)) for node in nodes]
        if name in ("isnan", "isfinite"):
            return self.predicate(name, values[0]), "b1"
        write: Callable[..., str] = self.on_floats if self.float else self.on_integers
        return write(name, *values), self.code

    def checked(self, name: str, a: str, b: str) -> str:
        if self.code == "b1":
            raise Unsupported(f"{name} is not defined for bools")
        return f"{name}_{'float' if self.float else self.code}({a}, {b})"

    def predicate(self, name: str, x: str) -> str:
        if not self.float:
            return str(name == "isfinite")
        if name == "isnan":
            return f"({x} != {x})"
        return f"(fabs({x}) < {self.number(math.inf)})"

    def on_floats(self, name: str, a: str, b: str = "") -> str:
        if name in ("exp", "tanh"):
            return f"{name}({a})" if self.code == "f4" else f"math.{name}({a})"
        if name in FROM_LIBM:
            return f"math.{name}({a})"
        if name in IN_LLVM:
            return f"{IN_LLVM[name]}({a})"
        if name in ("maximum", "minimum"):
            return f"{name}({a}, {b})"
        if name == "sign":
            one, zero, less = self.number(1), self.number(0), self.number(-1)
            rest = f"select({a} < {zero}, {less}, select({a} == {zero}, {zero}, {a}))"
            return f"select({a} > {zero}, {one}, {rest})"
        return self.checked(name, a, b)

    def on_integers(self, name: str, a: str, b: str = "") -> str:
        if name in ("floor", "ceil", "round"):
            return a
        if name in ("maximum", "minimum"):
            if self.code == "b1":
                return f"({a} {'|' if name == 'maximum' else '&'} {b})"
            return f"select({a} {'>' if name == 'maximum' else '<'} {b}, {a}, {b})"
        if name == "abs":
            if self.code == "b1":
                return a
            return f"select({a} < {self.number(0)}, {self.wrapped(f'(-{a})')}, {a})"
        if name == "sign" and self.code != "b1":
            one, zero, less = self.number(1), self.number(0), self.number(-1)
            return f"select({a} > {zero}, {one}, select({a} < {zero}, {less}, {zero}))"
        if name in ("power", "remainder"):
            return self.checked(name, a, b)
        if FUNCTIONS[name] == 1 and name != "sign":
            wide = cast(self.scope, a, self.code, "f8")
            text, _ = Writer(self.scope, [wide], {}, "f8").text(f"{name}(x0)")
            return cast(self.scope, text, "f8", self.code)
        raise Unsupported(f"{name} is not defined for {CODES[self.code]}")
