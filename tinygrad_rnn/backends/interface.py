"""What a backend is: an array namespace, and the few things that namespaces do not agree on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""A raw array of some backend (``numpy.ndarray``, ``cupy.ndarray``)."""


class DeviceError(RuntimeError):
    """A device that does not exist here, or arrays of two devices in one operation."""


class Backend(ABC):
    """One kind of array.

    Attributes
    ----------
    name : the family of its devices: ``"cpu"``, ``"cuda"``.
    xp : the namespace with NumPy's functions that the forward of a primitive receives.
    array_type : the type of its arrays, by which a backend is found.
    native_half : whether float16 products run natively, accumulating in float32.
    checks_indices : whether indexing raises on an integer out of range, or wraps silently.
    """

    name: ClassVar[str]
    xp: Any
    array_type: type
    native_half: ClassVar[bool]
    checks_indices: ClassVar[bool]

    @abstractmethod
    def devices(self) -> list[str]:
        """The names of the devices that can be used now."""

    @abstractmethod
    def device_of(self, array: Array) -> str:
        """The name of the device that holds ``array``."""

    @abstractmethod
    def from_host(self, array: np.ndarray, device: str) -> Array:
        """A copy of a NumPy array on ``device`` (for the CPU: the array itself)."""

    @abstractmethod
    def to_host(self, array: Array) -> np.ndarray:
        """The values as a NumPy array. On a GPU this waits for the device."""

    @abstractmethod
    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """``target[index] += values`` in place, where every repetition of an index counts.

        The order of summation is fixed, so that two runs are bit-equal.
        """
