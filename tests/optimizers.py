"""What the tests of optimizers share: one of each kind, parameters with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "sgd l1": (optim.SGD, {"lr": 0.1, "l1": 0.02, "weight_decay": 0.01}),
    "adam": (optim.Adam, {"lr": 0.1}),
    "adam decaying": (optim.Adam, {"lr": 0.1, "weight_decay": 0.01}),
    "adamw": (optim.AdamW, {"lr": 0.1, "weight_decay": 0.2, "l1": 0.1}),
    "rmsprop": (optim.RMSprop, {"lr": 0.02}),
    "rmsprop momentum": (optim.RMSprop, {"lr": 0.02, "momentum": 0.8, "l1": 0.01}),
    "rmsprop centered": (optim.RMSprop, {"lr": 0.02, "momentum": 0.8, "centered": True}),
    "adagrad": (
        optim.Adagrad,
        {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-8},
    ),
    "adadelta": (optim.Adadelta, {"rho": 0.8, "eps": 1e-3, "weight_decay": 0.01}),
}


def _maker(kind: Any, options: dict[str, Any]) -> Any:
    return lambda params, **more: kind(params, **(options | more))


OPTIMIZERS: dict[str, Any] = {name: _maker(*row) for name, row in KINDS.items()}


each_clip = pytest.mark.parametrize(
    "clip",
    [
        None,
        optim.ClipNorm(0.5),
        optim.ClipValue(0.25),
        optim.ClipPerParameter(0.4),
        optim.ClipAdaptive(0.1),
    ],
    ids=lambda clip: type(clip).__name__,
)


def parameter(values: Any, gradient: Any = None, name: str | None = None) -> nn.Parameter:
    """A float64 parameter with a gradient already there."""
    made = nn.Parameter(np.asarray(values, np.float64))
    made.name = name
    if gradient is not None:
        give(made, gradient)
    return made


def give(p: nn.Parameter, gradient: Any) -> None:
    """Leave a gradient as a backward pass does."""
    p.grad = tg.tensor(np.broadcast_to(np.asarray(gradient, p.dtype), p.shape), device=p.device)


def told(report: optim.StepReport) -> tuple[float, bool, bool]:
    return report.norm, report.clipped, report.skipped


def assert_same_state(a: dict[str, Any], b: dict[str, Any]) -> None:
    a, b = dict(a), dict(b)
    one, other = a.pop("arrays"), b.pop("arrays")
    assert a == b
    assert list(one) == list(other)
    for name in one:
        assert np.array_equal(one[name], other[name])
