"""The language of kernel expressions: what an elementwise operation may be written in.

An expression is read once into a tree of functions, so that no emitter has to know Python's grammar
and all of them compute the same. What the language does not have is refused when the primitive is
made.

======================  ==========================================================================
Values                  ``x0, x1, ...``, the parameters by name, numbers, ``True`` and ``False``
Operators               ``+ - * / // % **``, ``& | ^ ~``, ``not``
Comparisons             ``== != < <= > >=``, also in a chain: ``0 < x0 < 1``
Functions               those of :data:`FUNCTIONS`, with the meaning that they have in NumPy
Choice                  ``select(condition, a, b)``
======================  ==========================================================================
"""

from __future__ import annotations

import ast
import inspect
import numbers
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinygrad_rnn.tape import register_kernel_check
from tinygrad_rnn.tape.rows import shortened

Number: TypeAlias = "float | int | bool"

COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
PREDICATES = ("isnan", "isfinite")
LOGIC = ("bitwise_and", "bitwise_or", "bitwise_xor", "invert")
REAL = ("divide", "exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "tanh", "sigmoid", "erf")
"""Functions whose result is a float, of integers too."""

FUNCTIONS: dict[str, int] = {
    **dict.fromkeys((*REAL[1:], "abs", "sign", "floor", "ceil", "round", *PREDICATES), 1),
    **dict.fromkeys(("power", "remainder", "floor_divide", "maximum", "minimum"), 2),
    "select": 3,
}
"""Every function that an expression may call, with the number of its arguments."""

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide",
    ast.FloorDiv: "floor_divide", ast.Mod: "remainder", ast.Pow: "raised",
    ast.BitAnd: "bitwise_and", ast.BitOr: "bitwise_or", ast.BitXor: "bitwise_xor",
    ast.Invert: "invert", ast.USub: "negative",
    ast.Eq: "equal", ast.NotEq: "not_equal", ast.Lt: "less", ast.LtE: "less_equal",
    ast.Gt: "greater", ast.GtE: "greater_equal",
}  # fmt: skip
"""The functions of operators; ``"raised"`` is a power, but a root for 0.5, as ``**`` of NumPy."""
_OPERAND = re.compile(r"x(0|[1-9]\d*)")


class Apply(NamedTuple):
    """A function of the language, of operators too, and what it is applied to.

    An operand is another one, the name of an operand or of a parameter, or a number.
    """

    function: str
    operands: tuple[Node, ...]


Node: TypeAlias = "Apply | str | float | int | bool"


DEPTH = 100
"""How deep an expression may be nested; a sum is nested by one for each of its terms."""
LARGEST = 2**64
"""Integers beyond are no number of any dtype."""


class UnknownError(ValueError):
    """What of an expression the language does not have."""


@cache
def parsed(expression: str) -> Node:
    """The tree of an expression; raises UnknownError, which says what is not understood."""
    try:
        return _node(ast.parse(expression.strip(), mode="eval").body, DEPTH)
    except UnknownError:
        raise
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise UnknownError("is no expression") from error


def _node(node: ast.expr, depth: int) -> Node:
    if not depth:
        raise UnknownError(f"is nested more than {DEPTH} deep")
    of = partial(_node, depth=depth - 1)
    match node:
        case ast.Constant(value=bool() | int() | float() as number):
            if abs(number) <= LARGEST or isinstance(number, float):
                return number
        case ast.Name(id=name):
            return name
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return of(operand)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return Apply("equal", (of(operand), 0))
        case ast.UnaryOp(op=op, operand=operand):
            return Apply(_OPERATORS[type(op)], (of(operand),))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return Apply(_OPERATORS[type(op)], (of(left), of(right)))
        case ast.Compare(left=left, ops=ops, comparators=rest):
            if all(type(op) in _OPERATORS for op in ops):
                values = [of(each) for each in (left, *rest)]
                pairs = zip(ops, values, values[1:], strict=False)
                first, *others = [Apply(_OPERATORS[type(op)], (a, b)) for op, a, b in pairs]
                for other in others:
                    first = Apply("bitwise_and", (first, other))
                return first
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            if FUNCTIONS.get(name) == len(arguments):
                return Apply(name, tuple(map(of, arguments)))
        case _:
            pass
    raise UnknownError(f"has {shortened(ast.unparse(node))!r}, which is not of its language")


def _names(node: Node) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Apply):
        for operand in node.operands:
            yield from _names(operand)


@cache
def names(expression: str) -> tuple[int, frozenset[str]]:
    """How many operands an expression takes, and the names of its parameters."""
    found = set(_names(parsed(expression)))
    operands = {name for name in found if _OPERAND.fullmatch(name)}
    return max((int(name[1:]) + 1 for name in operands), default=0), frozenset(found - operands)


def plain(value: Any) -> Number | None:
    """A number of any type as Python's own, None for what is no number."""
    if isinstance(value, bool | np.bool_):
        return bool(value)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return None


def applies(expression: str, arguments: int, params: dict[str, Any]) -> bool:
    """Whether an expression says what a call computes: every parameter is there and a number."""
    count, used = names(expression)
    return (
        count <= arguments
        and used <= params.keys()
        and all(plain(value) is not None for value in params.values())
    )


def check_kernel(name: str, expression: Any, forward: Callable[..., Any], arguments: int) -> None:
    """Refuse a primitive's kernel that the language does not have.

    ``arguments`` is the number of its array arguments, 0 where that is not known.
    """
    if not isinstance(expression, str):
        kind = type(expression).__name__
        raise TypeError(f"{name}: a kernel is an expression in a string, got {kind}")
    try:
        count, used = names(expression)
        unknown = _outside(count, used, forward, arguments)
        if unknown:
            raise UnknownError(f"has {unknown!r}, which is no argument and no parameter")
    except UnknownError as problem:
        raise ValueError(
            f"{name}: the kernel {shortened(expression)!r} {problem}; a kernel is made of x0, x1, "
            "..., the parameters of forward by name, numbers, + - * / // % ** & | ^ ~ not, "
            f"comparisons, and {', '.join(sorted(FUNCTIONS.keys() - {'select'}))}, "
            "select(condition, a, b)"
        ) from None


def _outside(
    count: int, used: frozenset[str], forward: Callable[..., Any], arguments: int
) -> str | None:
    """The first name of an expression that forward does not take."""
    try:
        found = [*inspect.signature(forward).parameters.values()][1:]  # without xp
    except (TypeError, ValueError):  # a built-in function that does not say
        return None
    by_place = [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    most = arguments or len(by_place)
    if count > most and (arguments or not any(p.kind is p.VAR_POSITIONAL for p in found)):
        return f"x{count - 1}"
    if any(p.kind is p.VAR_KEYWORD for p in found):
        return None
    known = {p.name for p in found if p.kind is p.KEYWORD_ONLY} | {p.name for p in by_place}
    known -= {p.name for p in by_place[: max(arguments, count, 1)]}  # they are x0, x1, ...
    return min(used - known, default=None)


register_kernel_check(check_kernel)
