"""How many multiply-adds the products of an operation are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tinygrad_rnn.ops import primitives as P
from tinygrad_rnn.replay import is_replayed
from tinygrad_rnn.replay.program.program import Program
from tinygrad_rnn.tape import Record


def multiply_adds(record: Record) -> int:
    """The multiply-adds of a record's products; those of a replayed loop at all time steps.

    ``matmul``, ``linear`` and ``einsum`` are products. What is elementwise counts nothing.
    """
    if is_replayed(record):
        return _of_program(record.params["replay"].program) * record.params["steps"]
    return _of_line(record.primitive, record.inputs, record.results, record.params)


def _of_program(program: Program) -> int:
    """Those of one time step."""
    return sum(
        _of_program(op.params["replay"].program) * op.params["steps"]
        if op.primitive.name == "scan" and "replay" in op.params
        else _of_line(op.primitive, op.inputs, op.outputs, op.params)
        for op in program.ops
    )


def _of_line(
    primitive: Any, inputs: Sequence[Any], results: Sequence[Any], params: Mapping[str, Any]
) -> int:
    """Those of one operation on values with shapes."""
    if primitive in (P.matmul, P.linear):
        return math.prod(results[0].shape) * inputs[0].shape[-1]
    if primitive is not P.einsum or len(inputs) < 2:
        return 0
    sizes: dict[str, int] = {}
    for term, x in zip(params["terms"], inputs, strict=True):
        sizes |= dict(zip(term, x.shape, strict=True))
    return math.prod(sizes.values()) * (len(inputs) - 1)
