"""A time step as a program: the tape of one step with its inputs and outputs sorted by role.

Every pass takes a program and gives a program, and each can be printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

import numpy as np

from tinygrad_rnn.replay.program.loop import DType
from tinygrad_rnn.tape import (
    Origin,
    Primitive,
    current_modes,
    current_place,
    html_paragraph,
    html_table,
    in_place,
)


class Value:
    """One value of a step: its shape and dtype at a single time."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: Sequence[int], dtype: DType) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype


Operand: TypeAlias = "Value | float | int | bool"


class Op:
    """One line: ``outputs = primitive(*inputs, **params)``.

    ``origin`` is that of the record which it came from, where somebody looked when this program was
    traced. It is no part of what a program is: another layer may use the same one, compiled, and
    has its own origins (:attr:`Origin.inside` of its record).

    ``made_of`` are the lines that a pass wrote it for; none where it stands as it was traced. So
    every line of a compiled step can be followed back to the lines of its cell (lineage.py).
    """

    __slots__ = ("inputs", "made_of", "origin", "outputs", "params", "primitive")

    def __init__(
        self,
        primitive: Primitive,
        inputs: Sequence[Operand],
        params: dict[str, Any],
        outputs: Sequence[Value],
        made_of: Sequence[Op] = (),
        origin: Origin | None = None,
    ) -> None:
        self.primitive = primitive
        self.made_of = tuple(made_of)
        self.origin = origin
        self.inputs = tuple(inputs)
        self.params = params
        self.outputs = tuple(outputs)

    def values(self) -> Iterator[Value]:
        """The inputs that are values, not numbers."""
        return (x for x in self.inputs if isinstance(x, Value))


def canonical(value: Any) -> Any:
    """A parameter as something that can be hashed and compared."""
    if isinstance(value, slice):
        bounds = cast("slice[Any, Any, Any]", value)
        return ("slice", bounds.start, bounds.stop, bounds.step)
    if isinstance(value, tuple | list):
        items = cast("tuple[Any, ...]", value)
        return (type(items).__name__, *(canonical(item) for item in items))
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        return tuple((key, canonical(item)) for key, item in found.items())
    if isinstance(value, float | int | bool | np.generic):
        number = cast("Any", value)
        return (type(number), repr(number))  # 1, 1.0 and True are different, and nan equals nan
    try:
        hash(value)
    except TypeError:  # the program holds it, so that no other comes to have its place
        return ("object", id(value))
    return value


def no_values() -> list[Value]:
    return []


@dataclass(repr=False)
class Program:
    """(consts, x_t, state_{t-1}) -> (y_t, state_t, totals), where totals are summed over time.

    ``consts`` are the same at every step, ``xs`` and ``ys`` have one entry per step.
    """

    consts: list[Value]
    xs: list[Value]
    state: list[Value]
    ops: list[Op]
    ys: list[Value]
    next_state: list[Value]
    totals: list[Value] = field(default_factory=no_values)

    @property
    def outputs(self) -> list[Value]:
        return [*self.ys, *self.next_state, *self.totals]

    def producers(self) -> dict[Value, Op]:
        """The op that computes each value."""
        return {y: op for op in self.ops for y in op.outputs}

    def __repr__(self) -> str:
        return f"step of {len(self.ops)} operations"

    def __str__(self) -> str:
        return Names(self).program()

    def _repr_html_(self) -> str:
        return Names(self).html()


def evaluate(
    program: Program,
    consts: Sequence[Any],
    xs: Sequence[Any],
    state: Sequence[Any],
    origins: Sequence[Origin | None] = (),
) -> dict[Value, Any]:
    """Every value of one step, from arrays or from Tensors, which are then recorded.

    While somebody looks, the records come from ``origins``, one for each line: by default those
    that the lines came from.
    """
    looking = current_modes.get().looking
    place = current_place.get()
    known: dict[Value, Any] = dict(zip(program.consts, consts, strict=True))
    known.update(zip(program.xs, xs, strict=True))
    known.update(zip(program.state, state, strict=True))
    for k, op in enumerate(program.ops):
        inputs = [known[x] if isinstance(x, Value) else x for x in op.inputs]
        origin = (origins[k] if origins else op.origin) if looking else None
        with in_place(place._replace(origin=origin)) if origin else nullcontext():
            found = op.primitive(*inputs, **op.params)
        results: Sequence[Any] = found if op.primitive.multiple else (found,)
        known.update(zip(op.outputs, results, strict=True))
    return known


def needed_ops(ops: Iterable[Op], outputs: Iterable[Value]) -> list[Op]:
    """Those of ``ops`` that ``outputs`` depend on, in order."""
    wanted = set(outputs)
    kept: list[Op] = []
    for op in reversed([*ops]):
        if any(y in wanted for y in op.outputs):
            wanted.update(op.values())
            kept.append(op)
    return kept[::-1]


def consumers(ops: Iterable[Op]) -> dict[Value, list[Op]]:
    """The ops that read each value."""
    found: dict[Value, list[Op]] = {}
    for op in ops:
        for x in set(op.values()):
            found.setdefault(x, []).append(op)
    return found


def depending(ops: Iterable[Op], sources: Iterable[Value]) -> set[Value]:
    """``sources`` and everything that ``ops`` compute from them."""
    found = set(sources)
    for op in ops:
        if any(x in found for x in op.values()):
            found.update(op.outputs)
    return found


def substituted(program: Program, replacement: dict[Value, Value], ops: list[Op]) -> Program:
    """A program of ``ops`` whose outputs are replaced where they have a replacement."""

    def new(values: list[Value]) -> list[Value]:
        return [replacement.get(v, v) for v in values]

    return replace(
        program,
        ops=ops,
        ys=new(program.ys),
        next_state=new(program.next_state),
        totals=new(program.totals),
    )


class Names:
    """Names of the values of a program, for printing."""

    def __init__(self, program: Program) -> None:
        self.of: dict[Value, str] = {}
        self.program_ = program
        for letter, values in (("k", program.consts), ("x", program.xs), ("s", program.state)):
            for k, value in enumerate(values):
                self.of.setdefault(value, f"{letter}{k}")

    def operand(self, x: Any) -> str:
        if not isinstance(x, Value):
            return repr(x)
        return self.of.setdefault(x, f"%{sum(n.startswith('%') for n in self.of.values())}")

    def line(self, op: Op) -> str:
        outputs, kinds, call = self.parts(op)
        return f"{outputs} = {call}   {kinds}"

    def parts(self, op: Op) -> tuple[str, str, str]:
        """What a line defines, of what kinds, by which call."""
        arguments = [self.operand(x) for x in op.inputs]
        arguments += [f"{name}={value}" for name, value in op.params.items()]
        kinds = dict.fromkeys(f"{y.dtype} {y.shape}" for y in op.outputs)
        outputs = ", ".join(self.operand(y) for y in op.outputs)
        return outputs, " / ".join(kinds), f"{op.primitive.name}({', '.join(arguments)})"

    def html(self) -> str:
        """The program as a table for notebooks, under what it is given and over what it gives."""
        head, body, tail = self.sections()
        table = html_table(("name", "kind", "operation"), map(self.parts, body), code=2)
        return "".join((*map(html_paragraph, head), table, *map(html_paragraph, tail)))

    def program(self) -> str:
        head, body, tail = self.sections()
        return "\n".join([*head, *(f"  {self.line(op)}" for op in body), *tail])

    def sections(self) -> tuple[list[str], list[Op], list[str]]:
        """What the program is given, its lines, and what it gives."""
        p = self.program_
        head = [
            f"{role}: " + ", ".join(f"{self.operand(v)} {v.dtype} {v.shape}" for v in values)
            for role, values in (("constant", p.consts), ("inputs", p.xs), ("state", p.state))
            if values
        ]
        for op in p.ops:
            self.parts(op)  # gives the values their names
        tail = [
            f"{role}: " + ", ".join(self.operand(v) for v in values)
            for role, values in (
                ("outputs", p.ys),
                ("next state", p.next_state),
                ("summed over time", p.totals),
            )
            if values
        ]
        return head, p.ops, tail


def replace_outputs(program: Program, ys: list[Value]) -> Program:
    """The same step with other outputs over time."""
    outputs = [*ys, *program.next_state, *program.totals]
    return replace(program, ys=ys, ops=needed_ops(program.ops, outputs))
