"""How much of the gradient goes through a value: a small change followed through the tape.

All leaves move along their own gradient. To first order the loss then changes by the square of
the gradient's norm, and what of this change goes through a value is its cotangent times its own
change: the share of that value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, backend_of, to_host
from tinygrad_rnn.ops.arrays import raw
from tinygrad_rnn.tape import Record, unseen
from tinygrad_rnn.tensor import Tensor, jvp

Arrays = Sequence[Any]
"""Arrays, None where there is none."""


def moved(record: Record, tangents: Arrays) -> list[Any]:
    """How the results of a record change where its inputs change by ``tangents``."""
    known = [k for k, t in enumerate(tangents) if t is not None]
    if not known or all(y.dtype.kind != "f" for y in record.results):
        return [None] * len(record.results)
    with unseen(), np.errstate(all="ignore"):
        primitive = record.primitive
        if primitive.kernel is not None and primitive.joint_rule is None:
            return [_elementwise(record, tangents, known)]
        return _by_rules(record, tangents, known)


def _elementwise(record: Record, tangents: Arrays, known: Sequence[int]) -> Any:
    """The derivative is diagonal, so a gradient rule takes a tangent as it does a cotangent."""
    inputs = [raw(x) for x in record.inputs]
    (y,) = record.results
    xp = backend_of(y).xp
    total = None
    for k in known:
        rule = record.primitive.rules[k]
        if rule is not None:
            part = rule(xp.broadcast_to(tangents[k], y.shape), y, *inputs, **record.params)
            total = part if total is None else total + part
    return None if total is None else xp.broadcast_to(total, y.shape)


def _by_rules(record: Record, tangents: Arrays, known: Sequence[int]) -> list[Any]:
    call: Any = record.primitive
    inputs = [raw(x) for x in record.inputs]
    floats = [k for k, y in enumerate(record.results) if y.dtype.kind == "f"]

    def of_known(*values: Any) -> Any:
        for k, value in zip(known, values, strict=True):
            inputs[k] = value
        found = call(*inputs, **record.params)
        return [found[k] for k in floats] if record.primitive.multiple else found

    primals = [Tensor(inputs[k]) for k in known]
    _, found = jvp(of_known, primals, [Tensor(tangents[k]) for k in known])
    changes: list[Any] = [None] * len(record.results)
    for k, change in zip(floats, found if record.primitive.multiple else [found], strict=True):
        changes[k] = change.array
    return changes


def product(a: Array | None, b: Array | None) -> float:
    """The sum of the products of all elements of two arrays of one shape; 0 without one of them."""
    if a is None or b is None:
        return 0.0
    left, right = (to_host(x).astype(np.float64).reshape(-1) for x in (a, b))
    with np.errstate(all="ignore"):
        return float(left.dot(right))
