"""Clipping: limiting the gradient before an update, without asking the device for a value."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from tinygrad_rnn.backends import Array, backend_of, there, to_host
from tinygrad_rnn.nn import Parameter
from tinygrad_rnn.optim.checks import checked_gradients
from tinygrad_rnn.optim.groups import check_number, check_parameters
from tinygrad_rnn.optim.norms import norm_over, norms, working_dtype


class Clip(ABC):
    """A limit on the gradient, given to an optimizer as ``clip=``."""

    @abstractmethod
    def apply(
        self, gradients: Sequence[Array], parameters: Sequence[Array], norms: Array
    ) -> tuple[list[Array], Array]:
        """The limited gradients, and which of them that changed, as a boolean array (n,).

        ``norms`` (n,) are the Euclidean norms of the gradients. Nothing is read on the host where
        the backend is asynchronous, and no argument is changed.
        """


class ClipNorm(Clip):
    """Scale all gradients by max_norm / norm where their global norm exceeds ``max_norm``.

    Source: Pascanu, Mikolov, Bengio 2013. As in PyTorch, 1e-6 is added to the norm.
    """

    def __init__(self, max_norm: float) -> None:
        check_number("ClipNorm", "max_norm", max_norm, above=0)
        self.max_norm = float(max_norm)

    def apply(
        self, gradients: Sequence[Array], parameters: Sequence[Array], norms: Array
    ) -> tuple[list[Array], Array]:
        factor = self.max_norm / (norm_over(norms) + 1e-6)
        return _scaled(gradients, [factor] * len(gradients))


class ClipPerParameter(Clip):
    """Scale the gradient of each parameter by itself where its norm exceeds ``max_norm``.

    As in :class:`ClipNorm`, 1e-6 is added to the norm.
    """

    def __init__(self, max_norm: float) -> None:
        check_number("ClipPerParameter", "max_norm", max_norm, above=0)
        self.max_norm = float(max_norm)

    def apply(
        self, gradients: Sequence[Array], parameters: Sequence[Array], norms: Array
    ) -> tuple[list[Array], Array]:
        factors = self.max_norm / (norms + 1e-6)
        return _scaled(gradients, [factors[k] for k in range(len(gradients))])


class ClipAdaptive(Clip):
    """Keep a unit's gradient G small beside its weights W: |G| <= clipping max(|W|, eps).

    A unit is a row: all that one output of a weight (out, ...) is computed with, or one entry of
    an embedding; a bias or another vector is one unit. |.| is the Euclidean norm. Source: Brock,
    De, Smith, Simonyan 2021 (AGC), equation 3 and its values of ``clipping`` and ``eps``.
    """

    def __init__(self, clipping: float = 0.01, eps: float = 1e-3) -> None:
        check_number("ClipAdaptive", "clipping", clipping, above=0)
        check_number("ClipAdaptive", "eps", eps, above=0)
        self.clipping, self.eps = float(clipping), float(eps)

    def apply(
        self, gradients: Sequence[Array], parameters: Sequence[Array], norms: Array
    ) -> tuple[list[Array], Array]:
        return _scaled(
            gradients, [self._factor(g, p) for g, p in zip(gradients, parameters, strict=True)]
        )

    def _factor(self, g: Array, p: Array) -> Array:
        xp = backend_of(g).xp
        axes = tuple(range(1, g.ndim)) or None
        limit = self.clipping * xp.maximum(norm_over(p, axes), self.eps)
        length = norm_over(g, axes)
        beyond = length > limit
        return xp.where(beyond, limit / xp.where(beyond, length, 1.0), 1.0)


class ClipValue(Clip):
    """Limit each element of the gradient to +-``limit`` (the classic choice is 15)."""

    def __init__(self, limit: float) -> None:
        check_number("ClipValue", "limit", limit, above=0)
        self.limit = float(limit)

    def apply(
        self, gradients: Sequence[Array], parameters: Sequence[Array], norms: Array
    ) -> tuple[list[Array], Array]:
        backend = backend_of(gradients[0])
        limited, changed = [*gradients], []
        for k, g in enumerate(gradients):
            wide = g.astype(working_dtype(g.dtype), copy=False)
            beyond = norms[k] > self.limit  # no element is larger than the norm
            if backend.asynchronous or beyond:
                beyond = backend.xp.any(backend.xp.abs(wide) > self.limit)
                limited[k] = backend.xp.clip(wide, -self.limit, self.limit)
            changed.append(beyond)
        return limited, backend.xp.stack(changed)


def _scaled(gradients: Sequence[Array], factors: Sequence[Array]) -> tuple[list[Array], Array]:
    """Every gradient times the smaller of 1 and its factor."""
    backend = backend_of(gradients[0])
    xp = backend.xp
    changed = [xp.any(factor < 1) for factor in factors]
    scaled = [*gradients]
    for k, (g, factor) in enumerate(zip(gradients, factors, strict=True)):
        if backend.asynchronous or changed[k]:
            dtype = working_dtype(g.dtype)
            scaled[k] = g.astype(dtype, copy=False) * xp.minimum(factor, 1.0).astype(dtype)
    return scaled, xp.stack(changed)


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scale the ``.grad`` of parameters in place to a global norm of at most ``max_norm``.

    Returns the norm before; one that is inf or nan changes nothing. For training loops of your
    own; optimizers take ``clip=``. A gradient that is not of its parameter's shape, dtype and
    device is refused before any is changed.
    """
    clip = ClipNorm(max_norm)
    given = check_parameters("clip_grad_norm", parameters)
    active = [k for k, p in enumerate(given) if p.grad is not None]
    if not active:
        return 0.0
    found = [given[k].grad for k in active]
    arrays = checked_gradients("clip_grad_norm", given, active)
    measured = norms(arrays)
    norm = math.hypot(*to_host(measured).tolist())
    if math.isfinite(norm):
        clipped = _clipped(arrays, clip, measured)
        for g, array in zip(found, clipped, strict=True):
            g.replace_array(array)
    return norm


@there
def _clipped(gradients: Sequence[Array], clip: Clip, measured: Array) -> list[Array]:
    """The clipped gradients, each in its own dtype."""
    clipped, _ = clip.apply(gradients, gradients, measured)
    return [c.astype(g.dtype, copy=False) for c, g in zip(clipped, gradients, strict=True)]


def without_nonfinite(g: Array) -> Array:
    """A copy in which elements that are inf or nan are 0."""
    xp = backend_of(g).xp
    return xp.where(xp.isfinite(g), g, 0).astype(np.dtype(g.dtype))
