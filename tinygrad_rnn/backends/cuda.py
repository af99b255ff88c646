"""CuPy: NVIDIA GPUs. The only module of the package that imports cupy."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.backends.interface import Array, Backend, DeviceError

try:
    import cupy  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise DeviceError(
        'device "cuda" needs CuPy, which is not installed: pip install "tinygrad_rnn[cuda12]" '
        'for a CUDA 12 driver, or "tinygrad_rnn[cuda13]" for CUDA 13'
    ) from error

_SEGMENT_SUM = """
    const long long row = i / width, column = i % width;
    T total = 0;
    for (long long k = starts[row]; k < starts[row + 1]; ++k)
        total += values[order[k] * width + column];
    out += total;
"""


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
        self._segment_sum = cupy.ElementwiseKernel(
            "raw int64 starts, raw int64 order, raw T values, int64 width",
            "T out",
            _SEGMENT_SUM,
            "tinygrad_rnn_segment_sum",
        )

    def devices(self) -> list[str]:
        return [f"cuda:{k}" for k in range(cupy.cuda.runtime.getDeviceCount())]

    def device_of(self, array: Array) -> str:
        return f"cuda:{array.device.id}"

    def from_host(self, array: np.ndarray, device: str) -> Array:
        _, _, number = device.partition(":")
        if number and not (number.isdecimal() and device in self.devices()):
            raise DeviceError(f"device {device!r} does not exist; there are {self.devices()}")
        with cupy.cuda.Device(int(number) if number else None):
            return cupy.asarray(array)

    def to_host(self, array: Array) -> np.ndarray:
        return array.get()

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """Sorted segment sums over flat positions: no float atomics, so runs are bit-equal."""
        positions = cupy.arange(target.size, dtype=np.int64).reshape(target.shape)[index]
        rows, width = positions.reshape(-1), 1
        if isinstance(index, cupy.ndarray) and index.dtype.kind in "iu" and target.size:
            wide = index.reshape(-1).astype(np.int64, copy=False)
            rows, width = wide % len(target), target.size // len(target)
        order = cupy.argsort(rows, kind="stable")
        bounds = cupy.arange(target.size // max(width, 1) + 1)
        starts = cupy.searchsorted(rows[order], bounds).astype(np.int64)
        flat = cupy.ascontiguousarray(
            cupy.broadcast_to(values, positions.shape).reshape(-1), dtype=target.dtype
        )
        self._segment_sum(starts, order, flat, width, target.reshape(-1))
