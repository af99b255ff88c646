"""Values in a few numbers, for printed tapes: of arrays, and of the cotangents that arrive."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.backends import Array, to_host
from tinygrad_rnn.tape.modes import Observer
from tinygrad_rnn.tape.record import Record


class Statistics(NamedTuple):
    """What the elements of some arrays come to.

    ``minimum``, ``maximum`` and ``total`` are those of the ``finite`` elements.
    """

    size: int = 0
    finite: int = 0
    minimum: float = np.inf
    maximum: float = -np.inf
    total: float = 0.0
    zeros: int = 0
    nans: int = 0

    @classmethod
    def of(cls, array: Array) -> Statistics:
        """Those of one array."""
        values = to_host(array)
        if values.dtype.kind != "f":
            values = values.astype(np.float64)
        finite = values[np.isfinite(values)]
        if not finite.size:
            return cls(values.size, nans=int(np.isnan(values).sum()))
        return cls(
            values.size,
            finite.size,
            float(finite.min()),
            float(finite.max()),
            float(finite.sum(dtype=np.float64)),
            int((finite == 0).sum()),
            int(np.isnan(values).sum()),
        )

    def cells(self) -> list[str]:
        """For a table: least, mean, greatest, share of zeros, and how many are not finite."""
        if not self.size:
            return ["", "", "", "", ""]
        infinite = self.size - self.finite - self.nans
        odd = [f"{n} {what}" for n, what in ((self.nans, "nan"), (infinite, "inf")) if n]
        three = (self.minimum, self.total / max(1, self.finite), self.maximum)
        numbers = [f"{x:.3g}" for x in three] if self.finite else [""] * 3
        return [*numbers, f"{self.zeros / self.size:.0%}", ", ".join(odd)]


def together(found: Iterable[Statistics]) -> Statistics:
    """Those of all arrays."""
    columns = zip(Statistics(), *found, strict=True)
    size, finite, minimum, maximum, total, zeros, nans = columns
    return Statistics(
        sum(size), sum(finite), min(minimum), max(maximum), sum(total), sum(zeros), sum(nans)
    )


class Arriving(Observer):
    """Sees what arrives at the results of every record in a backward pass."""

    def __init__(self) -> None:
        self.at: dict[Record, Statistics] = {}

    def before_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        """Keep the numbers, not the arrays."""
        arrays = [getattr(g, "array", g) for g in cotangents if g is not None]
        self.at[record] = together(map(Statistics.of, arrays))
