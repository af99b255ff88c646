"""A kernel expression as lines of one operation each, with the dtype that each is computed in.

As in NumPy the dtypes of the operands decide: a comparison is a bool, a quotient or exp of integers
is a float, a Python number takes the dtype of what it meets. Here alone that is decided, so that
the emitters are tables of operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from tinygrad_rnn import ops
from tinygrad_rnn.ops import primitives as P
from tinygrad_rnn.ops.kernel_language import (
    COMPARISONS,
    LOGIC,
    PREDICATES,
    REAL,
    Apply,
    Node,
    Number,
    parsed,
    plain,
)
from tinygrad_rnn.replay.program.loop import DType, Line, rank
from tinygrad_rnn.replay.program.program import Op, Value

BOOL, LONG, DOUBLE = np.dtype(np.bool_), np.dtype(np.int64), np.dtype(np.float64)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


_OF_BOOLS = {
    "add": "bitwise_or",
    "multiply": "bitwise_and",
    "maximum": "bitwise_or",
    "minimum": "bitwise_and",
}
"""What arithmetic comes to between bools."""
_NOT_OF_BOOLS = ("subtract", "negative", "sign", "power")
"""What NumPy does not do with bools, which count as numbers here."""
_ROUNDING = ("floor", "ceil", "round")
_UNCHANGED = {"i": _ROUNDING, "u": _ROUNDING, "b": (*_ROUNDING, "abs")}
"""What leaves an integer or a bool as it is."""

_OF_NUMBERS: dict[str, Callable[..., Any]] = {
    "erf": math.erf,
    "raised": np.power,
    "round": np.rint,
    "select": np.where,
    "sigmoid": _sigmoid,
}
"""Functions that are called otherwise in NumPy."""


def lines_of(op: Op, target: str, operands: Sequence[str | Number]) -> list[Line]:
    """An elementwise op, computed in the widest dtype of what goes in and what comes out."""
    (y,) = op.outputs
    if op.primitive is P.cast:
        return [Line(target, "cast", tuple(operands), y.dtype, y.dtype)]
    given = op.inputs[1:] if op.primitive is ops.where else op.inputs
    dtypes = [y.dtype, *(x.dtype for x in given if isinstance(x, Value))]
    highest = max(rank(dtype)[0] for dtype in dtypes)
    compute = np.result_type(*(dtype for dtype in dtypes if rank(dtype)[0] == highest))
    assert op.primitive.kernel is not None
    return kernel_lines(target, op.primitive.kernel, operands, op.params, compute, y.dtype)


def kernel_lines(
    target: str,
    expression: str,
    operands: Sequence[str | Number],
    params: Mapping[str, Any],
    compute: DType,
    dtype: DType,
) -> list[Line]:
    """The lines of ``target = expression``, for operands of the dtype ``compute``.

    The last one gives the target, in ``dtype``; the names of the others begin with its name.
    """
    known = {f"x{k}": operand for k, operand in enumerate(operands)} | dict(params)
    lines = _Lines(target, known, compute)
    operand, found = lines.of(parsed(expression))
    if found == dtype and lines.lines and lines.lines[-1].target == operand:
        lines.lines[-1] = lines.lines[-1]._replace(target=target)
    else:
        source = compute if found is None else found
        lines.lines.append(Line(target, "cast", (_as(operand, source),), source, dtype))
    return lines.lines


_Operand: TypeAlias = "tuple[str | Number, DType | None]"
"""What holds a value, and its dtype; None for a number."""


class _Lines:
    def __init__(self, target: str, known: Mapping[str, Any], compute: DType) -> None:
        self.target, self.known, self.compute = target, known, compute
        self.real = compute if compute.kind == "f" else DOUBLE
        self.lines: list[Line] = []
        self.found: dict[int, _Operand] = {}

    def of(self, node: Node) -> _Operand:
        """What holds a node's value."""
        if isinstance(node, str):
            value = self.known[node]
            if isinstance(value, str):
                return value, self.compute
            node = value
        if not isinstance(node, Apply):
            number = plain(node)
            assert number is not None, "a parameter that is no number has no lines"
            return number, None
        if id(node) not in self.found:  # the middle of a chain of comparisons stands there twice
            given = [self.of(operand) for operand in node.operands]
            if all(dtype is None for _, dtype in given):
                return _number(node.function, [x for x, _ in given]), None
            self.found[id(node)] = self.apply(node.function, given)
        return self.found[id(node)]

    def apply(self, function: str, given: list[_Operand]) -> _Operand:
        condition, operands = [], given
        if function == "select":
            condition, operands = given[:1], given[1:]
        compute = self.common(operands)
        if condition and condition[0][1] is None:  # it is known already
            function, operands = "cast", [operands[0 if condition[0][0] else 1]]
            condition = []
        if function in ("power", "raised"):
            function, operands = _power(function, operands)
        if function in REAL and compute.kind != "f":
            compute = self.real
        if compute == BOOL and function in _NOT_OF_BOOLS:
            compute = self.compute
        if compute.kind != "f" and function in PREDICATES:
            return function == "isfinite", None
        if function in _UNCHANGED.get(compute.kind, ()):
            return operands[0]
        if compute == BOOL and function == "invert":
            function, operands = "bitwise_xor", [*operands, (True, None)]
        elif compute == BOOL:
            function = _OF_BOOLS.get(function, function)
        dtype = BOOL if function in (*COMPARISONS, *PREDICATES) else compute
        name = f"{self.target}.{len(self.lines)}"
        names = [x if isinstance(x, str) else bool(x) for x, _ in condition]
        names += [_as(x, compute) for x, _ in operands]
        self.lines.append(Line(name, function, tuple(names), compute, dtype))
        return name, dtype

    def common(self, operands: Sequence[_Operand]) -> DType:
        """The widest dtype of operands; a number is of a kind only."""
        found = max((d for _, d in operands if d is not None), key=rank, default=BOOL)
        for x, dtype in operands:
            if dtype is None and isinstance(x, float) and found.kind != "f":
                found = self.real
            if dtype is None and not isinstance(x, bool) and found == BOOL:
                found = LONG if self.compute == BOOL else self.compute
        return found


def _power(function: str, operands: list[_Operand]) -> tuple[str, list[_Operand]]:
    """What NumPy does for the commonest exponents; its function ``power`` knows no root."""
    base, exponent = operands
    if exponent == (2, None):
        return "multiply", [base, base]
    if exponent == (0.5, None) and function == "raised":
        return "sqrt", [base]
    return "power", operands


def _as(x: str | Number, dtype: DType) -> str | Number:
    """A number as Python's type of the kind of a dtype."""
    if isinstance(x, str):
        return x
    return {"b": bool, "f": float}.get(dtype.kind, int)(x)


def _number(function: str, numbers: Sequence[Any]) -> Number:
    """A function of numbers alone, in double precision; of integers an integer, if it is one."""
    whole = function not in REAL and not any(isinstance(x, float) for x in numbers)
    of_numbers = _OF_NUMBERS.get(function) or getattr(np, function)
    given = numbers if function in LOGIC else [*map(np.float64, numbers)]
    with np.errstate(all="ignore"):
        found = plain(np.asarray(of_numbers(*given)).item())
    assert found is not None
    return int(found) if whole and isinstance(found, float) and found.is_integer() else found
