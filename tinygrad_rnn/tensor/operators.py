"""The operators of a NumPy array, each of them one operation of ops/."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn, Self, TypeAlias

from tinygrad_rnn import ops
from tinygrad_rnn.tensor.values import Values

Operand: TypeAlias = Any
"""A Tensor, an array of the same device, or a number."""

_OPERATORS = {
    "add", "subtract", "multiply", "divide", "floor_divide", "remainder", "power", "matmul",
    "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "bitwise_and",
    "bitwise_or", "bitwise_xor",
}  # fmt: skip
_OTHER_NAMES = {"absolute": "abs", "rint": "round", "logical_not": "invert"}


class Operators(Values):
    """What can be written with a Tensor: operators, an index, a loop over its first axis."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Operand, **options: Any) -> Any:
        """An operator whose left side is an array; no other function of NumPy takes a Tensor."""
        name = str(_OTHER_NAMES.get(ufunc.__name__, ufunc.__name__))
        if method == "__call__" and name in _OPERATORS and not options:
            return getattr(ops, name)(*inputs)
        advice = "take the values of the Tensor by .detach().numpy()"
        if options.get("out") is not None:
            advice = "an array cannot be changed in place by a Tensor; " + advice
        elif method == "__call__" and hasattr(ops, name):
            advice = f"write tinygrad_rnn.{name}"
        raise TypeError(f"numpy.{ufunc.__name__} does not know the tape of a Tensor: {advice}")

    def __add__(self, other: Operand) -> Self:
        return ops.add(self, other)

    def __radd__(self, other: Operand) -> Self:
        return ops.add(other, self)

    def __sub__(self, other: Operand) -> Self:
        return ops.subtract(self, other)

    def __rsub__(self, other: Operand) -> Self:
        return ops.subtract(other, self)

    def __mul__(self, other: Operand) -> Self:
        return ops.multiply(self, other)

    def __rmul__(self, other: Operand) -> Self:
        return ops.multiply(other, self)

    def __truediv__(self, other: Operand) -> Self:
        return ops.divide(self, other)

    def __rtruediv__(self, other: Operand) -> Self:
        return ops.divide(other, self)

    def __floordiv__(self, other: Operand) -> Self:
        return ops.floor_divide(self, other)

    def __rfloordiv__(self, other: Operand) -> Self:
        return ops.floor_divide(other, self)

    def __mod__(self, other: Operand) -> Self:
        return ops.remainder(self, other)

    def __rmod__(self, other: Operand) -> Self:
        return ops.remainder(other, self)

    def __pow__(self, other: Operand) -> Self:
        return ops.power(self, other)

    def __rpow__(self, other: Operand) -> Self:
        return ops.power(other, self)

    def __matmul__(self, other: Operand) -> Self:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Operand) -> Self:
        return ops.matmul(other, self)

    def __neg__(self) -> Self:
        return ops.negative(self)

    def __pos__(self) -> Self:
        return self

    def __abs__(self) -> Self:
        return ops.abs(self)

    def __invert__(self) -> Self:
        return ops.invert(self)

    def __and__(self, other: Operand) -> Self:
        return ops.bitwise_and(self, other)

    __rand__ = __and__

    def __or__(self, other: Operand) -> Self:
        return ops.bitwise_or(self, other)

    __ror__ = __or__

    def __xor__(self, other: Operand) -> Self:
        return ops.bitwise_xor(self, other)

    __rxor__ = __xor__

    def __eq__(self, other: Any) -> Any:
        return NotImplemented if other is None or isinstance(other, str) else ops.equal(self, other)

    def __ne__(self, other: Any) -> Any:
        if other is None or isinstance(other, str):
            return NotImplemented
        return ops.not_equal(self, other)

    def __lt__(self, other: Operand) -> Self:
        return ops.less(self, other)

    def __le__(self, other: Operand) -> Self:
        return ops.less_equal(self, other)

    def __gt__(self, other: Operand) -> Self:
        return ops.greater(self, other)

    def __ge__(self, other: Operand) -> Self:
        return ops.greater_equal(self, other)

    # Elements

    def __getitem__(self, index: Any) -> Self:
        return ops.getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError(
            "a Tensor is not assigned to in place, since the tape may need its old values: write "
            "x = x.at[index].set(values)"
        )

    def __iter__(self) -> Iterator[Self]:
        if self.array.ndim == 0:
            raise TypeError("a 0-d Tensor cannot be iterated over")
        return iter(ops.unstack(self))

    def __contains__(self, value: Operand) -> bool:
        return bool(ops.any(ops.equal(self, value)))
