"""Clipping: limiting the gradient before an update. Norms are computed without overflow."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, backend_of
from tinygrad_rnn.nn import Module, Parameter


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
    top = _largest(gradients)
    if top == 0.0 or not math.isfinite(top):
        return top
    return top * math.sqrt(_sum_of_squares(gradients, 1 / top))


def _largest(gradients: Sequence[Array]) -> float:
    """The largest magnitude of an element, nan if there is one."""
    backend = backend_of(gradients[0])
    tops = [backend.xp.max(backend.xp.abs(g)).astype(np.float64) for g in gradients if g.size]
    return float(backend.to_host(backend.xp.max(backend.xp.stack(tops)))) if tops else 0.0


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
        """The limited gradients, and whether that changed them. ``norm`` is the global norm."""


class ClipNorm(Clip):
    """Scale all gradients by max_norm / norm where their global norm exceeds ``max_norm``.

    Source: Pascanu, Mikolov, Bengio 2013. As in PyTorch, 1e-6 is added to the norm.
    """

    def __init__(self, max_norm: float) -> None:
        check_number("ClipNorm", "max_norm", max_norm, above=0)
        self.max_norm = max_norm

    def apply(self, gradients: list[Array], norm: float) -> tuple[list[Array], bool]:
        scale = self.max_norm / (norm + 1e-6)
        return ([g * scale for g in gradients], True) if scale < 1 else (gradients, False)


class ClipValue(Clip):
    """Limit each element of the gradient to +-``limit`` (the classic choice is 15)."""

    def __init__(self, limit: float) -> None:
        check_number("ClipValue", "limit", limit, above=0)
        self.limit = limit

    def apply(self, gradients: list[Array], norm: float) -> tuple[list[Array], bool]:
        if norm <= self.limit or _largest(gradients) <= self.limit:
            return gradients, False
        xp = backend_of(gradients[0]).xp
        return [xp.clip(g, -self.limit, self.limit) for g in gradients], True


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scale the ``.grad`` of parameters in place to a global norm of at most ``max_norm``.

    Returns the norm before; one that is inf or nan changes nothing. For training loops of your
    own; optimizers take ``clip=``.
    """
    clip = ClipNorm(max_norm)
    found = [p.grad for p in check_parameters("clip_grad_norm", parameters) if p.grad is not None]
    norm = global_norm([g.array for g in found])
    if math.isfinite(norm):
        clipped, _ = clip.apply([g.array for g in found], norm)
        for g, array in zip(found, clipped, strict=True):
            g.array = array
            g.mark_changed()
    return norm


def check_parameters(who: str, parameters: Iterable[Parameter]) -> list[Parameter]:
    """The parameters as a list, in which each is a Parameter and appears once."""
    if isinstance(parameters, Parameter | Module) or not isinstance(parameters, Iterable):
        raise TypeError(
            f"{who}: expected an iterable of Parameters such as model.parameters(), got "
            f"{type(parameters).__name__}"
        )
    found = list(parameters)
    for parameter in found:
        if not isinstance(parameter, Parameter):
            raise TypeError(f"{who}: expected Parameters, got {type(parameter).__name__}")
    if len({id(p) for p in found}) < len(found):
        raise ValueError(f"{who}: a parameter is given twice")
    return found


def check_number(who: str, name: str, value: Any, above: float | None = None) -> None:
    """Refuse what is no finite number >= 0, or, with ``above``, none that is larger than that."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    fits = number and (value >= 0 if above is None else value > above)
    if not (fits and math.isfinite(value)):
        wanted = ">= 0" if above is None else f"> {above}"
        raise ValueError(f"{who}: {name} must be a finite number {wanted}, got {value!r}")
