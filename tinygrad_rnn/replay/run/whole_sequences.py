"""Work on whole sequences: what is done before and after the loop, for all T at once.

A product of every time step with one matrix is one product of T * B rows. The sum over time of
products a_t^T b_t is one product of two stacks, and the sum passes through transposes, sums and
whatever else is linear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tinygrad_rnn import ops
from tinygrad_rnn.backends import Array, Backend
from tinygrad_rnn.ops import primitives as P
from tinygrad_rnn.ops.batching import batched
from tinygrad_rnn.replay.passes.plain import SLICE, is_product
from tinygrad_rnn.replay.program.program import Op, Value

_SHAPING = (P.transpose, P.reshape, P.broadcast_to, P.concat, SLICE)
_LINEAR = (*_SHAPING, P.sum, P.sum_to, P.cast, ops.negative)


class OverTime:
    """Values of all time steps, computed when they are asked for.

    Parameters
    ----------
    backend : that of the arrays.
    steps : T.
    single : arrays of the values that are the same at every step.
    stacked : arrays (T, ...) of values that are known already.
    producers : the ops that may be evaluated, by what they compute.
    take : ``take(shape, dtype)`` gives memory for a large intermediate result.
    """

    def __init__(
        self,
        backend: Backend,
        steps: int,
        single: dict[Value, Array],
        stacked: dict[Value, Array],
        producers: Mapping[Value, Op],
        take: Callable[[tuple[int, ...], Any], Array],
    ) -> None:
        self.backend, self.xp, self.steps = backend, backend.xp, steps
        self.single, self.stacked = single, stacked
        self.producers = producers
        self.take = take
        self.totals: dict[Value, Array] = {}

    def copy(self) -> OverTime:
        """The same, in which what is asked for is not known here."""
        stacked = {**self.stacked}
        return OverTime(self.backend, self.steps, self.single, stacked, self.producers, self.take)

    def operand(self, x: Any) -> Any:
        """A value of all steps, or one that does not change, or a number."""
        if not isinstance(x, Value):
            return x
        found = self.single.get(x)
        return self.series(x) if found is None else found

    def series(self, v: Value) -> Array:
        """A value at every step, (T, ...)."""
        found = self.stacked.get(v)
        if found is not None:
            return found
        if v in self.single:
            array = self.single[v]
            return self.xp.broadcast_to(array, (self.steps, *array.shape))
        op = self.producers[v]
        if is_product(op) and op.inputs[1] in self.single:
            self.stacked[v] = self._rows_product(op, self.take((self.steps, *v.shape), v.dtype))
        else:
            inputs = [self.operand(x) for x in op.inputs]
            changing = [isinstance(x, Value) and x not in self.single for x in op.inputs]
            computed = batched(op.primitive, changing, inputs, op.params)
            results = computed if op.primitive.multiple else (computed,)
            self.stacked.update(zip(op.outputs, results, strict=True))
        return self.stacked[v]

    def _rows_product(self, op: Op, out: Array) -> Array:
        a, b = (self.operand(x) for x in op.inputs)
        multiply = self.backend.matmul_wide if op.params else self.backend.matmul
        multiply(_flat(a), b, _flat(out))
        return out

    def total(self, v: Value) -> Array:
        """The sum of a value over all steps; others may share its memory."""
        found = self.totals.get(v)
        if found is None:
            found = self.totals[v] = self._total(v)
        return found

    def _total(self, v: Value) -> Array:
        if v in self.single:
            return self.single[v] * self.steps
        op = None if v in self.stacked else self.producers.get(v)
        if op is None:
            return self.xp.sum(self.series(v), axis=0)
        if is_product(op):
            return self._total_product(v, op, *op.inputs)
        if op.primitive in _LINEAR and v.dtype.kind == "f":
            return op.primitive(*map(self.total, op.inputs), **op.params)  # pyright: ignore
        if op.primitive in (ops.add, ops.subtract) and all(
            isinstance(x, Value) and x.shape == v.shape for x in op.inputs
        ):
            return op.primitive(*map(self.total, op.inputs))  # pyright: ignore
        if op.primitive is ops.multiply:
            for x, factor in (op.inputs, op.inputs[::-1]):
                if not isinstance(factor, Value) or factor in self.single:
                    return self.total(x) * self.operand(factor)  # pyright: ignore
        if op.primitive is P.scatter_add:
            values, indices = (self.series(x) for x in op.inputs)  # pyright: ignore
            tail = values.shape[indices.ndim :]
            return P.scatter_add(
                values.reshape(indices.size, *tail), indices.reshape(-1), **op.params
            )
        if op.primitive is P.einsum:
            return self._total_einsum(op)
        return self.xp.sum(self.series(v), axis=0)

    def _total_product(self, v: Value, op: Op, a: Any, b: Any) -> Array:
        wide = bool(op.params)  # a product has none but its precision
        if wide and (a in self.single or b in self.single):
            return self.xp.sum(self.series(v), axis=0)  # float16 holds no sums over time
        if a in self.single:
            return self.backend.matmul(self.single[a], self.total(b))
        if b in self.single:
            return self.backend.matmul(self.total(a), self.single[b])
        turned = self.producers.get(a)
        if turned is not None and turned.primitive is P.transpose:
            left = _flat(self.series(turned.inputs[0])).T  # pyright: ignore
        else:
            stack = self.series(a)
            left = self.xp.moveaxis(stack, 1, 0).reshape(stack.shape[1], -1)
        multiply = self.backend.matmul_wide if wide else self.backend.matmul
        return multiply(left, _flat(self.series(b)))

    def _total_einsum(self, op: Op) -> Array:
        terms, output = op.params["terms"], op.params["output"]
        letter = next(c for c in "zyxwvutsrqponmlkjihgfedcba" if c not in "".join(terms))
        new = [
            term if x in self.single else letter + term
            for term, x in zip(terms, op.inputs, strict=True)
        ]
        return self.xp.einsum(f"{','.join(new)}->{output}", *(self.operand(x) for x in op.inputs))


def _flat(stack: Array) -> Array:
    """(T, n, k) as T * n rows."""
    return stack.reshape(math.prod(stack.shape[:-1]), stack.shape[-1])
