"""Finding the backend of an array or of a device name. There is no global switch."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from tinygrad_rnn.backends.cpu import NumPyBackend
from tinygrad_rnn.backends.interface import Array, Backend, DeviceError

P = ParamSpec("P")
R = TypeVar("R")

_CPU = NumPyBackend()
_several = False
_by_type: dict[type, Backend] = {np.ndarray: _CPU}
_by_name: dict[str, Backend] = {"cpu": _CPU}


def register(backend: Backend) -> None:
    """Make a backend known, so that its arrays and its device name are understood."""
    global _several
    _by_type[backend.array_type] = backend
    _by_name[backend.name] = backend
    _several = any(known.several for known in _by_name.values())


def several_devices() -> bool:
    """Whether a backend has several devices, so that arrays may lie on one that is not current."""
    return _several


def find_backend(array: object) -> Backend | None:
    """The backend whose kind of array this is, or None (numbers and lists belong to none)."""
    found = _by_type.get(type(array))
    if found is None:
        if isinstance(array, np.ndarray | np.generic):
            return _CPU
        if type(array).__module__.partition(".")[0] == "cupy":
            return backend_for("cuda")
    return found


def backend_of(array: object) -> Backend:
    """The backend whose kind of array this is."""
    found = _by_type.get(type(array)) or find_backend(array)
    if found is None:
        raise TypeError(f"expected an array or a Tensor, got {type(array).__name__}")
    return found


def backend_for(device: str) -> Backend:
    """The backend of a device name such as ``"cpu"``, ``"cuda"`` or ``"cuda:1"``."""
    if not isinstance(device, str):
        raise TypeError(f"device must be a name such as 'cpu' or 'cuda', got {device!r}")
    name = device.partition(":")[0]
    if name == "cuda" and name not in _by_name:
        from tinygrad_rnn.backends.cuda import CuPyBackend

        register(CuPyBackend())
    if name not in _by_name or (name == "cpu" and device != "cpu"):
        raise DeviceError(f"device {device!r} is unknown; use 'cpu', 'cuda' or 'cuda:<number>'")
    return _by_name[name]


def devices() -> list[str]:
    """The names of the devices that can be used now, the CPU first."""
    with suppress(DeviceError):
        backend_for("cuda")
    return [device for backend in _by_name.values() for device in backend.devices()]


def device_of(array: Array) -> str:
    """The name of the device that holds ``array``."""
    return backend_of(array).device_of(array)


def restoring(function: Callable[P, R]) -> Callable[P, R]:
    """A function that may ``use`` devices: behind its calls the current ones are as before."""
    for backend in _by_name.values():
        function = backend.there(None, function)
    return function


def there(function: Callable[P, R]) -> Callable[P, R]:
    """A function of an array, or of several, that has their device as the current one meanwhile."""

    @wraps(function)
    def called(*args: P.args, **options: P.kwargs) -> R:
        first: Any = args[0]
        array = first[0] if isinstance(first, list | tuple) else first
        return backend_of(array).there(array, function)(*args, **options)

    return called


@there
def copied(array: Array, dtype: Any = None) -> Array:
    """A copy on the same device, in a dtype of its own if one is given."""
    return array.astype(array.dtype if dtype is None else dtype)


def to_host(array: Array) -> np.ndarray:
    """The values as a NumPy array: the one way by which values leave a device."""
    return backend_of(array).to_host(array)


def transfer(array: Array, device: str) -> Array:
    """``array`` on ``device``: itself where it is there already, else a copy through the host."""
    target = backend_for(device)
    if target is find_backend(array) and device in (target.name, target.device_of(array)):
        return array
    return target.from_host(to_host(array), device)


def as_array(value: Any) -> Array:
    """Keep arrays as they are and turn NumPy's scalars, its 0-d results, back into arrays.

    Subclasses of NumPy's array (memmap, matrix) become plain arrays over the same memory.
    """
    if isinstance(value, np.ndarray | np.generic | numbers.Number):
        return np.asarray(value)
    backend_of(value)
    return value
