"""Kernel expressions in CUDA C: types, numbers, casts, and the functions that they call.

float16 is stored as two bytes and computed as a float that is rounded after each line. What C
leaves open follows NumPy: nan goes through maximum and minimum, a remainder has the sign of the
divisor, integers divided by 0 give 0. The functions named ``loop_`` are in the preamble.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.replay.program.loop import DType

_VALUE = {
    "bool": "bool",
    "int32": "int",
    "int64": "long long",
    "float16": "float",
    "float32": "float",
    "float64": "double",
}
WIDEST: dict[str, DType] = {
    kind: np.dtype(name) for name, kind in _VALUE.items() if name != "float16"
}
"""The dtype that a C type holds without loss."""

_ORDER = ("bool", "int", "long long", "float", "double")
_INTEGERS = ("bool", "int", "long long")
_ROUNDINGS = {"floor": "floor", "ceil": "ceil", "round": "rint"}
_FUNCTIONS = ("exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "tanh", "erf")
_SIGNS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}


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


class Value(NamedTuple):
    """A part of an expression: its C text and type, and its number where it is a constant."""

    text: str
    kind: str
    number: float | None = None


def _call(name: str, kind: str, *arguments: Value) -> Value:
    """A function for one type, its arguments brought to it."""
    return Value(f"{name}({', '.join(_to(x, kind) for x in arguments)})", kind)


def _to(x: Value, kind: str) -> str:
    return x.text if x.kind == kind else f"({kind})({x.text})"


def _wide(*values: Value) -> str:
    """The type in which values of several types are computed."""
    return max((x.kind for x in values), key=_ORDER.index)


def _real(*values: Value) -> str:
    """Likewise for functions that are computed in floating point."""
    kind = _wide(*values)
    return "double" if kind in _INTEGERS else kind


def _suffix(kind: str) -> str:
    return "f" if kind == "float" else ""


def translate(
    expression: str, operands: Sequence[str], params: Mapping[str, float], compute: DType
) -> Value:
    """An expression in x0, x1, ... and parameters, for operands that are in ``compute`` already."""
    tree = ast.parse(expression, mode="eval")
    return _Translator(expression, operands, params, compute).of(tree.body)


class _Translator:
    def __init__(
        self, expression: str, operands: Sequence[str], params: Mapping[str, float], compute: DType
    ) -> None:
        self.expression, self.params, self.compute = expression, params, compute
        kind = value_type(compute)
        self.operands = {f"x{k}": Value(text, kind) for k, text in enumerate(operands)}

    def number(self, number: Any) -> Value:
        dtype = self.compute
        if dtype.kind in "iu" and not float(number).is_integer():
            dtype = np.dtype(np.float64)  # as in NumPy, 0.5 * integers is float64
        return Value(literal(number, dtype), value_type(dtype), number)

    def of(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant(value=bool() | int() | float() as number):
                return self.number(number)
            case ast.Name(id=name) if name in self.params:
                return self.number(self.params[name])
            case ast.Name(id=name) if name in self.operands:
                return self.operands[name]
            case ast.UnaryOp(op=op, operand=operand):
                return self.unary(op, self.of(operand))
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary(op, self.of(left), self.of(right))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                values = [self.of(left), *map(self.of, comparators)]
                parts = [
                    f"{a.text} {_SIGNS[type(op)]} {b.text}"
                    for op, a, b in zip(ops, values, values[1:], strict=False)
                    if type(op) in _SIGNS
                ]
                if len(parts) == len(ops):
                    return Value(f"({' && '.join(parts)})", "bool")
            case ast.Call(func=ast.Name(id="floor"), args=[ast.BinOp(op=ast.Div()) as ratio]):
                a, b = self.of(ratio.left), self.of(ratio.right)
                if _wide(a, b) in ("int", "long long"):
                    return self.binary(ast.FloorDiv(), a, b)
                return self.function("floor", [self.binary(ast.Div(), a, b)])
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self.function(name, [self.of(argument) for argument in arguments])
            case _:
                pass
        raise self.unknown(ast.unparse(node))

    def unknown(self, what: str) -> ValueError:
        return ValueError(f"CUDA kernel: {what} in the expression {self.expression!r} is unknown")

    def unary(self, op: ast.unaryop, x: Value) -> Value:
        match op:
            case ast.UAdd():
                return x
            case ast.USub() if x.kind != "bool":
                return Value(f"(-{x.text})", x.kind, None if x.number is None else -x.number)
            case ast.Invert() if x.kind in _INTEGERS:
                return Value(f"(!{x.text})" if x.kind == "bool" else f"(~{x.text})", x.kind)
            case ast.Not():
                return Value(f"(!{x.text})", "bool")
            case _:
                raise self.unknown(f"{type(op).__name__} of a {x.kind}")

    def binary(self, op: ast.operator, a: Value, b: Value) -> Value:
        kind, real = _wide(a, b), _real(a, b)
        match op:
            case ast.Div():
                return Value(f"({_to(a, real)} / {_to(b, real)})", real)
            case ast.Mod():
                name = f"fmod{_suffix(kind)}" if kind == real else f"loop_modulo<{kind}>"
                return _call(f"loop_remainder<{kind}>", kind, _call(name, kind, a, b), b)
            case ast.FloorDiv() if kind == real:
                return self.function("floor", [self.binary(ast.Div(), a, b)])
            case ast.FloorDiv():
                return _call(f"loop_floor_divide<{kind}>", kind, a, b)
            case ast.Pow() if b.number == 2:
                return Value(f"({a.text} * {a.text})", kind)
            case ast.Pow():
                name = f"pow{_suffix(kind)}" if kind == real else f"loop_power<{kind}>"
                return _call(name, kind, a, b)
            case ast.BitAnd() | ast.BitOr() | ast.BitXor() if kind == real:
                raise self.unknown(f"{type(op).__name__} of a {kind}")
            case ast.Add() | ast.Mult() if kind == "bool":
                sign = "||" if isinstance(op, ast.Add) else "&&"
                return Value(f"({a.text} {sign} {b.text})", kind)
            case _ if type(op) in _SIGNS and not (kind == "bool" and isinstance(op, ast.Sub)):
                return Value(f"({a.text} {_SIGNS[type(op)]} {b.text})", kind)
            case _:
                raise self.unknown(f"{type(op).__name__} of a {kind}")

    def function(self, name: str, x: list[Value]) -> Value:
        match name, x:
            case "maximum" | "minimum", [a, b]:
                return _call(f"loop_{name}<{_wide(a, b)}>", _wide(a, b), a, b)
            case "select", [condition, a, b]:
                kind = _wide(a, b)
                return Value(f"({condition.text} ? {_to(a, kind)} : {_to(b, kind)})", kind)
            case "power", [a, b]:
                return self.binary(ast.Pow(), a, b)
            case "remainder", [a, b]:
                return self.binary(ast.Mod(), a, b)
            case "isnan" | "isfinite", [a]:
                return Value(f"loop_{name}({a.text})", "bool")
            case "abs" | "sign" | "floor" | "ceil" | "round", [Value(kind="bool") as a]:
                return a
            case "abs", [a] if a.kind not in _INTEGERS:
                return _call(f"fabs{_suffix(a.kind)}", a.kind, a)
            case "abs" | "sign", [a]:
                return _call(f"loop_{name}", a.kind, a)
            case "floor" | "ceil" | "round", [a] if a.kind in _INTEGERS:
                return a
            case "floor" | "ceil" | "round", [a]:
                return _call(f"{_ROUNDINGS[name]}{_suffix(a.kind)}", a.kind, a)
            case _, [a] if name in _FUNCTIONS:
                return _call(f"{name}{_suffix(_real(a))}", _real(a), a)
            case _:
                raise self.unknown(f"{name} of {len(x)}")
