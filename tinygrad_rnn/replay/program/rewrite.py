"""How a pass goes through a program, line by line, and writes another one."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tinygrad_rnn.replay.program.loop import DType
from tinygrad_rnn.replay.program.program import (
    Op,
    Operand,
    Program,
    Value,
    needed_ops,
    substituted,
)
from tinygrad_rnn.tape import Primitive


class Rewriter:
    """Goes through a program's ops in order and collects their replacements.

    ``at`` are the lines for which ops are emitted at the moment.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.ops: list[Op] = []
        self.at: tuple[Op, ...] = ()
        self.replacement: dict[Value, Value] = {}

    def current(self, x: Any) -> Any:
        """What stands for a value now."""
        return self.replacement.get(x, x) if isinstance(x, Value) else x

    def emit(
        self,
        primitive: Primitive,
        inputs: Sequence[Operand],
        shape: Sequence[int],
        dtype: DType,
        /,
        **params: Any,
    ) -> Value:
        """Append an op with one output."""
        y = Value(shape, dtype)
        self.ops.append(Op(primitive, inputs, params, [y], self.at))
        return y

    def keep(self, op: Op) -> None:
        """Append an op as it is, on current values."""
        inputs = tuple(self.current(x) for x in op.inputs)
        same = all(map(operator.is_, inputs, op.inputs))
        new = op if same else Op(op.primitive, inputs, op.params, op.outputs, [op])
        self.ops.append(new)

    def stands_for(self, y: Value) -> None:
        """Say that the op that computes ``y`` stands for the lines of the moment, too."""
        k = next(k for k, op in enumerate(self.ops) if y in op.outputs)
        op = self.ops[k]
        self.ops[k] = Op(op.primitive, op.inputs, op.params, op.outputs, [op, *self.at])

    def result(self) -> Program:
        """The new program, without what nothing needs."""
        program = substituted(self.program, self.replacement, self.ops)
        return replace(program, ops=needed_ops(program.ops, program.outputs))


def rewrite(program: Program, rule: Callable[[Rewriter, Op], bool]) -> Program:
    """Apply ``rule(rewriter, op)`` to every op; where it returns False the op is kept."""
    rewriter = Rewriter(program)
    for op in program.ops:
        rewriter.at = (op,)
        if not rule(rewriter, op):
            rewriter.keep(op)
    return rewriter.result()
