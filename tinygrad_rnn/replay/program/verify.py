"""Verifying: after each pass, whether the program that it gives holds together.

Off by default; :func:`verifying` switches it on, for tests and for finding a fault. What it cannot
tell is whether a program computes what it should: that the values are right, numbers have to show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np

from tinygrad_rnn.backends import Switch
from tinygrad_rnn.replay.program.loop import DType
from tinygrad_rnn.replay.program.program import Names, Op, Program, Value, canonical
from tinygrad_rnn.tape import Primitive

P = ParamSpec("P")
R = TypeVar("R")
Form: TypeAlias = "tuple[tuple[int, ...], DType]"

_verifying: ContextVar[bool] = ContextVar("tinygrad_rnn_verifying", default=False)
KEPT = 10_000
"""Answers of primitives that are remembered."""
_known: dict[Any, list[Form]] = {}
_PACKAGE = __name__.partition(".")[0]
_OURS = f"{_PACKAGE}.ops.", f"{_PACKAGE}.replay.passes."
_LOOPS = f"{_PACKAGE}.replay.primitive"


class PassError(RuntimeError):
    """What a pass gave does not hold together: a fault of this package, not of its user."""


def verifying(on: bool = True) -> Switch[bool, None]:
    """Within the block, what each pass of the replay makes of a step is verified.

    Steps are compiled when they are first run; what is compiled already is not verified again.
    """
    return Switch("verifying", _verifying, lambda before: on)


def verified(check: Callable[..., None]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a pass: where the switch is on, ``check(result, *arguments)`` follows it."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def run(*arguments: P.args, **options: P.kwargs) -> R:
            result = run.__wrapped__(*arguments, **options)
            if _verifying.get():
                try:
                    check(result, *arguments, **options)
                except PassError as fault:
                    raise PassError(f"{function.__name__}: {fault}") from None
            return result

        return run

    return decorate


def verify(program: Program, settled: Iterable[Op] = ()) -> None:
    """Every value is there once and before its use, and is what its primitive gives.

    Of the ``settled`` ops that is known.
    """
    given = [*program.consts, *program.xs, *program.state]
    known = verify_order(program, given, program.ops)
    settled = set(settled)
    for op in program.ops:
        if op in settled:
            continue
        said = [(y.shape, y.dtype) for y in op.outputs]
        gives = results_of(op.primitive, op.inputs, op.params)
        if gives is not None and gives != said:
            raise fault(program, op, f"gives {shown(gives)}")
    for role in ("ys", "next_state", "totals"):
        for k, v in enumerate(getattr(program, role)):
            if v not in known:
                raise PassError(f"{role}[{k}] is computed by nothing")
    same_forms("the next state", program.next_state, program.state)


def verify_rewritten(program: Program, before: Program) -> None:
    """The same, of a program that computes what the one before the pass did."""
    verify(program, before.ops)
    for role in ("consts", "xs", "state"):
        if getattr(program, role) != getattr(before, role):
            raise PassError(f"{role} are not those of the program before")
    for role in ("ys", "next_state", "totals"):
        same_forms(role, getattr(program, role), getattr(before, role))


def verify_order(program: Program, given: Iterable[Value], ops: Iterable[Op]) -> set[Value]:
    """What is known after ``ops``, in this order, to which ``given`` is known."""
    known: set[Value] = set()
    for v in given:
        if v in known:
            raise PassError("a value is given twice")
        known.add(v)
    for op in ops:
        for x in op.values():
            if x not in known:
                raise fault(program, op, "reads a value before it is computed")
        for y in op.outputs:
            if y in known:
                raise fault(program, op, "computes a value for the second time")
            known.add(y)
    return known


def same_forms(what: str, values: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Refuse values that have not the shapes and dtypes of others."""
    found, right = [form_of(v) for v in values], [form_of(v) for v in wanted]
    if found != right:
        raise PassError(f"{what} should be {shown(right)}, got {shown(found)}")


def form_of(v: Any) -> Form:
    return tuple(v.shape), v.dtype


def shown(forms: Iterable[Form]) -> str:
    return ", ".join(f"{dtype} {shape}" for shape, dtype in forms) or "nothing"


def fault(program: Program, op: Op, what: str) -> PassError:
    """A line and what is wrong with it, with the names that the printed program has."""
    names = Names(program)
    for each in program.ops:
        names.line(each)
    return PassError(f"the line '{names.line(op)}' {what}")


def results_of(
    primitive: Primitive, operands: Sequence[Any], params: dict[str, Any]
) -> list[Form] | None:
    """The forms of what a primitive gives for operands of these forms, None where it won't say.

    A loop within the step is verified for itself. A primitive of a user's may refuse what it is
    asked with: nobody knows what values it wants to have.
    """
    forms = ((x.shape, x.dtype) if isinstance(x, Value) else canonical(x) for x in operands)
    key = (primitive, *forms, *(canonical(params) if params else ()))
    found = _known.get(key)
    if found is not None:
        return found
    home = str(getattr(primitive.forward, "__module__", ""))
    try:
        found = _asked(primitive, operands, params) if home != _LOOPS else None
    except Exception as error:
        if home.startswith(_OURS):
            raise PassError(f"{primitive.name} refuses its operands: {error}") from error
    if home.startswith(_OURS) and found is not None:  # what others close over is not held
        if len(_known) >= KEPT:
            _known.clear()
        _known[key] = found
    return found


def _asked(primitive: Primitive, operands: Sequence[Any], params: dict[str, Any]) -> list[Form]:
    """What comes of arrays of one element repeated, 1 of floats and else 0."""
    given = [_sample(x.shape, x.dtype) if isinstance(x, Value) else x for x in operands]
    with np.errstate(all="ignore"):
        found = primitive.forward(np, *given, **params)
    return [(y.shape, y.dtype) for y in map(np.asarray, found if primitive.multiple else (found,))]


def _sample(shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    return np.ndarray(shape, dtype, _element(dtype), strides=(0,) * len(shape))


@cache
def _element(dtype: DType) -> bytes:
    return np.array(dtype.kind == "f").astype(dtype).tobytes()
