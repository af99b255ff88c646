"""The methods of a NumPy array, each of them one operation of ops/."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Never, Self

from tinygrad_rnn import ops
from tinygrad_rnn.ops.shaping import Axis
from tinygrad_rnn.tensor.operators import Operators

_UNCLEAR = ((0, 1), (0, -1), (-2, 1), (-2, -1))
"""What leaves the axes of a matrix alone in NumPy, and in PyTorch exchanges them."""


class Methods(Operators):
    """The functions of ops/ that a NumPy array has as methods.

    NumPy's functions, such as ``np.sum(x)``, call them with ``dtype`` and ``out``: a dtype is that
    in which x is taken, and ``out`` is refused.
    """

    __slots__ = ()

    def sum(
        self, axis: Axis = None, keepdims: bool = False, *, dtype: Any = None, out: None = None
    ) -> Self:
        """The sum over ``axis``: :func:`tinygrad_rnn.sum`."""
        return ops.sum(_asked(self, "sum", out, dtype), axis, keepdims)

    def mean(
        self, axis: Axis = None, keepdims: bool = False, *, dtype: Any = None, out: None = None
    ) -> Self:
        """The arithmetic mean over ``axis``: :func:`tinygrad_rnn.mean`."""
        return ops.mean(_asked(self, "mean", out, dtype), axis, keepdims)

    def var(
        self,
        axis: Axis = None,
        ddof: int = 0,
        keepdims: bool = False,
        *,
        dtype: Any = None,
        out: None = None,
    ) -> Self:
        """The variance over ``axis``, sum (x - mean)^2 / (n - ddof): :func:`tinygrad_rnn.var`."""
        return ops.var(_asked(self, "var", out, dtype), axis, ddof, keepdims)

    def std(
        self,
        axis: Axis = None,
        ddof: int = 0,
        keepdims: bool = False,
        *,
        dtype: Any = None,
        out: None = None,
    ) -> Self:
        """The standard deviation over ``axis``: :func:`tinygrad_rnn.std`."""
        return ops.std(_asked(self, "std", out, dtype), axis, ddof, keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False, *, out: None = None) -> Self:
        """The largest value over ``axis``: :func:`tinygrad_rnn.max`."""
        return ops.max(_asked(self, "max", out), axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False, *, out: None = None) -> Self:
        """The smallest value over ``axis``: :func:`tinygrad_rnn.min`."""
        return ops.min(_asked(self, "min", out), axis, keepdims)

    def prod(
        self, axis: Axis = None, keepdims: bool = False, *, dtype: Any = None, out: None = None
    ) -> Self:
        """The product over ``axis``: :func:`tinygrad_rnn.prod`."""
        return ops.prod(_asked(self, "prod", out, dtype), axis, keepdims)

    def any(self, axis: Axis = None, keepdims: bool = False, *, out: None = None) -> Self:
        """Whether any element over ``axis`` is true."""
        return ops.any(_asked(self, "any", out), axis, keepdims)

    def all(self, axis: Axis = None, keepdims: bool = False, *, out: None = None) -> Self:
        """Whether all elements over ``axis`` are true."""
        return ops.all(_asked(self, "all", out), axis, keepdims)

    def cumsum(self, axis: int | None = 0, *, dtype: Any = None, out: None = None) -> Self:
        """Running sums along one axis, or of the flat array for None."""
        return ops.cumsum(_asked(self, "cumsum", out, dtype), axis)

    def argmax(self, axis: int | None = None, *, out: None = None) -> Self:
        """The index of the first largest value along ``axis``, by default into the flat array."""
        return ops.argmax(_asked(self, "argmax", out), axis)

    def argmin(self, axis: int | None = None, *, out: None = None) -> Self:
        """The index of the first smallest value along ``axis``, by default into the flat array."""
        return ops.argmin(_asked(self, "argmin", out), axis)

    def clip(
        self, low: float | None = None, high: float | None = None, *, out: None = None
    ) -> Self:
        """The values limited to [low, high]: :func:`tinygrad_rnn.clip`."""
        return ops.clip(_asked(self, "clip", out), low, high)

    def exp(self) -> Self:
        """e^x of each element."""
        return ops.exp(self)

    def log(self) -> Self:
        """The natural logarithm of each element."""
        return ops.log(self)

    def sqrt(self) -> Self:
        """The square root of each element."""
        return ops.sqrt(self)

    def tanh(self) -> Self:
        """The hyperbolic tangent of each element."""
        return ops.tanh(self)

    def sigmoid(self) -> Self:
        """1 / (1 + e^-x) of each element."""
        return ops.sigmoid(self)

    def relu(self) -> Self:
        """max(x, 0) of each element."""
        return ops.relu(self)

    def reshape(self, *shape: Any) -> Self:
        """The same values in another shape, of which one size may be -1: ``x.reshape(2, -1)``."""
        return ops.reshape(self, _variadic(shape))

    def transpose(self, *axes: Any) -> Self:
        """The axes in another order, by default reversed; a matrix says ``x.T``."""
        if axes in _UNCLEAR and self.array.ndim == 2:
            raise TypeError(
                f"transpose: x.transpose{axes} exchanges both axes in PyTorch and none in NumPy; "
                "write x.T or x.swapaxes(0, 1) for PyTorch's, and nothing for NumPy's"
            )
        return ops.transpose(self, _variadic(axes) if axes else None)

    def swapaxes(self, axis1: int, axis2: int) -> Self:
        """Two axes exchanged."""
        return ops.swapaxes(self, axis1, axis2)

    def squeeze(self, axis: Axis = None) -> Self:
        """Axes of size one removed, by default all of them."""
        return ops.squeeze(self, axis)

    def flatten(self) -> Self:
        """The values along one axis, in row-major order."""
        return ops.reshape(self, (-1,))

    def split(
        self,
        *places: Never,
        parts: int | None = None,
        sizes: Sequence[int] | None = None,
        axis: int = -1,
    ) -> tuple[Self, ...]:
        """Parts along an axis, equal ones or of given sizes: :func:`tinygrad_rnn.split`."""
        return ops.split(self, *places, parts=parts, sizes=sizes, axis=axis)

    def chunk(self, chunks: int, axis: int = 0) -> tuple[Self, ...]:
        """Parts of ceil(size / chunks) along an axis: :func:`tinygrad_rnn.chunk`."""
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
