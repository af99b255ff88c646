"""Products: matmul over leading axes, the affine map of a layer, outer, einsum.

The gradient of a matrix that multiplies row by row is one product of two stacks of rows, wherever
the matrix was used. It is therefore deferred until every use is known: a recurrent weight's
gradient is one product over all T and B. float16 is multiplied in float32 where the backend has
no native product; ``precision`` is told in precision.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, backend_of
from tinygrad_rnn.ops.arrays import A, AnyArray
from tinygrad_rnn.ops.elementwise.arithmetic import multiply
from tinygrad_rnn.ops.joining import concat
from tinygrad_rnn.ops.precision import current, precision_of, product_of_halves
from tinygrad_rnn.ops.promotion import together
from tinygrad_rnn.ops.reductions import sum
from tinygrad_rnn.ops.shaping import (
    broadcast_to,
    dimensions,
    expand_dims,
    reshape,
    squeeze,
    swapaxes,
    transpose,
)
from tinygrad_rnn.tape import Deferred, Primitive

_NORMAL: dict[str, str] = {}
"""The parameters of products unless :func:`matmul_precision` asks for others."""


def _in_float32(function: Any, *arrays: Array) -> Array:
    """``function(*arrays)``, computed in float32 where arrays are float16 and products are slow."""
    x = arrays[0]
    if x.dtype != np.float16 or backend_of(x).native_half:
        return function(*arrays)
    return function(*(a.astype(np.float32) for a in arrays)).astype(np.float16)


def _rows(xs: Sequence[A]) -> A:
    """All rows of some arrays, below each other."""
    rows = [x if x.ndim == 2 else reshape(x, (math.prod(x.shape[:-1]), x.shape[-1])) for x in xs]
    return concat(rows) if len(rows) > 1 else rows[0]


def _row_products(
    shape: tuple[int, ...], dtype: Any, parts: Sequence[tuple[Any, Any]], **how: str
) -> AnyArray:
    """Sum over all parts (a, b) of a^T b, as one product of the stacked rows."""
    left, right = zip(*parts, strict=True)
    return matmul_p(transpose(_rows(left)), _rows(right), **how)


_half_row_products = partial(_row_products, precision="float16")


def _deferred(a: AnyArray, b: AnyArray, how: dict[str, str]) -> Deferred:
    """A contribution a^T b to a matrix that multiplied row by row; each precision for itself."""
    return Deferred(_half_row_products if how else _row_products, a, b)


def _row_sums(shape: tuple[int, ...], dtype: Any, parts: Sequence[tuple[Any]]) -> AnyArray:
    """Sum of all rows of all parts."""
    return sum(_rows([a for (a,) in parts]), 0)


def _matmul_left(g: AnyArray, y: AnyArray, a: AnyArray, b: AnyArray, **how: str) -> Any:
    return matmul_p(g, swapaxes(b, -1, -2), **how)


def _matmul_right(g: AnyArray, y: AnyArray, a: AnyArray, b: AnyArray, **how: str) -> Any:
    if b.ndim == 2:
        return _deferred(a, g, how)
    return matmul_p(swapaxes(a, -1, -2), g, **how)


def _matmul_forward(xp: Any, a: Any, b: Any, **how: str) -> Array:
    if how:
        return product_of_halves(a, b)
    return _in_float32(backend_of(a if hasattr(a, "dtype") else b).matmul, a, b)


matmul_p = Primitive("matmul", _matmul_forward, [_matmul_left, _matmul_right], promote=together)


def _linear_forward(xp: Any, x: Array, weight: Array, *bias: Array, **how: str) -> Array:
    if how:
        y = product_of_halves(x, weight.T)
    else:
        y = _in_float32(backend_of(x).matmul_transposed, x, weight)
    if bias:
        y += bias[0]
    return y


def _linear_rule(
    needed: Sequence[bool],
    gs: Sequence[Any],
    ys: Sequence[AnyArray],
    x: AnyArray,
    weight: AnyArray,
    *bias: AnyArray,
    **how: str,
) -> list[Any]:
    (g,) = gs
    return [
        _multiplied(g, weight, how) if needed[0] else None,
        _deferred(g, x, how) if needed[1] else None,
        *([Deferred(_row_sums, g)] if bias else ()),
    ]


linear_p = Primitive("linear", _linear_forward, joint_rule=_linear_rule, promote=together)


def matmul(a: A, b: A) -> A:
    """The matrix product over the last two axes, broadcasting the leading ones.

    As in NumPy a 1-d operand is a row on the left and a column on the right, and its axis
    disappears. For float16 operands see :func:`matmul_precision`.
    """
    if dimensions(a, "matmul") == 0 or dimensions(b, "matmul") == 0:
        raise ValueError(
            f"matmul: operands need at least one axis, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    how = _NORMAL if current.get() == "float32" else precision_of("matmul", a, b)
    return _multiplied(a, b, how)


def _multiplied(a: A, b: A, how: dict[str, str]) -> A:
    """The product in the precision that is given."""
    left = expand_dims(a, 0) if a.ndim == 1 else a
    right = expand_dims(b, 1) if b.ndim == 1 else b
    if left.shape[-1] != right.shape[-2]:
        raise ValueError(
            f"matmul: {tuple(a.shape)} @ {tuple(b.shape)} do not fit: {left.shape[-1]} columns "
            f"meet {right.shape[-2]} rows"
        )
    y = matmul_p(left, right, **how)
    if a.ndim == 1:
        y = squeeze(y, -2)
    return squeeze(y, -1) if b.ndim == 1 else y


def linear(x: A, weight: A, bias: A | None = None) -> A:
    """Y = x W^T + b, for x (..., I), W (O, I), b (O,): the affine map of a layer, (..., O).

    For float16 operands see :func:`matmul_precision`.
    """
    if dimensions(weight, "linear") != 2:
        raise ValueError(f"linear: the weight must have shape (O, I), got {tuple(weight.shape)}")
    if dimensions(x, "linear") == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: inputs must have shape (..., {weight.shape[-1]}), got {tuple(x.shape)}"
        )
    how = _NORMAL
    if current.get() != "float32":
        how = precision_of("linear", x, weight, *([] if bias is None else [bias]))
    if bias is None:
        return linear_p(x, weight, **how)
    if tuple(bias.shape) != (weight.shape[0],):
        raise ValueError(
            f"linear: the bias must have shape ({weight.shape[0]},), got {tuple(bias.shape)}"
        )
    return linear_p(x, weight, bias, **how)


def outer(a: A, b: A) -> A:
    """a_i b_j for two vectors."""
    if dimensions(a, "outer") != 1 or dimensions(b, "outer") != 1:
        raise ValueError(f"outer: expected two vectors, got {tuple(a.shape)} and {tuple(b.shape)}")
    return multiply(expand_dims(a, 1), expand_dims(b, 0))


# einsum


def _einsum_rule(
    needed: Sequence[bool],
    gs: Sequence[Any],
    ys: Sequence[AnyArray],
    *operands: AnyArray,
    terms: tuple[str, ...],
    output: str,
) -> list[Any]:
    """The cotangent of one operand: the einsum of g and all the others, onto its letters."""
    cotangents: list[Any] = []
    for k, (term, x) in enumerate(zip(terms, operands, strict=True)):
        if not needed[k]:
            cotangents.append(None)
            continue
        others = [operand for j, operand in enumerate(operands) if j != k]
        other_terms = [t for j, t in enumerate(terms) if j != k]
        known = "".join([output, *other_terms])
        found = "".join(letter for letter in term if letter in known)
        part = einsum_p(gs[0], *others, terms=(output, *other_terms), output=found)
        shape = [n if letter in found else 1 for letter, n in zip(term, x.shape, strict=True)]
        cotangents.append(broadcast_to(reshape(part, shape), x.shape))
    return cotangents


def _einsum_forward(xp: Any, *operands: Array, terms: tuple[str, ...], output: str) -> Array:
    equation = f"{','.join(terms)}->{output}"
    return _in_float32(partial(xp.einsum, equation), *operands)


einsum_p = Primitive("einsum", _einsum_forward, joint_rule=_einsum_rule, promote=together)


def einsum(equation: str, *operands: A) -> A:
    """Einstein summation, such as ``einsum("tbi,oi->tbo", x, w)``.

    Letters name axes; ``...`` is not taken, and neither is a letter repeated in one operand (a
    diagonal), nor sizes that would need broadcasting.
    """
    terms, _, output = equation.replace(" ", "").partition("->")
    parts = tuple(terms.split(","))
    letters = "".join(parts)
    if "." in equation or (not (letters + output).isalpha() and letters + output):
        raise ValueError(f"einsum: an equation is made of letters, ',' and '->', got {equation!r}")
    if "->" not in equation:
        output = "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
    if len(parts) != len(operands):
        raise ValueError(f"einsum: {equation!r} names {len(parts)} operands, got {len(operands)}")
    sizes: dict[str, int] = {}
    for part, x in zip(parts, operands, strict=True):
        if len(set(part)) < len(part):
            raise ValueError(f"einsum: a letter is repeated within the operand {part!r}")
        if len(part) != dimensions(x, "einsum"):
            raise ValueError(f"einsum: {part!r} names {len(part)} axes of shape {tuple(x.shape)}")
        for letter, size in zip(part, x.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(
                    f"einsum: axis {letter!r} has sizes {sizes[letter]} and {size} in {equation!r}"
                )
    if len(set(output)) < len(output) or not set(output) <= set(letters):
        raise ValueError(f"einsum: the output of {equation!r} must name operand axes once each")
    return einsum_p(*operands, terms=parts, output=output)
