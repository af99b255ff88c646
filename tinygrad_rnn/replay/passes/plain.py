"""The plain operations: what is left after lowering, and what can be said of each.

They are elementwise operations, products of two matrices, reductions along the last axis, views
(slice, transpose, reshape, broadcast_to), concat and fill, and operations that are run as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.ops import primitives as P
from tinygrad_rnn.ops.kernel_language import applies
from tinygrad_rnn.replay.program.program import Op, Value
from tinygrad_rnn.tape import Primitive


def _cut(x: Any, axis: int, start: int, stop: int) -> Any:
    return x[(*(slice(None),) * axis, slice(start, stop))]


SLICE = Primitive(
    "slice",
    lambda xp, x, axis, start, stop: _cut(x, axis, start, stop),
    batch=lambda stacked, x, axis, start, stop: _cut(x, axis + 1, start, stop),
)
FILL = Primitive("fill", lambda xp, value, shape, dtype: xp.full(shape, value, dtype=dtype))
COPY = Primitive("copy", lambda xp, x: x.copy(), kernel="x0")

HALF = np.dtype(np.float16)
REDUCTIONS = {P.sum: "sum", P.max: "max", P.min: "min"}
VIEWS = (SLICE, P.transpose, P.reshape, P.broadcast_to)


def is_elementwise(op: Op) -> bool:
    """Whether a kernel can compute it, element by element."""
    kernel = op.primitive.kernel
    return op.primitive is P.cast or (
        kernel is not None and applies(kernel, len(op.inputs), op.params)
    )


def is_reduction(op: Op) -> bool:
    """Whether it reduces the last axis to size one."""
    return (
        op.primitive in REDUCTIONS
        and isinstance(op.inputs[0], Value)
        and op.params["axis"] == (len(op.inputs[0].shape) - 1,)
        and op.params["keepdims"] is True
        and op.inputs[0].dtype.kind == "f"
        and op.inputs[0].dtype != np.float16
    )


def is_product(op: Op) -> bool:
    """Whether it is a product of two matrices."""
    return op.primitive is P.matmul and all(
        isinstance(x, Value) and len(x.shape) == 2 for x in op.inputs
    )


def is_wide(op: Op) -> bool:
    """Whether it gives float32 for float16 operands."""
    return "precision" in op.params


def in_kernel(op: Op) -> bool:
    """Whether it is computed inside a kernel."""
    return is_elementwise(op) or is_reduction(op)


def is_moved(op: Op) -> bool:
    """Whether it only says where values lie."""
    return op.primitive in VIEWS or op.primitive is P.concat


def is_light(op: Op) -> bool:
    """Whether it costs next to nothing beside the kernels of a loop."""
    return in_kernel(op) or is_moved(op) or op.primitive is FILL
