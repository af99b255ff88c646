"""NumPy and CuPy behind one small interface. The leftmost room: it imports no other."""

from tinygrad_rnn.backends.interface import (
    Array,
    Backend,
    DeviceError,
    KernelLaunch,
    OutOfMemoryError,
)
from tinygrad_rnn.backends.products import Extras, extras, using
from tinygrad_rnn.backends.registry import (
    as_array,
    backend_for,
    backend_of,
    copied,
    device_of,
    devices,
    find_backend,
    register,
    restoring,
    several_devices,
    there,
    to_host,
    transfer,
)
from tinygrad_rnn.backends.switch import Switch

__all__ = [
    "Array",
    "Backend",
    "DeviceError",
    "Extras",
    "KernelLaunch",
    "OutOfMemoryError",
    "Switch",
    "as_array",
    "backend_for",
    "backend_of",
    "copied",
    "device_of",
    "devices",
    "extras",
    "find_backend",
    "register",
    "restoring",
    "several_devices",
    "there",
    "to_host",
    "transfer",
    "using",
]
