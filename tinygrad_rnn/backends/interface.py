"""What a backend is: an array namespace, and the few things that namespaces do not agree on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, ParamSpec, TypeAlias, TypeVar

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""A raw array of some backend (``numpy.ndarray``, ``cupy.ndarray``).

A type checker takes it for NumPy's, of whose notation every backend's arrays are.
"""


P = ParamSpec("P")
T = TypeVar("T")

KernelLaunch: TypeAlias = Callable[[tuple[int, ...], tuple[int, ...], tuple[Any, ...]], Any]
"""A compiled kernel: it takes the grid, the block and the arguments.

An argument is an array, which is passed by the address of its first element, an int of 64 bits,
or a NumPy array of one element (of a structured dtype), which is passed by value.
"""


class DeviceError(RuntimeError):
    """A device that does not exist here, or arrays of two devices in one operation."""


class OutOfMemoryError(DeviceError, MemoryError):
    """A device has no memory left for an array.

    What was computed before is whole, and work goes on once less memory is wanted.
    """


class Backend(ABC):
    """One kind of array.

    Attributes
    ----------
    name : the family of its devices: ``"cpu"``, ``"cuda"``.
    xp : the namespace with NumPy's functions that the forward of a primitive receives.
    array_type : the type of its arrays, by which a backend is found.
    native_half : whether float16 products run natively, accumulating in float32.
    checks_indices : whether indexing raises on an integer out of range, or wraps silently.
    asynchronous : whether results are computed later, so that reading one on the host waits.
    several : whether there are several devices, one of which is the current one; see ``there``.
    """

    name: ClassVar[str]
    xp: Any
    array_type: type
    native_half: ClassVar[bool]
    checks_indices: ClassVar[bool]
    asynchronous: ClassVar[bool] = True
    several: bool = False

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

    @abstractmethod
    def strided(
        self, array: Array, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0
    ) -> Array:
        """A view of the memory of a C-contiguous array; strides and offset count elements."""

    def owner(self, array: Array) -> Array:
        """The array that owns the memory of ``array``: itself, or the last that it is a view of."""
        base = array.base
        while base is not None:
            if isinstance(base, self.array_type):
                array = base
            base = getattr(base, "base", None)
        return array

    def there(self, array: Array | None, function: Callable[P, T]) -> Callable[P, T]:
        """The function, during whose calls the device of ``array`` is the current one.

        Behind them the current one is as before, also where the function changed it; with None
        that is all.
        """
        return function

    def use(self, array: Array) -> None:  # noqa: B027 - nothing to do where there is one
        """Make the device of ``array`` the current one, until a call of ``there`` ends."""

    def wait(self, array: Array) -> None:  # noqa: B027 - nothing to do where results are there
        """Wait until all work on the device of ``array`` is done."""

    def compile_kernel(self, source: str, name: str) -> KernelLaunch | None:
        """The kernel ``name`` of a CUDA C source, or None where there are no kernels."""
        return None

    def fetch(self, array: Array) -> Callable[[], np.ndarray]:
        """Begin to copy ``array`` to the host; the answer waits for the copy and returns it."""
        return lambda: self.to_host(array)

    def update(
        self,
        rule: Callable[..., None],
        dtype: np.dtype[Any],
        targets: Sequence[Array | None],
        g: Array,
        numbers: Mapping[str, float],
        keep: Array | None = None,
    ) -> None:
        """``rule(xp, g, *targets, **numbers)``, which changes the targets in place, in ``dtype``.

        A rule is elementwise: arithmetic in place and functions of ``xp``, no shapes, no indexing,
        no branch but on a number that is 0 or a bool. So a backend is free to run it in blocks or
        to make one kernel of it. Where the 0-d boolean ``keep`` is False the targets stay as they
        are; it is not read on the host.
        """
        xp = self.xp
        wide = [None if t is None else t.astype(dtype, copy=True) for t in targets]
        rule(xp, g.astype(dtype, copy=False), *wide, **numbers)
        for target, new in zip(targets, wide, strict=True):
            if target is not None and new is not None:
                target[...] = new if keep is None else xp.where(keep, new, target)

    def flushed(self, work: Callable[[], T]) -> T:
        """``work()``, with subnormal numbers counted as 0 where they would cost time."""
        return work()

    def contiguous(self, array: Array) -> Array:
        """The array itself where its elements lie in C order, else a copy of which that holds."""
        return array if array.flags.c_contiguous else self.xp.ascontiguousarray(array)

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """The product of two matrices (or stacks of them), written to ``out`` where it is given."""
        return self.xp.matmul(a, b) if out is None else self.xp.matmul(a, b, out=out)

    def matmul_wide(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """The product of two float16 matrices, or stacks of them, accumulated and given in float32.

        Nothing is rounded but the sums: a product of two float16 numbers is a float32. inf comes
        without a warning of NumPy's.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            return self.matmul(a.astype(np.float32), b.astype(np.float32), out)

    def matmul_transposed(self, x: Array, w: Array) -> Array:
        """The product x w^T of x (..., I) and w (O, I), in which layers spend their time."""
        return self.xp.matmul(x, w.T)

    # What is done before a loop, so that within it nothing is left but launches

    def prepared_product(
        self, a: Array, b: Array, out: Array
    ) -> tuple[Callable[[], Any], Callable[[int], Any]] | None:
        """How ``a[t] @ b[t]`` is written to ``out[t]`` in a way that can be captured.

        An operand of two axes is the same for every t. The first function is called before a loop,
        the second one for each t. None where there is no such way.
        """
        return None

    def why_no_capture(self) -> str | None:
        """Why work cannot be captured and launched again, or None where it can."""
        return "the backend captures nothing"

    def place(self, arrays: Sequence[Array]) -> tuple[int, ...]:
        """Where work on these arrays happens: thread, device and stream, and their addresses."""
        raise NotImplementedError

    def capture(self, work: Callable[[], Any]) -> Callable[[], Any]:
        """What launches again all that ``work`` would launch now, in the same place.

        Nothing is computed meanwhile. What ``work`` refuses to do while it is captured it raises.
        """
        raise NotImplementedError
