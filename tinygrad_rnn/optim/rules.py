"""The update rules, a table of mathematics.

g is a gradient, p its parameter, and what is kept from one update to the next (v, m, ...) its
slots. Everything is elementwise, and changes p and the slots in place but never g. So a backend
can run a rule in blocks or make one kernel of it; see ``Backend.update``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.optim.norms import working_dtype


def sgd(
    xp: Any, g: Array, p: Array, v: Array, *, lr: float, momentum: float, nesterov: bool
) -> None:
    """As in PyTorch, v begins as the first gradient."""
    if not momentum:
        p -= lr * g
        return
    v *= momentum
    v += g
    p -= lr * (g + momentum * v) if nesterov else lr * v


def adam(
    xp: Any,
    g: Array,
    p: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    bias1: float,
    bias2: float,
) -> None:
    """bias1 = 1 - beta1^t, bias2 = sqrt(1 - beta2^t) at a parameter's t-th update."""
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * (g * g)
    length = xp.sqrt(v)
    length /= bias2
    length += eps
    p -= (lr / bias1) * m / length


def rmsprop(
    xp: Any,
    g: Array,
    p: Array,
    v: Array,
    mean: Array,
    buffer: Array,
    *,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
    centered: bool,
) -> None:
    """A variance that rounding makes negative counts as 0."""
    v *= alpha
    v += (1 - alpha) * (g * g)
    spread = v
    if centered:
        mean *= alpha
        mean += (1 - alpha) * g
        spread = xp.maximum(v - mean * mean, 0)
    step = g / (xp.sqrt(spread) + eps)
    if momentum:
        buffer *= momentum
        buffer += step
        step = buffer
    p -= lr * step


def adagrad(xp: Any, g: Array, p: Array, total: Array, *, lr: float, eps: float) -> None:
    """A step is smaller the larger all squares have been together."""
    total += g * g
    p -= lr * g / (xp.sqrt(total) + eps)


def adadelta(
    xp: Any, g: Array, p: Array, v: Array, u: Array, *, lr: float, rho: float, eps: float
) -> None:
    """The root of the mean square of the steps, over that of the gradients, makes the step."""
    v *= rho
    v += (1 - rho) * (g * g)
    step = xp.sqrt(u + eps) / xp.sqrt(v + eps) * g
    u *= rho
    u += (1 - rho) * (step * step)
    p -= lr * step


@functools.cache
def largest_to_square(dtype: np.dtype[Any]) -> float:
    """The root of the largest number over 1024: a million of its squares add up to a finite sum."""
    return math.sqrt(np.finfo(working_dtype(dtype)).max) / 1024


@functools.cache
def completed(rule: Callable[..., None], decoupled: bool) -> Callable[..., None]:
    """The rule with weight decay, L1 and a limit on the gradient's elements before it.

    It is one function for each rule, as kernels are kept. ``largest`` is 0 where there is no limit.
    """

    def whole(
        xp: Any,
        g: Array,
        p: Array,
        *slots: Array,
        lr: float,
        weight_decay: float,
        l1: float,
        largest: float,
        **numbers: float,
    ) -> None:
        if weight_decay or l1:
            pull = weight_decay * p if weight_decay else l1 * xp.sign(p)
            if weight_decay and l1:
                pull = pull + l1 * xp.sign(p)
            if decoupled:
                p -= lr * pull
            else:
                g = g + pull
        if largest:
            g = xp.minimum(xp.maximum(g, 0.0 - largest), largest)
        rule(xp, g, p, *slots, lr=lr, **numbers)

    return whole
