"""Bad input to optim/, in one table: each is refused in one sentence that names the optimizer, says
what came and what was expected.
"""

# Calls that a type checker refuses too are the point of this file.
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refusals import Refusal, assert_refused, each

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim


def trainable() -> list[nn.Parameter]:
    return [nn.Parameter([1.0])]


CASES: list[Refusal] = [
    # Optimizers
    (lambda: optim.SGD([]), ValueError, "SGD: there are no parameters"),
    (
        lambda: optim.SGD(nn.Linear(2, 2)),
        TypeError,
        "SGD: expected an iterable of Parameters such as model.parameters(), got Linear",
    ),
    (
        lambda: optim.Adam(nn.Parameter([1.0])),
        TypeError,
        "Adam: expected an iterable of Parameters such as model.parameters(), got Parameter",
    ),
    (lambda: optim.Adam([tg.ones(2)]), TypeError, "Adam: expected Parameters, got Tensor"),
    (
        lambda: optim.Adam(nn.Linear(2, 2).named_parameters()),
        TypeError,
        "Adam: expected Parameters, got tuple",
    ),
    (lambda: optim.SGD(trainable() * 2), ValueError, "SGD: a parameter is given twice"),
    (
        lambda: optim.SGD(trainable(), lr=-1),
        ValueError,
        "SGD: lr must be a finite number >= 0, got -1",
    ),
    (
        lambda: optim.SGD(trainable(), lr="0.1"),
        ValueError,
        "SGD: lr must be a finite number >= 0, got '0.1'",
    ),
    (
        lambda: optim.Adam(trainable(), lr=float("nan")),
        ValueError,
        "Adam: lr must be a finite number >= 0, got nan",
    ),
    (
        lambda: optim.SGD(trainable(), momentum=1),
        ValueError,
        "SGD: momentum must satisfy 0 <= momentum < 1, got 1",
    ),
    (
        lambda: optim.SGD(trainable(), nesterov=True),
        ValueError,
        "SGD: nesterov needs a momentum",
    ),
    (
        lambda: optim.SGD(trainable(), weight_decay=-1),
        ValueError,
        "SGD: weight_decay must be a finite number >= 0, got -1",
    ),
    (
        lambda: optim.Adam(trainable(), betas=(0.9, 1.0)),
        ValueError,
        "Adam: betas must be two numbers 0 <= beta < 1, got (0.9, 1.0)",
    ),
    (
        lambda: optim.Adam(trainable(), betas=0.9),
        ValueError,
        "Adam: betas must be two numbers 0 <= beta < 1, got 0.9",
    ),
    (
        lambda: optim.Adam(trainable(), eps=0),
        ValueError,
        "Adam: eps must be a finite number > 0, got 0",
    ),
    (
        lambda: optim.Adam(trainable(), clip=1.0),
        TypeError,
        "Adam: clip must be ClipNorm(...) or another Clip, got 1.0",
    ),
    (
        lambda: optim.Adam(trainable(), nonfinite="ignore"),
        ValueError,
        "Adam: nonfinite must be 'raise', 'skip' or 'zero', got 'ignore'",
    ),
    (
        lambda: optim.ClipNorm(0),
        ValueError,
        "ClipNorm: max_norm must be a finite number > 0, got 0",
    ),
    (
        lambda: optim.ClipValue(float("nan")),
        ValueError,
        "ClipValue: limit must be a finite number > 0, got nan",
    ),
    # Groups, clips and schedules
    (lambda: optim.SGD([{"lr": 0.1}]), ValueError, "SGD, group 0: there is no 'params' in it"),
    (lambda: optim.SGD([{"params": []}]), ValueError, "SGD, group 0: there are no parameters"),
    (
        lambda: optim.SGD([{"params": trainable(), "learning_rate": 0.1}]),
        ValueError,
        "SGD, group 0: 'learning_rate' is unknown; a group has params, lr, momentum, nesterov, "
        "weight_decay, l1",
    ),
    (
        lambda: optim.SGD([{"params": trainable()}, *trainable()]),
        TypeError,
        "SGD, group 1: expected a dict as the other groups, got Parameter",
    ),
    (
        lambda: optim.Adam([{"params": nn.Parameter([1.0])}]),
        TypeError,
        "Adam, group 0: expected an iterable of Parameters such as model.parameters(), got "
        "Parameter",
    ),
    (
        lambda: optim.Adam([{"params": p} for p in [trainable()] * 2]),
        ValueError,
        "Adam, group 1: parameter (1,) is in group 0 already",
    ),
    (
        lambda: optim.Adam({"params": trainable()}),
        TypeError,
        "Adam: expected Parameters, got str",
    ),
    (
        lambda: optim.Adam([{"params": trainable()}, {"params": trainable(), "lr": -1}]),
        ValueError,
        "Adam, group 1: lr must be a finite number >= 0, got -1",
    ),
    (
        lambda: setattr(optim.SGD(trainable()).groups[0], "rate", 1),
        AttributeError,
        "SGD: a group has no 'rate' to assign; it has lr, momentum, nesterov, weight_decay, l1, "
        "initial_lr",
    ),
    (
        lambda: optim.SGD(trainable(), l1=-1),
        ValueError,
        "SGD: l1 must be a finite number >= 0, got -1",
    ),
    (
        lambda: optim.RMSprop(trainable(), alpha=1),
        ValueError,
        "RMSprop: alpha must satisfy 0 <= alpha < 1, got 1",
    ),
    (
        lambda: optim.Adagrad(trainable(), initial_accumulator_value=-1),
        ValueError,
        "Adagrad: initial_accumulator_value must be a finite number >= 0, got -1",
    ),
    (
        lambda: optim.Adadelta(trainable(), rho=1.5),
        ValueError,
        "Adadelta: rho must satisfy 0 <= rho < 1, got 1.5",
    ),
    (
        lambda: optim.ClipPerParameter(-1),
        ValueError,
        "ClipPerParameter: max_norm must be a finite number > 0, got -1",
    ),
    (
        lambda: optim.ClipAdaptive(0.01, eps=0),
        ValueError,
        "ClipAdaptive: eps must be a finite number > 0, got 0",
    ),
    (
        lambda: optim.schedules.Step(0.1, every=0),
        ValueError,
        "Step: every must be a positive integer, got 0",
    ),
    (
        lambda: optim.schedules.Cosine(-0.1, 10),
        ValueError,
        "Cosine: lr must be a finite number >= 0, got -0.1",
    ),
    (
        lambda: optim.schedules.WarmUp("cosine", 10),
        TypeError,
        "WarmUp: expected a schedule or a function of the number of updates, got 'cosine'",
    ),
    (
        lambda: optim.schedules.Plateau(0.1, mode="least"),
        ValueError,
        "Plateau: mode must be 'min' or 'max', got 'least'",
    ),
    (
        lambda: optim.schedules.Plateau(0.1, factor=1),
        ValueError,
        "Plateau: factor must satisfy 0 <= factor < 1, got 1",
    ),
    (
        lambda: optim.schedules.Plateau(0.1).load_state_dict({"step": 1}),
        ValueError,
        "Plateau.load_state_dict: this is the state of another schedule, they differ in ['bad', "
        "'best', 'cooling', 'rate', 'step']",
    ),
    (
        lambda: optim.clip_grad_norm(nn.Parameter([1.0]), 1.0),
        TypeError,
        "clip_grad_norm: expected an iterable of Parameters such as model.parameters(), got "
        "Parameter",
    ),
]


@each(CASES)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    assert_refused(call, error, message)
