"""The notation of a NumPy array: operators and methods, each of them one operation of ops/."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Never, Self

from tinygrad_rnn import ops, tape

Operand = Any
"""A Tensor, an array of the same device, or a number."""

_OPERATORS = {
    "add", "subtract", "multiply", "divide", "floor_divide", "remainder", "power", "matmul",
    "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "bitwise_and",
    "bitwise_or", "bitwise_xor",
}  # fmt: skip
_OTHER_NAMES = {"absolute": "abs", "rint": "round", "logical_not": "invert"}

_UNCLEAR = ((0, 1), (0, -1), (-2, 1), (-2, -1))
"""What leaves the axes of a matrix alone in NumPy, and in PyTorch exchanges them."""


class Notation(tape.Traced):
    """What a Tensor can be written with."""

    __slots__ = ()
    __hash__ = object.__hash__

    # Operators

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

    def __eq__(self, other: object) -> Any:
        return NotImplemented if other is None or isinstance(other, str) else ops.equal(self, other)

    def __ne__(self, other: object) -> Any:
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

    # Methods, as a NumPy array has them. NumPy's functions call them with dtype and out.

    def sum(
        self, axis: Any = None, keepdims: bool = False, *, dtype: Any = None, out: None = None
    ) -> Self:
        return ops.sum(_asked(self, "sum", out, dtype), axis, keepdims)

    def mean(
        self, axis: Any = None, keepdims: bool = False, *, dtype: Any = None, out: None = None
    ) -> Self:
        return ops.mean(_asked(self, "mean", out, dtype), axis, keepdims)

    def var(
        self,
        axis: Any = None,
        ddof: int = 0,
        keepdims: bool = False,
        *,
        dtype: Any = None,
        out: None = None,
    ) -> Self:
        return ops.var(_asked(self, "var", out, dtype), axis, ddof, keepdims)

    def std(
        self,
        axis: Any = None,
        ddof: int = 0,
        keepdims: bool = False,
        *,
        dtype: Any = None,
        out: None = None,
    ) -> Self:
        return ops.std(_asked(self, "std", out, dtype), axis, ddof, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False, *, out: None = None) -> Self:
        return ops.max(_asked(self, "max", out), axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False, *, out: None = None) -> Self:
        return ops.min(_asked(self, "min", out), axis, keepdims)

    def prod(
        self, axis: Any = None, keepdims: bool = False, *, dtype: Any = None, out: None = None
    ) -> Self:
        return ops.prod(_asked(self, "prod", out, dtype), axis, keepdims)

    def any(self, axis: Any = None, keepdims: bool = False, *, out: None = None) -> Self:
        return ops.any(_asked(self, "any", out), axis, keepdims)

    def all(self, axis: Any = None, keepdims: bool = False, *, out: None = None) -> Self:
        return ops.all(_asked(self, "all", out), axis, keepdims)

    def cumsum(self, axis: int | None = 0, *, dtype: Any = None, out: None = None) -> Self:
        return ops.cumsum(_asked(self, "cumsum", out, dtype), axis)

    def argmax(self, axis: int | None = None, *, out: None = None) -> Self:
        return ops.argmax(_asked(self, "argmax", out), axis)

    def argmin(self, axis: int | None = None, *, out: None = None) -> Self:
        return ops.argmin(_asked(self, "argmin", out), axis)

    def clip(
        self, low: float | None = None, high: float | None = None, *, out: None = None
    ) -> Self:
        return ops.clip(_asked(self, "clip", out), low, high)

    def exp(self) -> Self:
        return ops.exp(self)

    def log(self) -> Self:
        return ops.log(self)

    def sqrt(self) -> Self:
        return ops.sqrt(self)

    def tanh(self) -> Self:
        return ops.tanh(self)

    def sigmoid(self) -> Self:
        return ops.sigmoid(self)

    def relu(self) -> Self:
        return ops.relu(self)

    def reshape(self, *shape: Any) -> Self:
        return ops.reshape(self, _variadic(shape))

    def transpose(self, *axes: Any) -> Self:
        if axes in _UNCLEAR and self.array.ndim == 2:
            raise TypeError(
                f"transpose: x.transpose{axes} exchanges both axes in PyTorch and none in NumPy; "
                "write x.T or x.swapaxes(0, 1) for PyTorch's, and nothing for NumPy's"
            )
        return ops.transpose(self, _variadic(axes) if axes else None)

    def swapaxes(self, axis1: int, axis2: int) -> Self:
        return ops.swapaxes(self, axis1, axis2)

    def squeeze(self, axis: int | Sequence[int] | None = None) -> Self:
        return ops.squeeze(self, axis)

    def flatten(self) -> Self:
        return ops.reshape(self, (-1,))

    def split(
        self,
        *places: Never,
        parts: int | None = None,
        sizes: Sequence[int] | None = None,
        axis: int = -1,
    ) -> tuple[Self, ...]:
        return ops.split(self, *places, parts=parts, sizes=sizes, axis=axis)

    def chunk(self, chunks: int, axis: int = 0) -> tuple[Self, ...]:
        return ops.chunk(self, chunks, axis)

    @property
    def T(self) -> Self:
        """The axes reversed."""
        return ops.transpose(self)


def _asked(x: Any, who: str, out: object, dtype: Any = None) -> Any:
    """X in the dtype that NumPy's function of the name was asked for; nothing is written to."""
    if out is not None:
        raise TypeError(f"{who}: out= is not taken, as a result is a new Tensor; use tg.{who}(x)")
    return x if dtype is None else x.astype(dtype)


def _variadic(arguments: tuple[Any, ...]) -> Any:
    """``f(2, 3)`` and ``f((2, 3))`` mean the same, as with a NumPy array's methods."""
    return arguments[0] if len(arguments) == 1 and not isinstance(arguments[0], int) else arguments
