"""Clipping: limiting the gradient before an update. Norms are computed without overflow."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from tinygrad_rnn.backends import Array, backend_of
from tinygrad_rnn.nn import Parameter


def global_norm(gradients: Sequence[Array]) -> float:
    """The Euclidean norm of all elements together; inf or nan only if an element is.

    Sums of squares are added up in float32 at least, and scaled by the largest element where they
    overflow or vanish.
    """
    if not gradients:
        return 0.0
    squares = _sum_of_squares(gradients, 1.0)
    if math.isfinite(squares) and squares > 1e-30:
        return math.sqrt(squares)
    backend = backend_of(gradients[0])
    tops = [backend.xp.max(backend.xp.abs(g)).astype(np.float64) for g in gradients if g.size]
    top = float(backend.to_host(backend.xp.max(backend.xp.stack(tops)))) if tops else 0.0
    if top == 0.0 or not math.isfinite(top):
        return top
    return top * math.sqrt(_sum_of_squares(gradients, 1 / top))


def _sum_of_squares(gradients: Sequence[Array], scale: float) -> float:
    backend = backend_of(gradients[0])
    totals: list[Array] = []
    for g in gradients:
        flat = g.reshape(-1)
        if flat.dtype == np.float16:
            flat = flat.astype(np.float32)
        if scale != 1.0:
            flat = flat.astype(np.float64) * scale
        with np.errstate(over="ignore"):
            totals.append(backend.xp.dot(flat, flat).astype(np.float64))
    return float(backend.to_host(backend.xp.sum(backend.xp.stack(totals))))


class Clip(ABC):
    """A limit on the gradient, given to an optimizer as ``clip=``."""

    @abstractmethod
    def apply(self, gradients: list[Array], norm: float) -> tuple[list[Array], bool]:
        """The limited gradients, and whether the limit was reached. ``norm`` is the global norm."""


class ClipNorm(Clip):
    """Scale all gradients by max_norm / norm where their global norm exceeds ``max_norm``.

    Source: Pascanu, Mikolov, Bengio 2013. As in PyTorch, 1e-6 is added to the norm.
    """

    def __init__(self, max_norm: float) -> None:
        if not max_norm > 0:
            raise ValueError(f"ClipNorm: max_norm must be positive, got {max_norm}")
        self.max_norm = max_norm

    def apply(self, gradients: list[Array], norm: float) -> tuple[list[Array], bool]:
        scale = self.max_norm / (norm + 1e-6)
        return ([g * scale for g in gradients], True) if scale < 1 else (gradients, False)


class ClipValue(Clip):
    """Limit each element of the gradient to +-``limit`` (the classic choice is 15)."""

    def __init__(self, limit: float) -> None:
        if not limit > 0:
            raise ValueError(f"ClipValue: limit must be positive, got {limit}")
        self.limit = limit

    def apply(self, gradients: list[Array], norm: float) -> tuple[list[Array], bool]:
        if norm <= self.limit:
            return gradients, False
        xp = backend_of(gradients[0]).xp
        return [xp.clip(g, -self.limit, self.limit) for g in gradients], True


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scale the ``.grad`` of parameters in place to a global norm of at most ``max_norm``.

    Returns the norm before. For training loops of your own; optimizers take ``clip=``.
    """
    owners = [p for p in parameters if p.grad is not None]
    norm = global_norm([p.grad.array for p in owners])
    clipped, _ = ClipNorm(max_norm).apply([p.grad.array for p in owners], norm)
    for parameter, g in zip(owners, clipped, strict=True):
        parameter.grad.array = g
        parameter.grad.mark_changed()
    return norm
