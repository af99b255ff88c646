"""Tensor: a traced value with the notation of a NumPy array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn import backends, ops, tape
from tinygrad_rnn.ops import At

Operand = Any
"""A Tensor, an array of the same device, or a number."""


class Tensor(tape.Traced):
    """An array that remembers how it was computed. Made by :func:`tinygrad_rnn.tensor`.

    Operators, indexing, broadcasting and dtypes are NumPy's. Numbers never change the dtype of a
    floating Tensor. Gradients flow through floating dtypes only.
    """

    __slots__ = ()
    __array_ufunc__ = None
    __hash__ = object.__hash__

    # Values

    @property
    def data(self) -> backends.Array:
        """The raw array. Assigning one of the same shape and dtype overwrites the value in place.

        After changing the elements of the array itself, call :meth:`mark_changed`, so that a
        backward pass through a tape that still needs the old values is refused.
        """
        return self.array

    @data.setter
    def data(self, value: Any) -> None:
        value = value.array if isinstance(value, Tensor) else value
        old = self.array
        if not hasattr(value, "dtype"):
            value = np.asarray(value, dtype=old.dtype)
        if tuple(value.shape) != tuple(old.shape) or value.dtype != old.dtype:
            raise ValueError(
                f"data: expected {old.dtype} {tuple(old.shape)}, got {value.dtype} "
                f"{tuple(value.shape)}"
            )
        if backends.device_of(value) != self.device:
            raise backends.DeviceError(
                f"data: expected an array on {self.device}, got one on {backends.device_of(value)}"
            )
        self.array = backends.as_array(value)
        self.version += 1

    def mark_changed(self) -> None:
        """Say that the elements of the array were changed in place."""
        self.version += 1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.array.size

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def device(self) -> str:
        """The name of the device that holds the values: ``"cpu"``, ``"cuda:0"``."""
        return backends.device_of(self.array)

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient is wanted for this value."""
        return self.needs_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.record is not None:
            raise RuntimeError("requires_grad: only a leaf can change it; use detach()")
        if value and self.array.dtype.kind != "f":
            raise TypeError(f"requires_grad: {self.dtype} values carry no gradient")
        self.needs_grad = bool(value)

    @property
    def is_leaf(self) -> bool:
        """Whether no record computed this value."""
        return self.record is None

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array: shared memory on the CPU, a copy from a GPU."""
        return backends.to_host(self.array)

    def item(self) -> Any:
        """The single element as a Python number."""
        if self.array.size != 1:
            raise ValueError(f"item: expected one element, got shape {tuple(self.shape)}")
        return self.numpy().item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self.numpy().tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.needs_grad:
            raise TypeError(
                "a NumPy function would lose the gradient of this Tensor: use a function of "
                "tinygrad_rnn, or tensor.detach().numpy() for its values"
            )
        if self.device != "cpu":
            raise TypeError(f"the Tensor is on {self.device}: copy its values with .numpy()")
        return np.array(self.array, dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        if self.needs_grad:
            raise TypeError("DLPack would lose the gradient of this Tensor: pass tensor.detach()")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise ValueError(
                f"the truth of a Tensor of shape {tuple(self.shape)} is ambiguous; use "
                ".any() or .all()"
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.dtype.kind not in "iu":
            raise TypeError(f"only an integer Tensor can be an index, got {self.dtype}")
        return int(self.item())

    def __len__(self) -> int:
        if self.array.ndim == 0:
            raise TypeError("a 0-d Tensor has no length")
        return self.array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.array.ndim == 0:
            raise TypeError("a 0-d Tensor cannot be iterated over")
        return iter(ops.unstack(self))

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="tensor(", threshold=200)
        notes = f", dtype={self.dtype}"
        if self.device != "cpu":
            notes += f", device={self.device!r}"
        if self.needs_grad:
            notes += ", requires_grad=True"
        return f"tensor({values}{notes})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __reduce__(self) -> Any:
        """A copy carries the values and not the tape."""
        wants_grad = self.needs_grad and self.record is None
        return _rebuild, (type(self), self.numpy(), self.device, wants_grad, self.name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = _rebuild(
            type(self), self.array.copy(), self.device, self.needs_grad and self.is_leaf, self.name
        )
        memo[id(self)] = copied
        return copied

    # Gradients

    def backward(
        self,
        gradient: Operand | None = None,
        *,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> None:
        """Differentiate this value: add to ``.grad`` of every leaf that it depends on.

        Parameters
        ----------
        gradient : the cotangent to begin with, of this value's shape; 1 for a single element.
        retain_graph : keep the tape, so that it can be walked again.
        create_graph : record the pass itself, so that gradients can be differentiated.

        Raises
        ------
        RuntimeError
            where nothing requires a gradient, the tape has been freed by an earlier pass, or a
            parameter that it needs has been overwritten since.
        """
        start = tape.seed(self, gradient, "backward")
        tape.backward([self], [start], retain_graph=retain_graph, create_graph=create_graph)

    def retain_grad(self) -> None:
        """Ask ``backward`` to leave ``.grad`` here too, though this is not a leaf."""
        if not self.needs_grad:
            raise RuntimeError("retain_grad: this value does not require a gradient")
        self.keeps_grad = True

    def detach(self) -> Tensor:
        """The same values, shared, without the tape and without a gradient."""
        return type(self).output_type(self.array)

    def to(self, target: str | Any) -> Tensor:
        """The values on another device (``"cuda"``) or in another dtype; gradients travel back."""
        if isinstance(target, str) and target not in np.sctypeDict:
            return ops.to_device(self, target)
        return self.astype(target)

    def astype(self, dtype: Any) -> Tensor:
        """The values in another dtype; itself where it has that dtype already."""
        kind = np.dtype(dtype)
        return self if kind == self.dtype else ops.cast(self, kind)

    def copy(self) -> Tensor:
        """The same values in memory of their own, connected to the tape."""
        return (
            ops.multiply(self, 1) if self.needs_grad else type(self).output_type(self.array.copy())
        )

    @property
    def at(self) -> At:
        """``x.at[index].set(values)`` and ``.add(values)``: writing that returns a new Tensor."""
        return At(self)

    def __getitem__(self, index: Any) -> Tensor:
        return ops.getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "a Tensor is not assigned to in place, since the tape may need its old values: write "
            "x = x.at[index].set(values)"
        )

    # Operators

    def __add__(self, other: Operand) -> Tensor:
        return ops.add(self, other)

    def __radd__(self, other: Operand) -> Tensor:
        return ops.add(other, self)

    def __sub__(self, other: Operand) -> Tensor:
        return ops.subtract(self, other)

    def __rsub__(self, other: Operand) -> Tensor:
        return ops.subtract(other, self)

    def __mul__(self, other: Operand) -> Tensor:
        return ops.multiply(self, other)

    def __rmul__(self, other: Operand) -> Tensor:
        return ops.multiply(other, self)

    def __truediv__(self, other: Operand) -> Tensor:
        return ops.divide(self, other)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return ops.divide(other, self)

    def __floordiv__(self, other: Operand) -> Tensor:
        return ops.floor_divide(self, other)

    def __rfloordiv__(self, other: Operand) -> Tensor:
        return ops.floor_divide(other, self)

    def __mod__(self, other: Operand) -> Tensor:
        return ops.remainder(self, other)

    def __rmod__(self, other: Operand) -> Tensor:
        return ops.remainder(other, self)

    def __pow__(self, other: Operand) -> Tensor:
        return ops.power(self, other)

    def __rpow__(self, other: Operand) -> Tensor:
        return ops.power(other, self)

    def __matmul__(self, other: Operand) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Operand) -> Tensor:
        return ops.matmul(other, self)

    def __neg__(self) -> Tensor:
        return ops.negative(self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return ops.abs(self)

    def __invert__(self) -> Tensor:
        return ops.invert(self)

    def __and__(self, other: Operand) -> Tensor:
        return ops.bitwise_and(self, other)

    __rand__ = __and__

    def __or__(self, other: Operand) -> Tensor:
        return ops.bitwise_or(self, other)

    __ror__ = __or__

    def __xor__(self, other: Operand) -> Tensor:
        return ops.bitwise_xor(self, other)

    __rxor__ = __xor__

    def __eq__(self, other: object) -> Any:
        return NotImplemented if other is None or isinstance(other, str) else ops.equal(self, other)

    def __ne__(self, other: object) -> Any:
        if other is None or isinstance(other, str):
            return NotImplemented
        return ops.not_equal(self, other)

    def __lt__(self, other: Operand) -> Tensor:
        return ops.less(self, other)

    def __le__(self, other: Operand) -> Tensor:
        return ops.less_equal(self, other)

    def __gt__(self, other: Operand) -> Tensor:
        return ops.greater(self, other)

    def __ge__(self, other: Operand) -> Tensor:
        return ops.greater_equal(self, other)

    # Methods, as a NumPy array has them

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return ops.sum(self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return ops.mean(self, axis, keepdims)

    def var(self, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
        return ops.var(self, axis, ddof, keepdims)

    def std(self, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
        return ops.std(self, axis, ddof, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return ops.max(self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return ops.min(self, axis, keepdims)

    def prod(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return ops.prod(self, axis, keepdims)

    def any(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return ops.any(self, axis, keepdims)

    def all(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return ops.all(self, axis, keepdims)

    def cumsum(self, axis: int = 0) -> Tensor:
        return ops.cumsum(self, axis)

    def argmax(self, axis: int | None = None) -> Tensor:
        return ops.argmax(self, axis)

    def argmin(self, axis: int | None = None) -> Tensor:
        return ops.argmin(self, axis)

    def clip(self, low: float | None = None, high: float | None = None) -> Tensor:
        return ops.clip(self, low, high)

    def exp(self) -> Tensor:
        return ops.exp(self)

    def log(self) -> Tensor:
        return ops.log(self)

    def sqrt(self) -> Tensor:
        return ops.sqrt(self)

    def tanh(self) -> Tensor:
        return ops.tanh(self)

    def sigmoid(self) -> Tensor:
        return ops.sigmoid(self)

    def relu(self) -> Tensor:
        return ops.relu(self)

    def reshape(self, *shape: Any) -> Tensor:
        return ops.reshape(self, _variadic(shape))

    def transpose(self, *axes: Any) -> Tensor:
        return ops.transpose(self, _variadic(axes) if axes else None)

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        return ops.swapaxes(self, axis1, axis2)

    def squeeze(self, axis: int | Sequence[int] | None = None) -> Tensor:
        return ops.squeeze(self, axis)

    def flatten(self) -> Tensor:
        return ops.reshape(self, (self.size,))

    def split(self, parts: int | Sequence[int], axis: int = -1) -> tuple[Tensor, ...]:
        return ops.split(self, parts, axis)

    @property
    def T(self) -> Tensor:
        """The axes reversed."""
        return ops.transpose(self)


Tensor.output_type = Tensor


def _variadic(arguments: tuple[Any, ...]) -> Any:
    """``f(2, 3)`` and ``f((2, 3))`` mean the same, as with a NumPy array's methods."""
    return arguments[0] if len(arguments) == 1 and not isinstance(arguments[0], int) else arguments


def _rebuild(
    kind: type[Tensor], values: Any, device: str, needs_grad: bool, name: str | None
) -> Tensor:
    copied = kind.__new__(kind)
    tape.Traced.__init__(copied, backends.transfer(values, device), needs_grad)
    copied.name = name
    return copied


__all__ = ["Operand", "Tensor"]
