"""Which units tell most about a label."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinygrad_rnn.lab.activations.inner import Inner
from tinygrad_rnn.lab.written import write_csv


class Unit(NamedTuple):
    """A unit, and how well it tells a label.

    Attributes
    ----------
    accuracy : the mean of the shares of the two labels that the threshold gets right, on the half
        of the data that it was not chosen on: 1 always right, 0.5 a guess.
    threshold : where the unit's value parts the labels best.
    above : whether the label is True above it.
    """

    layer: str
    value: str
    unit: int
    accuracy: float
    threshold: float
    above: bool

    @property
    def name(self) -> str:
        """For reading: ``c[12] of layers.1.cell``."""
        return f"{self.value}[{self.unit}] of {self.layer}"


@dataclass(frozen=True)
class Telling:
    """The units that tell most about a label, the best first; ``len``, ``[k]`` and loops."""

    units: tuple[Unit, ...]
    searched: int
    """How many units there are: the best of many is good by chance, too."""

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, k: int) -> Unit:
        return self.units[k]

    def __iter__(self) -> Iterator[Unit]:
        return iter(self.units)

    def __str__(self) -> str:
        width = max(len(unit.name) for unit in self.units)
        lines = [f"{'unit':{width}}  accuracy  label is True"]
        for u in self.units:
            side = "above" if u.above else "below"
            lines.append(f"{u.name:{width}}  {u.accuracy:8.3f}  {side} {u.threshold:.3g}")
        return "\n".join([*lines, f"the best of {self.searched:,} units"])

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write a row for each unit."""
        return write_csv(path, Unit._fields, self.units, "Telling.to_csv")


def most_telling(
    found: Mapping[str, Inner], labels: np.ndarray, steps: slice, count: int
) -> Telling:
    """See :meth:`Units.telling`; ``labels`` are booleans (T, B)."""
    ranked: list[Unit] = []
    label = labels[steps]
    # Neighbours in time are alike, so a half is made of whole sequences where there are several.
    half = np.zeros(label.shape, bool)
    if label.shape[1] > 1:
        half[:, ::2] = True
    else:
        half[: len(label) // 2] = True
    for part in (half, ~half):
        if not part.any() or label[part].all() or not label[part].any():
            raise ValueError(
                "Units.telling: expected both labels in both halves of the data (every other "
                f"sequence, or of one sequence its steps), got {label[part].sum()} of "
                f"{label[part].size} True in one"
            )
    searched = 0
    for inner in found.values():
        for name, values in inner.values.items():
            if values.ndim < 3:
                continue
            flat = values.reshape(*values.shape[:2], -1)[steps]
            searched += flat.shape[-1]
            ranked += _judged(inner.layer, name, flat[half], label[half], flat[~half], label[~half])
    if not ranked:
        raise ValueError("Units.telling: the layers have no gate or state of several units")
    ranked.sort(key=lambda unit: -unit.accuracy)
    return Telling(tuple(ranked[:count]), searched)


def _judged(
    layer: str, name: str, x: np.ndarray, label: np.ndarray, others: np.ndarray, judged: np.ndarray
) -> list[Unit]:
    """Every unit of (N, H): its threshold by these, its accuracy by others."""
    order = np.argsort(x, axis=0)
    ordered, sides = np.take_along_axis(x, order, 0), label[order]
    # With a threshold after place k: the shares of True above it and of False not above it.
    true_below = np.cumsum(sides, axis=0) / label.sum()
    false_below = np.cumsum(~sides, axis=0) / (~label).sum()
    above = (1 - true_below + false_below) / 2
    tied = np.concatenate([ordered[1:] == ordered[:-1], np.ones((1, x.shape[1]), bool)])
    score = np.where(tied, 0.5, np.maximum(above, 1 - above))  # no threshold between equal values
    best, columns = np.argmax(score, axis=0), np.arange(x.shape[1])
    after = np.minimum(best + 1, len(x) - 1)
    thresholds = (ordered[best, columns] + ordered[after, columns]) / 2
    is_above = above[best, columns] >= 0.5
    said = (others > thresholds) == is_above
    right = (said[judged].mean(axis=0) + (~said)[~judged].mean(axis=0)) / 2
    return [
        Unit(layer, name, k, float(right[k]), float(thresholds[k]), bool(is_above[k]))
        for k in range(x.shape[1])
    ]
