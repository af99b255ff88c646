"""The precision of products: float16 operands, summed in float32, where a block asks for it.

It is a parameter of the operation, set when ``matmul`` or ``linear`` is called. So it stands on the
tape, a replayed loop has it, and the products of backward run in the precision of forward.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, Switch, backend_of
from tinygrad_rnn.ops.promotion import cast_p, common_dtype

PRECISIONS = ("float32", "float16")

current: ContextVar[str] = ContextVar("tinygrad_rnn_matmul_precision", default="float32")


def matmul_precision(precision: str) -> Switch[str, None]:
    """Within the block (or the function that it decorates), the precision of float32 products.

    Under ``"float16"`` the operands of ``tg.matmul``, ``@`` and ``tg.linear`` whose common dtype is
    float32 are rounded to float16, multiplied, and summed in float32; the result is float32.
    The bias of ``linear`` is added in float32. What is recorded so is differentiated so: the
    products of its gradient, of any order, run in float16 wherever ``backward`` is called.
    ``"float32"`` is the default, and switches off within. Products of float64, of float16 and of
    integers, ``einsum`` and all that is no product stay as they are.

    float16 has 11 bits and holds numbers from 6e-8 to 65504: smaller gradients are lost on the way,
    against which there is :class:`tinygrad_rnn.optim.LossScale`. As with ``no_grad``, the switch is
    that of one thread or context. On a CPU this shows whether a network bears it; it is no faster.

    Source: Micikevicius et al. 2018, Mixed Precision Training, section 3.3.

    Raises
    ------
    ValueError
        for another precision than these two.

    >>> from tinygrad_rnn import matmul, tensor
    >>> a, b = tensor([1.0, 2049.0]), tensor([1.0, 1.0])
    >>> with matmul_precision("float16"):
    ...     c = a @ b  # 2049 needs 12 bits
    >>> a @ b, c
    (tensor(2050., dtype=float32), tensor(2049., dtype=float32))
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"matmul_precision: precision must be 'float32' or 'float16', got {precision!r}"
        )
    return Switch("matmul_precision", current, lambda before: precision)


def current_precision() -> str:
    """The precision of float32 products in this thread or context."""
    return current.get()


def precision_of(who: str, *operands: Any) -> dict[str, str]:
    """The parameters of a product of such operands: none, or its precision."""
    precision = current.get()
    if precision == "float32" or common_dtype(operands, who) != np.float32:
        return {}
    return {"precision": precision}


def product_of_halves(a: Array, b: Array) -> Array:
    """The product of two arrays rounded to float16, in float32."""
    backend = backend_of(a)
    halves = [x if x.dtype == np.float16 else cast_p(x, dtype=np.dtype(np.float16)) for x in (a, b)]
    return backend.matmul_wide(*halves)
