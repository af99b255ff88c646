"""Norms that neither overflow nor vanish, computed where the arrays are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, backend_of, there, to_host


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of slots, updates and clipping: in float16, Adam's eps would be 0."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def global_norm(gradients: Sequence[Array]) -> float:
    """The Euclidean norm of all elements together; inf or nan only if an element is.

    On a GPU this waits for the device, once.
    """
    return math.hypot(*to_host(norms(gradients)).tolist()) if gradients else 0.0


@there
def norms(arrays: Sequence[Array]) -> Array:
    """The Euclidean norm of each array by itself, as one float64 array (n,) on their device."""
    backend = backend_of(arrays[0])
    norm = norm_over if backend.asynchronous else _norm_here
    return backend.xp.stack([norm(a) for a in arrays])


def norm_over(array: Array, axes: tuple[int, ...] | None = None) -> Array:
    """The Euclidean norm in float64 over some axes, which stay with length 1, or over all.

    No square of a float16 or float32 overflows or vanishes in float64; float64 is scaled by its
    largest element.
    """
    xp = backend_of(array).xp
    kept = axes is not None
    if not array.size:
        return xp.sum(xp.abs(array.astype(np.float64)), axis=axes, keepdims=kept)
    wide, top = array.astype(np.float64), None
    if array.dtype == np.float64:
        top = xp.max(xp.abs(wide), axis=axes, keepdims=kept)
        top = xp.where((top > 0) & xp.isfinite(top), top, 1.0)
        wide = wide / top
    length = xp.sqrt(xp.sum(wide * wide, axis=axes, keepdims=kept))
    return length if top is None else length * top


def _norm_here(array: np.ndarray) -> Array:
    """The norm of all on the CPU: one product in the array's own dtype, if that is enough."""
    flat = array.reshape(-1).astype(working_dtype(array.dtype), copy=False)
    with np.errstate(over="ignore"):
        squares = np.dot(flat, flat).astype(np.float64)
    return np.sqrt(squares) if 1e-30 < squares < math.inf else norm_over(array)
