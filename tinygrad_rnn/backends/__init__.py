"""NumPy and CuPy behind one small interface. The leftmost room: it imports no other."""

from tinygrad_rnn.backends.interface import Array, Backend, DeviceError, KernelLaunch
from tinygrad_rnn.backends.products import uses_mkl, using_mkl
from tinygrad_rnn.backends.registry import (
    as_array,
    backend_for,
    backend_of,
    device_of,
    devices,
    find_backend,
    register,
    to_host,
    transfer,
)

__all__ = [
    "Array",
    "Backend",
    "DeviceError",
    "KernelLaunch",
    "as_array",
    "backend_for",
    "backend_of",
    "device_of",
    "devices",
    "find_backend",
    "register",
    "to_host",
    "transfer",
    "uses_mkl",
    "using_mkl",
]
