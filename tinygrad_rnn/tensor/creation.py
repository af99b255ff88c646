"""Making Tensors: from data, and filled."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn import backends
from tinygrad_rnn.tensor.dtypes import checked_dtype
from tinygrad_rnn.tensor.tensor import Tensor


def _holds_float64(data: Any) -> bool:
    if isinstance(data, list | tuple):
        return any(_holds_float64(item) for item in data)
    return getattr(data, "dtype", None) == np.float64


def _host_values(data: Any) -> Any:
    """Nested lists in which Tensors stand for their values."""
    if isinstance(data, Tensor):
        return data.numpy()
    if isinstance(data, list | tuple):
        return [_host_values(item) for item in data]
    return data


def tensor(
    data: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A Tensor with a copy of ``data``: numbers, nested lists, an array or a Tensor.

    Python floats become float32; arrays keep their dtype and, unless ``device`` says otherwise,
    their device.

    >>> import tinygrad_rnn as tg
    >>> tg.tensor([[1.0, 2.0], [3.0, 4.0]]).sum(axis=0)
    tensor([4., 6.], dtype=float32)
    """
    array = data.array if isinstance(data, Tensor) else data
    if backends.find_backend(array) is None:
        try:
            array = np.asarray(_host_values(data))
        except ValueError as error:
            raise ValueError(f"tensor: the rows have different lengths ({error})") from None
        if dtype is None and array.dtype == np.float64 and not _holds_float64(data):
            array = array.astype(np.float32)
    checked_dtype(array.dtype, "tensor")
    kind = checked_dtype(array.dtype if dtype is None else dtype, "tensor")
    if requires_grad and kind.kind != "f":
        raise TypeError(f"tensor: {kind} values carry no gradient (requires_grad=True)")
    copied = backends.as_array(array).astype(kind)
    return Tensor(copied if device is None else backends.transfer(copied, device), requires_grad)


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
    if dtype is None and isinstance(value, float) and not isinstance(value, np.generic):
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
    return tensor(_float32(array), dtype, device, False)


def linspace(
    start: float, stop: float, count: int, dtype: Any = np.float32, device: str | None = None
) -> Tensor:
    """``count`` equally spaced values from start to stop, both included."""
    return tensor(np.linspace(start, stop, count), dtype, device, False)


def eye(
    n: int, m: int | None = None, *, dtype: Any = np.float32, device: str | None = None
) -> Tensor:
    """The identity matrix (n, n), or ones on the diagonal of (n, m)."""
    return tensor(np.eye(n, m), dtype, device, False)


def _float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float64 else array
