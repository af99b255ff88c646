"""The optimizers: formulas, defaults, names and places of arguments are PyTorch's.

p is a parameter and g its gradient. Each also takes ``weight_decay=`` (L2), ``l1=``, ``clip=``,
``nonfinite=``, ``max_skips=`` and ``loss_scale=``, and groups of parameters with hyperparameters of
their own: see :class:`Optimizer`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Unpack

from tinygrad_rnn.optim.common import Common
from tinygrad_rnn.optim.groups import Parameters, check_number
from tinygrad_rnn.optim.optimizer import Optimizer
from tinygrad_rnn.optim.rules import adadelta, adagrad, adam, rmsprop, sgd


class SGD(Optimizer):
    """v = momentum v + g; p -= lr v; with Nesterov's momentum p -= lr (g + momentum v).

    Source: Polyak 1964; Nesterov 1983 in the form of Sutskever et al. 2013.
    """

    rule = staticmethod(sgd)
    slots = ("momentum",)

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        *,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "nesterov": nesterov,
                "weight_decay": weight_decay,
                "l1": l1,
            },
            **common,
        )

    def check(self, who: str, o: Mapping[str, Any]) -> None:
        super().check(who, o)
        check_number(who, "momentum", o["momentum"], below=1)
        if o["nesterov"] and not o["momentum"]:
            raise ValueError(f"{who}: nesterov needs a momentum")

    def initial(self, o: Mapping[str, Any]) -> dict[str, float]:
        return {"momentum": 0.0} if o["momentum"] else {}


class Adam(Optimizer):
    """p -= lr m' / (sqrt(v') + eps), m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2.

    (b1, b2) = betas; m' = m / (1 - b1^t) and v' = v / (1 - b2^t) at a parameter's t-th update.
    Source: Kingma, Ba 2015.
    """

    rule = staticmethod(adam)
    slots = ("m", "v")
    squares = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        l1: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params,
            {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "l1": l1},
            **common,
        )

    def check(self, who: str, o: Mapping[str, Any]) -> None:
        super().check(who, o)
        betas = o["betas"]
        if not (isinstance(betas, tuple) and [0 <= b < 1 for b in betas] == [True] * 2):
            raise ValueError(f"{who}: betas must be two numbers 0 <= beta < 1, got {betas!r}")
        check_number(who, "eps", o["eps"], above=0)

    def numbers(self, o: Mapping[str, Any], t: int) -> dict[str, float]:
        beta1, beta2 = o["betas"]
        bias1, bias2 = 1 - beta1**t, math.sqrt(1 - beta2**t)
        return {
            "lr": o["lr"],
            "beta1": beta1,
            "beta2": beta2,
            "eps": o["eps"],
            "bias1": bias1,
            "bias2": bias2,
        }


class AdamW(Adam):
    """Adam with decoupled decay: p -= lr (weight_decay p + l1 sign(p)) instead of a change of g.

    Source: Loshchilov, Hutter 2019.
    """

    decoupled = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        l1: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, l1=l1, **common)


class RMSprop(Optimizer):
    """v = alpha v + (1 - alpha) g^2; p -= lr g / (sqrt(v) + eps).

    ``centered`` puts v - mean^2 for v, with mean = alpha mean + (1 - alpha) g. ``momentum`` takes
    buffer = momentum buffer + g / (sqrt(v) + eps), and then p -= lr buffer. Source: Tieleman,
    Hinton 2012; centered: Graves 2013.
    """

    rule = staticmethod(rmsprop)
    slots = ("v", "mean", "buffer")
    squares = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        l1: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "momentum": momentum,
                "centered": centered,
                "weight_decay": weight_decay,
                "l1": l1,
            },
            **common,
        )

    def check(self, who: str, o: Mapping[str, Any]) -> None:
        super().check(who, o)
        check_number(who, "alpha", o["alpha"], below=1)
        check_number(who, "eps", o["eps"], above=0)
        check_number(who, "momentum", o["momentum"], below=1)

    def initial(self, o: Mapping[str, Any]) -> dict[str, float]:
        used = {"v": True, "mean": o["centered"], "buffer": o["momentum"]}
        return {name: 0.0 for name in self.slots if used[name]}


class Adagrad(Optimizer):
    """total = total + g^2; p -= lr' g / (sqrt(total) + eps), lr' = lr / (1 + (t - 1) lr_decay).

    total begins as ``initial_accumulator_value``. Source: Duchi, Hazan, Singer 2011.
    """

    rule = staticmethod(adagrad)
    slots = ("total",)
    squares = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        l1: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
                "weight_decay": weight_decay,
                "l1": l1,
            },
            **common,
        )

    def check(self, who: str, o: Mapping[str, Any]) -> None:
        super().check(who, o)
        check_number(who, "lr_decay", o["lr_decay"])
        check_number(who, "initial_accumulator_value", o["initial_accumulator_value"])
        check_number(who, "eps", o["eps"], above=0)

    def initial(self, o: Mapping[str, Any]) -> dict[str, float]:
        return {"total": o["initial_accumulator_value"]}

    def numbers(self, o: Mapping[str, Any], t: int) -> dict[str, float]:
        return {"lr": o["lr"] / (1 + (t - 1) * o["lr_decay"]), "eps": o["eps"]}


class Adadelta(Optimizer):
    """v = rho v + (1 - rho) g^2; d = g sqrt(u + eps) / sqrt(v + eps); p -= lr d.

    u = rho u + (1 - rho) d^2 after that. Source: Zeiler 2012.
    """

    rule = staticmethod(adadelta)
    slots = ("v", "u")
    squares = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        l1: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params,
            {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "l1": l1},
            **common,
        )

    def check(self, who: str, o: Mapping[str, Any]) -> None:
        super().check(who, o)
        check_number(who, "rho", o["rho"], below=1)
        check_number(who, "eps", o["eps"], above=0)
