"""What a monitor measures of an update: each a list of (quantity, name, value)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, to_host
from tinygrad_rnn.lab.activations.inner import Inner, inner_values
from tinygrad_rnn.lab.flow.gradient_flow import gradient_flow
from tinygrad_rnn.nn import Module, Parameter
from tinygrad_rnn.optim.norms import norms
from tinygrad_rnn.tape import Observer, Record, observe

Found = list[tuple[str, str, float]]

CLOSED, OPEN, FAR = 0.1, 0.9, 0.8
"""A gate below the first or above the second is saturated, as is a tanh beyond the third on either
side, which is the same of its argument but for a factor of 2 (Karpathy, Johnson, Fei-Fei 2015)."""


def of_parameters(
    parameters: Sequence[Parameter], before: Sequence[Array] | None, scale: float
) -> Found:
    """Norms of gradients (not clipped yet) and weights, and how far the update moved these.

    ``before`` are the parameters before the update, ``scale`` is that of the loss.
    """
    named = [(p.name or f"parameter {k}", p) for k, p in enumerate(parameters)]
    graded = [(name, p) for name, p in named if p.grad is not None]
    found: Found = []
    if graded:
        sizes = to_host(norms([p.grad.array for _, p in graded])) / scale
        found += [("gradient norm", n, float(v)) for (n, _), v in zip(graded, sizes, strict=True)]
    weights = to_host(norms([p.array for p in parameters]))
    found += [("weight norm", n, float(v)) for (n, _), v in zip(named, weights, strict=True)]
    if before is not None:
        moves = to_host(norms([p.array - b for p, b in zip(parameters, before, strict=True)]))
        with np.errstate(all="ignore"):
            ratios = moves / weights
        found += [
            ("update / weight", n, float(v)) for (n, _), v in zip(named, ratios, strict=True)
            if n in dict(graded)
        ]  # fmt: skip
    return found


class _Ranges(Observer):
    """The ranges of what is computed outside of recurrent layers, by layer."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = {}

    def after_forward(self, record: Record) -> None:
        origin = record.origin
        if origin is None or origin.layer is None or origin.step is not None:
            return
        for result in record.results:
            if result.dtype.kind == "f" and result.size:
                low, high = float(result.min()), float(result.max())
                before = self.found.setdefault(origin.layer or "model", [low, high])
                before[:] = min(before[0], low), max(before[1], high)


def of_a_pass(run: Callable[[], Any]) -> Found:
    """The ranges of activations of every layer in a forward pass, and saturation of its gates."""
    ranges = _Ranges()
    with observe(ranges):
        inner = inner_values(run)
    found: Found = []
    for layer, (low, high) in ranges.found.items():
        if any(name == layer or name.startswith(f"{layer}.") for name in inner):
            continue  # told by its states
        found += [("range", f"{layer} min", low), ("range", f"{layer} max", high)]
    return found + of_inner(inner)


def of_flow(model: Module, loss: Callable[[], Any]) -> Found:
    """The norms of dL/ds over the distance from the end, at 0, 1, 2, 4, 8, ... steps, and the last.

    Nothing for a model in which no recurrent layer is to be seen.
    """
    found: Found = []
    with contextlib.suppress(ValueError):
        for layer in gradient_flow(model, loss, row=None).layers.values():
            back, norms = layer.back, layer.norms
            last = int(back.max())
            chosen = {0, last, *(2**k for k in range(last.bit_length()))}
            for name, series in norms.items():
                for t in np.argsort(back, kind="stable"):
                    if int(back[t]) in chosen:
                        at = f"{layer.name} {name} @ {back[t]}"
                        found.append(("flow", at, float(series[t])))
    return found


def of_inner(inner: Mapping[str, Inner]) -> Found:
    """Ranges of states; of gates the shares that are closed and open; of others, near +-1."""
    found: Found = []
    for layer, one in inner.items():
        for name, x in one.values.items():
            low, high = float(np.min(x, initial=np.inf)), float(np.max(x, initial=-np.inf))
            called = f"{layer} {name}"
            if name in ("h", "c"):
                found += [("range", f"{called} min", low), ("range", f"{called} max", high)]
            elif low >= 0 and high <= 1:
                found.append(("saturation", f"{called} < {CLOSED}", float(np.mean(x < CLOSED))))
                found.append(("saturation", f"{called} > {OPEN}", float(np.mean(x > OPEN))))
            elif low >= -1 and high <= 1:
                share = float(np.mean(np.abs(x) > FAR))
                found.append(("saturation", f"|{called}| > {FAR}", share))
    return found
