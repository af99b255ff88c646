"""What a page knows of an array: measures of all its elements, and a sample of them."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from tinygrad_rnn.backends import to_host

MEASURES = ("min", "mean", "max", "norm")
"""The measures of an array, of those of its elements that are finite; norm is the root of the sum
of their squares."""

LARGEST_SAMPLE = 1024
"""The most elements that are shown of one array."""

SAMPLE_BYTES = 3 * 2**20
"""The memory of all samples of a page together, two bytes per element."""

SCALE = 32000
NAN, INFINITE = -32768, 32767
"""Samples are integers, 32000 standing for the largest finite size in the array; these three
stand for what is not finite (minus infinity is that of plus infinity with the other sign)."""


def sample_size(arrays: int) -> int:
    """How many elements are shown of each array where there are so many of them."""
    return max(8, min(LARGEST_SAMPLE, SAMPLE_BYTES // (2 * max(arrays, 1))))


class Measures:
    """The measures and samples of many arrays, in the order in which they are set.

    Attributes
    ----------
    values : one row of :data:`MEASURES` per array, NaN where nothing is known of one.
    zeros : the share of elements that are 0.
    strange : how many elements are NaN and how many infinite, of arrays that have such.
    """

    def __init__(self, arrays: int, largest: int) -> None:
        self.largest = largest
        self.values = np.full((arrays, len(MEASURES)), np.nan)
        self.zeros = np.zeros(arrays, np.float32)
        self.strange: dict[int, tuple[int, int]] = {}
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.samples: dict[int, np.ndarray] = {}

    def set(self, k: int, array: Any, sample: bool = True) -> None:
        """Measure an array, which is the k-th one."""
        x = np.asarray(to_host(array))
        if x.dtype.kind not in "fiub" or not x.size:
            return
        kept = self._sampled(k, x) if sample else None
        if x.dtype.kind != "f" or x.dtype == np.float16:
            x = x.astype(np.float64)
        flat = x.reshape(-1)
        with np.errstate(all="ignore"):
            total = float(flat.dot(flat))
            if not math.isfinite(total):
                flat = self._finite(k, flat.astype(np.float64))
                total = float(flat.dot(flat))
            self.zeros[k] = (flat.size - np.count_nonzero(flat)) / x.size
            if not flat.size:
                return
            norm = math.sqrt(total)
            if norm < 1e-15 or norm > 1e15:  # squares may have left the range
                norm = float(_scaled_norm(flat))
            self.values[k] = flat.min(), flat.mean(dtype=np.float64), flat.max(), norm
        if kept is not None:
            self.samples[k] = _as_integers(
                kept, max(abs(float(flat.min())), abs(float(flat.max())))
            )

    def _finite(self, k: int, flat: np.ndarray) -> np.ndarray:
        """Those elements that are finite; the others are counted."""
        finite = np.isfinite(flat)
        nan = int(np.isnan(flat).sum())
        infinite = flat.size - int(finite.sum()) - nan
        if nan or infinite:
            self.strange[k] = (nan, infinite)
        return flat[finite]

    def _sampled(self, k: int, x: np.ndarray) -> np.ndarray:
        """Elements at even distances along each axis, no more than ``largest`` of them."""
        self.shapes[k], picked = _picked(x.shape, self.largest)
        return x if picked is None else x[picked]

    def merge(self, into: int, rows: np.ndarray) -> None:
        """Let the measures of one array be those of several that have one shape.

        Min and max are those of all, mean their mean, norm the root of the sum of squares.
        """
        with np.errstate(all="ignore"):
            low, mean, high, norm = self.values[rows].T
            if not np.isnan(norm).all():
                self.values[into] = (
                    np.nanmin(low), np.nanmean(mean), np.nanmax(high), np.sqrt(np.nansum(norm**2)),
                )  # fmt: skip
        self.zeros[into] = self.zeros[rows].mean()
        counts = [self.strange[k] for k in rows if k in self.strange]
        if counts:
            self.strange[into] = (sum(n for n, _ in counts), sum(n for _, n in counts))


@cache
def _picked(shape: tuple[int, ...], largest: int) -> tuple[tuple[int, ...], Any]:
    """The shape of a sample, and the index that takes it; None where it is the whole array."""
    sizes = [*shape]
    if math.prod(sizes) <= largest:
        return shape, None
    while math.prod(sizes) > largest:
        axis = sizes.index(max(sizes))
        others = math.prod(sizes) // sizes[axis]
        sizes[axis] = max(min(largest // others, sizes[axis] // 2), 1)
    places = [
        np.linspace(0, size - 1, n).round().astype(int)
        for n, size in zip(sizes, shape, strict=True)
    ]
    return (*sizes,), np.ix_(*places)


def _scaled_norm(flat: np.ndarray) -> float:
    scale = float(np.abs(flat).max())
    return scale * float(np.linalg.norm(flat.astype(np.float64) / scale)) if scale else 0.0


def _as_integers(sample: np.ndarray, largest: float) -> np.ndarray:
    x = sample.astype(np.float64).reshape(-1)
    with np.errstate(all="ignore"):
        found = np.rint(x * (SCALE / largest) if largest else x * 0)
    if not np.isfinite(found).all():
        found = np.where(np.isnan(x), NAN, found)
        found = np.where(np.isinf(x), np.copysign(INFINITE, x), found)
    return found.astype("<i2")
