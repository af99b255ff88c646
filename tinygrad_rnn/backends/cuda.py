"""CuPy: NVIDIA GPUs. The only module of the package that imports cupy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np

from tinygrad_rnn.backends import cublas
from tinygrad_rnn.backends.interface import (
    Backend,
    DeviceError,
    KernelLaunch,
    OutOfMemoryError,
    P,
    T,
)
from tinygrad_rnn.backends.kernels import PREAMBLE, is_fixed, update_source

try:
    import cupy  # pyright: ignore[reportMissingImports]
    import cupyx  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise DeviceError(
        'device "cuda" needs CuPy, which is not installed: pip install "tinygrad_rnn[cuda12]" '
        'for a CUDA 12 driver, or "tinygrad_rnn[cuda13]" for CUDA 13'
    ) from error

CuPyArray: TypeAlias = Any
"""``cupy.ndarray``, which is unknown to type checkers where CuPy is not installed."""

_SEGMENT_SUM = """
    const long long place = i / width, column = i % width, row = rows[place];
    if (place == 0 || rows[place - 1] != row) {
        S total = 0;
        for (long long k = place; k < count && rows[k] == row; ++k)
            total += values[order[k] * width + column];
        target[row * width + column] += total;
    }
"""
"""Rows in order: the first of equal ones adds up all of them, each column by a thread."""


def _stream() -> int:
    """The current stream, as a number."""
    return cupy.cuda.get_current_stream().ptr


class _OutOfMemory(OutOfMemoryError, cupy.cuda.memory.OutOfMemoryError):
    """What CuPy raises, in our words; CuPy itself looks for an error of its own."""

    def __init__(self, message: str) -> None:
        self.args = (message,)

    __reduce__ = OutOfMemoryError.__reduce__


def _explain_memory(allocate: Callable[[int], Any]) -> Callable[[int], Any]:
    """An allocator that says what was wanted, and of how much."""

    def allocated(size: int) -> Any:
        try:
            return allocate(size)
        except cupy.cuda.memory.OutOfMemoryError:
            free, total = cupy.cuda.runtime.memGetInfo()
            held = cupy.get_default_memory_pool().used_bytes()
        wanted, held, free, total = (f"{n / 2**10:,.0f} KiB" for n in (size, held, free, total))
        raise _OutOfMemory(
            f"out of memory on cuda:{cupy.cuda.Device().id}: {wanted} more are wanted, arrays of "
            f"this process take {held}, and {free} of {total} are free; smaller batches and "
            "shorter sequences take less"
        )

    return allocated


class CuPyBackend(Backend):
    """Arrays on NVIDIA GPUs."""

    name = "cuda"
    xp = cupy
    array_type = cupy.ndarray
    native_half = True
    checks_indices = False

    def __init__(self) -> None:
        if not cupy.cuda.is_available():
            raise DeviceError('device "cuda" needs an NVIDIA GPU and its driver: CuPy finds none')
        with suppress(ValueError):  # within cupy.cuda.using_allocator there is no setting one
            cupy.cuda.set_allocator(_explain_memory(cupy.cuda.get_allocator()))
        self.several = cupy.cuda.runtime.getDeviceCount() > 1
        self._segment_sum = cupy.ElementwiseKernel(
            "raw int64 rows, raw int64 order, raw S values, int64 width, int64 count",
            "raw T target",
            _SEGMENT_SUM,
            "tinygrad_rnn_segment_sum",
        )
        self._updates: dict[Any, Any] = {}
        self._kernels: dict[tuple[str, str], Any] = {}

    def devices(self) -> list[str]:
        return [f"cuda:{k}" for k in range(cupy.cuda.runtime.getDeviceCount())]

    def device_of(self, array: CuPyArray) -> str:
        return f"cuda:{array.device.id}"

    def from_host(self, array: np.ndarray, device: str) -> CuPyArray:
        _, _, number = device.partition(":")
        if number and not (number.isdecimal() and device in self.devices()):
            raise DeviceError(f"device {device!r} does not exist; there are {self.devices()}")
        with cupy.cuda.Device(int(number) if number else None):
            return cupy.asarray(array)

    def to_host(self, array: CuPyArray) -> np.ndarray:
        return array.get()

    def scatter_add(self, target: CuPyArray, index: Any, values: CuPyArray) -> None:
        """Sums of sorted segments: no float atomics, so two runs are bit-equal.

        An index array over the first axis is taken by rows, any other index by single elements.
        """
        if isinstance(index, cupy.ndarray) and index.dtype.kind in "iu" and target.size:
            shape, width = index.shape + target.shape[1:], target.size // len(target)
            rows = index.reshape(-1).astype(np.int64, copy=False) % len(target)
        else:
            places = cupy.arange(target.size, dtype=np.int64).reshape(target.shape)[index]
            shape, width, rows = places.shape, 1, places.reshape(-1)
        order = cupy.argsort(rows, kind="stable")
        wide = np.promote_types(target.dtype, np.float32) if target.dtype.kind == "f" else None
        spread = cupy.broadcast_to(values, shape).reshape(-1)
        flat = cupy.ascontiguousarray(spread, dtype=wide or target.dtype)
        whole, count = self.contiguous(target), rows.size
        self._segment_sum(
            rows[order], order, flat, width, count, whole.reshape(-1), size=count * width
        )
        if whole is not target:
            target[...] = whole

    def strided(
        self, array: CuPyArray, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0
    ) -> CuPyArray:
        size = array.itemsize
        steps = tuple(size * stride for stride in strides)
        return cupy.ndarray(shape, array.dtype, array.data + offset * size, steps)

    def there(self, array: CuPyArray | None, function: Callable[P, T]) -> Callable[P, T]:
        if not self.several:
            return function

        def called(*args: P.args, **options: P.kwargs) -> T:
            with cupy.cuda.Device() if array is None else array.device:
                return function(*args, **options)

        return called

    def use(self, array: CuPyArray) -> None:
        if self.several:
            array.device.use()

    def wait(self, array: CuPyArray) -> None:
        array.device.synchronize()

    def compile_kernel(self, source: str, name: str) -> KernelLaunch | None:
        """CuPy compiles at the first launch and keeps the binary in the user's kernel cache."""
        kernel = self._kernels.get((source, name))
        if kernel is None:
            kernel = self._kernels[source, name] = cupy.RawKernel(source, name)
        return kernel

    @cached_property
    def blas(self) -> cublas.CuBLAS | None:
        """NVIDIA's products without CuPy's wrapper, where the library is found."""
        cupy.cuda.get_cublas_handle()  # loads the library
        found = cublas.find(cupy.cuda.runtime.runtimeGetVersion() // 1000)
        return found and cublas.CuBLAS(found, partial(cupy.empty, dtype=np.uint8))

    def _handle(self) -> cublas.Handle | None:
        """That of this thread and the current device, with the memory that NVIDIA recommends."""
        if self.blas is None:
            return None
        device = cupy.cuda.Device()
        recent = int(device.compute_capability) >= 90
        return self.blas.handle(device.id, (32 if recent else 4) << 20)

    def matmul_wide(self, a: CuPyArray, b: CuPyArray, out: CuPyArray | None = None) -> CuPyArray:
        """By cuBLAS, which reads float16 as it is; CuPy would cast both operands before.

        Stacked rows times one matrix are one product, and not one for each matrix of the stack.
        """
        if out is None and a.ndim > 2 and b.ndim == 2 and a.flags.c_contiguous and a.size:
            rows = self.matmul_wide(a.reshape(-1, a.shape[-1]), b)
            return rows.reshape(*a.shape[:-1], b.shape[1])
        handle = self._handle()
        if handle is None or a.ndim > 3 or b.ndim > 3:
            return super().matmul_wide(a, b, out)
        if out is None:
            stacks = next((x.shape[:1] for x in (a, b) if x.ndim == 3), ())
            out = cupy.empty((*stacks, a.shape[-2], b.shape[-1]), np.float32)
        handle.use(_stream())
        return out if handle.multiply(a, b, out) else super().matmul_wide(a, b, out)

    def prepared_product(
        self, a: CuPyArray, b: CuPyArray, out: CuPyArray
    ) -> tuple[Callable[[], Any], Callable[[int], Any]] | None:
        handle = self._handle()
        run = handle and handle.prepared(a, b, out)
        return (lambda: handle.use(_stream()), run) if handle and run else None

    def why_no_capture(self) -> str | None:
        return None if self.blas is not None else "the library of cuBLAS is not found"

    def place(self, arrays: Sequence[CuPyArray]) -> tuple[int, ...]:
        addresses = [array.data.ptr for array in arrays]
        return threading.get_ident(), cupy.cuda.Device().id, _stream(), *addresses

    def capture(self, work: Callable[[], Any]) -> Callable[[], Any]:
        """As a CUDA graph: captured on a stream of its own, launched on the current one."""
        launched_on, handle = _stream(), self._handle()
        with cupy.cuda.Stream(non_blocking=True) as stream:
            if handle is not None:
                handle.use(stream.ptr, launched_on)
            try:
                stream.begin_capture()
                try:
                    work()
                except BaseException:
                    with suppress(RuntimeError):
                        stream.end_capture()
                    raise
                graph = stream.end_capture()
            finally:
                if handle is not None:
                    handle.use(launched_on)
        return graph.launch

    def fetch(self, array: CuPyArray) -> Callable[[], np.ndarray]:
        """Through pinned memory, with an event behind the copy: the device is not waited for."""
        with array.device:
            pinned = cupyx.empty_pinned(array.shape, array.dtype)
            array.get(out=pinned, blocking=False)
            copied = cupy.cuda.Event(disable_timing=True)
            copied.record()

        def wait() -> np.ndarray:
            copied.synchronize()
            return np.array(pinned)

        return wait

    def update(
        self,
        rule: Callable[..., None],
        dtype: np.dtype[Any],
        targets: Sequence[CuPyArray | None],
        g: CuPyArray,
        numbers: Mapping[str, float],
        keep: CuPyArray | None = None,
    ) -> None:
        """One generated kernel per rule, dtypes, and choice of numbers that are 0."""
        given = [t for t in targets if t is not None]
        present = [t is not None for t in targets]
        fixed = {name: value for name, value in numbers.items() if is_fixed(value)}
        free = {name: value for name, value in numbers.items() if name not in fixed}
        dtypes = [a.dtype.name for a in (g, *given)]
        key = (rule, dtype.name, *dtypes, *present, *fixed.items(), *free)
        kernel = self._updates.get(key)
        if kernel is None:
            body = update_source(rule, dtype, present, fixed, list(free))
            names = [f"target{k}" for k, there in enumerate(present) if there]
            kernel = self._updates[key] = cupy.ElementwiseKernel(
                ", ".join([f"{dtypes[0]} gradient", *(f"float64 {n}" for n in free), "bool keep"]),
                ", ".join(f"{d} {n}" for d, n in zip(dtypes[1:], names, strict=True)),
                body,
                "tinygrad_rnn_update",
                preamble=PREAMBLE,
            )
        with g.device:
            kernel(g, *free.values(), True if keep is None else keep, *given)
