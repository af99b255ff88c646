"""A CuPy without a card: the arrays of tests/strict.py, and kernels compiled for the host.

With ``tests/stand_in`` and ``tests`` on PYTHONPATH ``tinygrad_rnn/backends/cuda.py`` runs on it as
it stands, on two devices. An operation on arrays of a device that is not the current one is
refused, as CuPy does where the devices cannot reach each other, and so is memory beyond a limit.
What runs here is not thereby right on a card; what fails here would fail there as well.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np

from cupy import cuda
from cupy.cuda import current

__version__ = "14.2.0 (the stand-in)"

# A copy of the module of its own, whose arrays are those below.
_spec = importlib.util.find_spec("strict")
assert _spec is not None
assert _spec.loader is not None
strict = importlib.util.module_from_spec(_spec)
sys.modules["cupy.strict"] = strict
_spec.loader.exec_module(strict)
_operand, _result = strict._operand, strict._result


class ndarray(strict.StrictArray):
    """An array in the memory of a device."""

    __slots__ = ("_over",)

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None
    ) -> None:
        """Over NumPy's array, or as CuPy's: of a shape, over memory that is there or new."""
        self._over = memptr is not None
        if isinstance(shape, np.ndarray):
            self._values = shape
        elif memptr is None:
            self._values = cuda.allocated(np.empty(shape, dtype))
        else:
            self._values = np.ndarray(shape, dtype, memptr.memory, memptr.offset, strides)

    @property
    def device(self) -> cuda.Device:
        return cuda.Device(cuda.device_of(self._values))

    @property
    def data(self) -> cuda.MemoryPointer:
        return cuda.MemoryPointer(self._values)

    @property
    def base(self) -> Any:
        """CuPy does not know whose memory it was given."""
        return None if self._over else super().base

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True):
        """A copy on the host, or in ``out``."""
        cuda.host_reads += blocking
        if cuda.current.capture is not None:
            raise cuda.runtime.CUDARuntimeError("operation not permitted when stream is capturing")
        if out is None:
            return self._values.copy(order)
        out[...] = self._values
        return out

    def __getitem__(self, index: Any) -> Any:
        """A view on whichever device; what index arrays pick out is computed."""
        items = index if isinstance(index, tuple) else (index,)
        for array in (self, *items) if any(isinstance(i, ndarray) for i in items) else ():
            _on_current(array, "getitem")
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        cuda.check_device(self._values)
        nodes = cuda.current.capture
        if nodes is None:
            super().__setitem__(index, value)
        else:
            target, source = self._values[self._index(index)], _operand(value, "assignment")
            nodes.append(lambda: np.copyto(target, source))

    def astype(self, dtype: Any, order: str = "K", casting: None = None, copy: bool = True) -> Any:
        if copy or dtype != self.dtype:
            cuda.check_device(self._values)
        return super().astype(dtype, order, casting, copy)

    def fill(self, value: float) -> None:
        cuda.check_device(self._values)
        super().fill(value)


_VIEWS = {"broadcast_to", "reshape", "transpose", "swapaxes", "moveaxis", "expand_dims", "squeeze"}
"""What looks at memory without a kernel, on whichever device."""


def _on_current(value: Any, who: str) -> Any:
    """The NumPy value of an operand, which must be on the current device."""
    found = _operand(value, who)
    if isinstance(value, ndarray) and who not in _VIEWS:
        cuda.check_device(value._values)
        if who != "assignment" and current.capture is not None:
            raise cuda.runtime.CUDARuntimeError("operation not permitted when stream is capturing")
    return found


def _charged(values: Any, *operands: Any) -> Any:
    found = _result(values, *operands)
    if isinstance(found, ndarray) and not cuda.is_allocated(found._values):
        cuda.allocated(found._values)
    return found


strict.StrictArray, strict._operand, strict._result = ndarray, _on_current, _charged
strict.XP.ndarray = ndarray


def __getattr__(name: str) -> Any:
    return getattr(strict.XP, name)


def asarray(value: Any, dtype: Any = None) -> ndarray:
    """An array on the current device; one of NumPy's is copied."""
    if isinstance(value, np.ndarray | np.generic):
        return ndarray(cuda.allocated(np.array(value, dtype)))
    return strict.XP.asarray(value, dtype)


def get_default_memory_pool() -> cuda.MemoryPool:
    return cuda.POOL


from cupy._kernels import ElementwiseKernel, RawKernel  # noqa: E402, F401
