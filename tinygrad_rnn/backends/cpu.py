"""NumPy: always there."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.backends.interface import Array, Backend


def add_sorted_rows(target: np.ndarray, index: np.ndarray, values: np.ndarray) -> None:
    """``target[index] += values`` for one index array over the first axis, by segment sums.

    Rows are brought together by a stable sort and each run of equal indices is summed once: for
    the gradient of an embedding ten times as fast as ``numpy.add.at``.
    """
    order = np.argsort(index, kind="stable")
    rows = index[order]
    starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
    target[rows[starts]] += np.add.reduceat(values[order], starts, axis=0)


class NumPyBackend(Backend):
    """Arrays in host memory."""

    name = "cpu"
    xp = np
    array_type = np.ndarray
    native_half = False
    checks_indices = True

    def devices(self) -> list[str]:
        return ["cpu"]

    def device_of(self, array: Array) -> str:
        return "cpu"

    def from_host(self, array: np.ndarray, device: str) -> Array:
        return array

    def to_host(self, array: Array) -> np.ndarray:
        return array

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        if (
            isinstance(index, np.ndarray)
            and index.dtype.kind in "iu"
            and index.size
            and target.size
        ):
            rest = target.shape[1:]
            rows = np.broadcast_to(values, index.shape + rest).reshape(index.size, *rest)
            flat = index.reshape(-1).astype(np.intp, copy=False)
            add_sorted_rows(target, np.where(flat < 0, flat + len(target), flat), rows)
        else:
            np.add.at(target, index, values)
