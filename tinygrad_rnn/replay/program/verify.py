"""Verifying: after each pass, whether the program that it gives holds together.

Off by default; :func:`verifying` switches it on, for tests and for finding a fault. What it cannot
tell is whether a program computes what it should: that the values are right, numbers have to show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np

from tinygrad_rnn.backends import Switch
from tinygrad_rnn.replay.program.lineage import Lineage
from tinygrad_rnn.replay.program.loop import DType
from tinygrad_rnn.replay.program.program import Names, Op, Program, Value, canonical
from tinygrad_rnn.tape import Primitive

P = ParamSpec("P")
R = TypeVar("R")
Form: TypeAlias = "tuple[tuple[int, ...], DType]"

_verifying: ContextVar[bool] = ContextVar("tinygrad_rnn_verifying", default=False)
_known: dict[Any, list[Form]] = {}  # what primitives have answered
_OURS = "tinygrad_rnn.ops.", "tinygrad_rnn.replay.passes.", "tinygrad_rnn.replay.program."


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


def verify(program: Program, before: Sequence[Op] = (), **like: Sequence[Any]) -> None:
    """Every value is there once and before its use, and is what its primitive gives.

    Of the ops ``before`` a pass that is known. What a role has in ``like`` has the forms of its
    values.
    """
    given = [*program.consts, *program.xs, *program.state]
    known = verify_order(program, given, program.ops)
    settled = {*before}
    for op in program.ops:
        gives = None if op in settled else results_of(op.primitive, op.inputs, op.params)
        if gives is not None and gives != [*map(form_of, op.outputs)]:
            raise fault(program, op, f"gives {shown(gives)}")
    if not known.issuperset(program.outputs):
        raise PassError("an output is computed by nothing")
    for role, values in {"next_state": program.state, **like}.items():
        found, right = [*map(form_of, getattr(program, role))], [*map(form_of, values)]
        if found != right:
            raise PassError(f"{role} should be {shown(right)}, got {shown(found)}")


def verify_rewritten(program: Program, before: Program) -> None:
    """The same, of a program that computes what the one before the pass did, from the same."""
    for role in ("consts", "xs", "state"):
        if getattr(program, role) != getattr(before, role):
            raise PassError(f"{role} are not those of the program before")
    verify(program, before.ops, ys=before.ys, totals=before.totals)
    lineage = Lineage(before)
    for op in program.ops:
        if not lineage.numbers(op):
            raise fault(program, op, "is not made of any line of the program before")


def verify_order(program: Program, given: Sequence[Value], ops: Iterable[Op]) -> set[Value]:
    """What is known after ``ops``, in this order, to which ``given`` is known."""
    known = {*given}
    if len(known) < len(given):
        raise PassError("a value is given twice")
    for op in ops:
        for x in op.values():
            if x not in known:
                raise fault(program, op, "reads a value before it is computed")
        for y in op.outputs:
            if y in known:
                raise fault(program, op, "computes a value for the second time")
            known.add(y)
    return known


def form_of(v: Any) -> Form:
    return tuple(v.shape), v.dtype


def shown(forms: Iterable[Form]) -> str:
    return ", ".join(f"{dtype} {shape}" for shape, dtype in forms) or "nothing"


def fault(program: Program, op: Op, what: str) -> PassError:
    """A line and what is wrong with it, with the names that the printed program has."""
    names = Names(program)
    names.program()
    return PassError(f"the line '{names.line(op)}' {what}")


def results_of(
    primitive: Primitive, operands: Sequence[Any], params: dict[str, Any]
) -> list[Form] | None:
    """The forms of what one of our primitives gives for operands of these forms.

    A loop within the step is verified for itself, and a user's primitive may refuse what it is
    asked with: ones, of integers 0.
    """
    if not str(getattr(primitive.forward, "__module__", "")).startswith(_OURS):
        return None
    forms = [form_of(x) if isinstance(x, Value) else canonical(x) for x in operands]
    key = (primitive, *forms, *(canonical(params) if params else ()))
    if key not in _known:
        given = [
            np.full(x.shape, x.dtype.kind == "f", x.dtype) if isinstance(x, Value) else x
            for x in operands
        ]
        try:
            with np.errstate(all="ignore"):
                found = primitive.forward(np, *given, **params)
        except Exception as error:
            raise PassError(f"{primitive.name} refuses its operands: {error}") from error
        results = map(np.asarray, found if primitive.multiple else (found,))
        _known[key] = [*map(form_of, results)]
    return _known[key]
