"""The update rules. p is a block of a parameter, g its gradient, eta the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tinygrad_rnn.backends import Array
from tinygrad_rnn.nn import Parameter
from tinygrad_rnn.optim.clipping import Clip, check_number
from tinygrad_rnn.optim.optimizer import Optimizer


class SGD(Optimizer):
    """p -= eta v, with v = momentum * v + g; Nesterov: p -= eta (g + momentum * v).

    ``weight_decay`` adds weight_decay * p to g. Source: Polyak 1964; Nesterov 1983 in the form of
    Sutskever et al. 2013. As in PyTorch, v begins as the first gradient.
    """

    slots = ("momentum",)

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip: Clip | None = None,
        nonfinite: str = "raise",
        max_skips: int = 10,
    ) -> None:
        super().__init__(parameters, lr, clip, nonfinite, max_skips)
        if not 0 <= momentum < 1:
            raise ValueError(f"SGD: momentum must satisfy 0 <= momentum < 1, got {momentum}")
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov needs a momentum")
        check_number("SGD", "weight_decay", weight_decay)
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        if not momentum:
            self.slots = ()

    def update(self, xp: Any, t: int, p: Array, g: Array, *slots: Array) -> None:
        if self.weight_decay:
            g = g + self.weight_decay * p
        if slots:
            (v,) = slots
            v *= self.momentum
            v += g
            g = g + self.momentum * v if self.nesterov else v
        p -= self.lr * g


class Adam(Optimizer):
    """p -= eta m' / (sqrt(v') + eps), m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2.

    m' = m / (1 - b1^t) and v' = v / (1 - b2^t) at a parameter's t-th update. ``weight_decay`` adds
    weight_decay * p to g. Source: Kingma, Ba 2015.
    """

    slots = ("m", "v")

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip: Clip | None = None,
        nonfinite: str = "raise",
        max_skips: int = 10,
    ) -> None:
        super().__init__(parameters, lr, clip, nonfinite, max_skips)
        if not (isinstance(betas, tuple | list) and [0 <= b < 1 for b in betas] == [True] * 2):
            raise ValueError(f"Adam: betas must be two numbers 0 <= beta < 1, got {betas!r}")
        check_number("Adam", "eps", eps, above=0)
        check_number("Adam", "weight_decay", weight_decay)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def update(self, xp: Any, t: int, p: Array, g: Array, *slots: Array) -> None:
        m, v = slots
        beta1, beta2 = self.betas
        if self.weight_decay:
            g = g + self.weight_decay * p
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * (g * g)
        length = xp.sqrt(v)
        length /= math.sqrt(1 - beta2**t)
        length += self.eps
        xp.divide(m, length, out=length)
        length *= self.lr / (1 - beta1**t)
        p -= length
