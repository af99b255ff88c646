"""Making Tensors: from data, and filled."""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_rnn import backends, ops
from tinygrad_rnn.tensor.dtypes import checked_dtype
from tinygrad_rnn.tensor.tensor import Tensor


def _leaves(data: Any) -> Iterator[Any]:
    """What nested lists hold."""
    if isinstance(data, list | tuple):
        for item in data:
            yield from _leaves(item)
    else:
        yield data


def _is_followed(data: Any) -> bool:
    """Whether there are Tensors in nested lists, or one that is part of a tape."""
    if isinstance(data, Tensor):
        return data.needs_grad or data.record is not None
    return isinstance(data, list | tuple) and any(isinstance(x, Tensor) for x in _leaves(data))


def _stacked(data: Any, dtype: Any, device: str) -> Tensor:
    """Nested lists that hold Tensors, joined by operations that a gradient can follow."""
    if isinstance(data, list | tuple):
        return ops.stack([_stacked(item, dtype, device) for item in data])
    found = data if isinstance(data, Tensor) else tensor(data, dtype, device)
    return found.astype(dtype)


def _followed(data: Any, dtype: Any, device: str | None, requires_grad: bool) -> Tensor:
    """A copy of Tensors, by themselves or in nested lists, that stays connected to their tape."""
    if isinstance(data, Tensor):
        found = data.copy()
    else:
        leaves = [*_leaves(data)]
        common = ops.common_dtype(leaves, "tensor")
        home = next(x.device for x in leaves if isinstance(x, Tensor))
        try:
            found = _stacked(data, common, home)
        except ValueError as error:
            raise ValueError(f"tensor: the rows have different lengths ({error})") from None
    found = found if dtype is None else found.astype(dtype)
    found = found if device is None else found.to(device)
    if requires_grad:
        if found.needs_grad:
            raise ValueError(
                "tensor: requires_grad=True makes a leaf, and a Tensor inside wants a gradient "
                "already; leave it out to follow it, or pass its detach()"
            )
        found.requires_grad = True
    return found


def _real_numbers(array: np.ndarray) -> np.ndarray:
    """Objects as floats, where they are real numbers such as fractions."""
    real = all(isinstance(x, numbers.Real) for x in array.flat)
    whole = all(isinstance(x, numbers.Integral) for x in array.flat)
    return array.astype(np.float64) if real and not whole else array


def tensor(
    data: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A Tensor with a copy of ``data``: numbers, nested lists, an array or a Tensor.

    Python floats become float32; arrays keep their dtype and, unless ``device`` says otherwise,
    their device. Tensors that want a gradient, in nested lists too, are followed: they get it.

    >>> import tinygrad_rnn as tg
    >>> tg.tensor([[1.0, 2.0], [3.0, 4.0]]).sum(axis=0)
    tensor([4., 6.], dtype=float32)
    """
    if _is_followed(data):
        return _followed(data, dtype, device, requires_grad)
    array = data.array if isinstance(data, Tensor) else data
    if backends.find_backend(array) is None:
        try:
            array = np.asarray(data)
        except ValueError as error:
            raise ValueError(f"tensor: the rows have different lengths ({error})") from None
        if array.dtype == object:
            array = _real_numbers(array)
        if dtype is None and array.dtype == np.float64:
            given = any(getattr(x, "dtype", None) == np.float64 for x in _leaves(data))
            array = array if given else array.astype(np.float32)
    checked_dtype(array.dtype, "tensor")
    kind = checked_dtype(array.dtype if dtype is None else dtype, "tensor")
    if requires_grad and kind.kind != "f":
        raise TypeError(f"tensor: {kind} values carry no gradient (requires_grad=True)")
    own = backends.copied(backends.as_array(array), kind)
    return Tensor(own if device is None else backends.transfer(own, device), requires_grad)


def from_numpy(array: np.ndarray) -> Tensor:
    """A Tensor that shares the memory of a NumPy array."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected a numpy.ndarray, got {type(array).__name__}")
    checked_dtype(array.dtype, "from_numpy")
    return Tensor(array)


def from_dlpack(source: Any) -> Tensor:
    """A Tensor that shares the memory of another library's array, where that can be."""
    if not hasattr(source, "__dlpack_device__"):
        raise TypeError(f"from_dlpack: {type(source).__name__} does not speak DLPack")
    kind = source.__dlpack_device__()[0]
    array = backends.backend_for("cpu" if kind == 1 else "cuda").xp.from_dlpack(source)
    checked_dtype(array.dtype, "from_dlpack")
    return Tensor(array)


def full(
    shape: Any,
    value: float,
    dtype: Any = None,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A Tensor of one value; a Python float gives float32."""
    whole = isinstance(value, numbers.Integral | np.generic)
    if dtype is None and isinstance(value, numbers.Real) and not whole:
        dtype = np.float32
    return tensor(np.full(shape, value, dtype), None, device, requires_grad)


def zeros(
    shape: Any, dtype: Any = np.float32, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A Tensor of zeros."""
    return _filled("zeros", 0, shape, dtype, device, requires_grad)


def ones(
    shape: Any, dtype: Any = np.float32, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A Tensor of ones."""
    return _filled("ones", 1, shape, dtype, device, requires_grad)


def _filled(who: str, value: int, shape: Any, dtype: Any, *rest: Any) -> Tensor:
    if isinstance(dtype, int):
        raise TypeError(
            f"{who}: the shape is one argument, as in {who}((2, 3)); got {dtype} for the dtype"
        )
    return full(shape, value, dtype, *rest)


def zeros_like(x: Tensor, dtype: Any = None) -> Tensor:
    """Zeros of the shape, dtype and device of ``x``."""
    return zeros(x.shape, x.dtype if dtype is None else dtype, x.device)


def ones_like(x: Tensor, dtype: Any = None) -> Tensor:
    """Ones of the shape, dtype and device of ``x``."""
    return ones(x.shape, x.dtype if dtype is None else dtype, x.device)


def full_like(x: Tensor, value: float, dtype: Any = None) -> Tensor:
    """One value in the shape, dtype and device of ``x``."""
    return full(x.shape, value, x.dtype if dtype is None else dtype, x.device)


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    dtype: Any = None,
    device: str | None = None,
) -> Tensor:
    """start, start + step, ... below stop; ``arange(n)`` counts from 0. Floats give float32."""
    array = np.arange(start, step=step) if stop is None else np.arange(start, stop, step)
    if dtype is None and array.dtype == np.float64:
        dtype = np.float32
    return tensor(array, dtype, device)


def linspace(
    start: float, stop: float, count: int, dtype: Any = np.float32, device: str | None = None
) -> Tensor:
    """``count`` equally spaced values from start to stop, both included."""
    return tensor(np.linspace(start, stop, count), dtype, device)


def eye(
    n: int, m: int | None = None, *, dtype: Any = np.float32, device: str | None = None
) -> Tensor:
    """The identity matrix (n, n), or ones on the diagonal of (n, m)."""
    return tensor(np.eye(n, m), dtype, device)
