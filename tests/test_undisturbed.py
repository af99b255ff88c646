"""Functions of the lab leave a model as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn


class Keeps(nn.Module):
    """A model that remembers things of its own from call to call."""

    def __init__(self) -> None:
        self.layer = rnn.GRU(3, 4)
        self.calls = 0
        self.state: Any = None

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        self.calls += 1
        self.last = x
        y, self.state = self.layer(x, self.state)
        return y


QUESTIONS: dict[str, Callable[[Keeps, tg.Tensor], Any]] = {
    "summary": lab.summary,
    "stages": lab.stages,
    "units": lab.units,
    "gradient_flow": lambda model, x: lab.gradient_flow(model, lambda: tg.sum(model(x))),
    "contributions": lambda model, x: lab.contributions(
        model, lambda: tg.sum(model(x)), "layer.weight_hh_l0", norms=True
    ),
    "surface": lambda model, x: lab.surface(
        lambda: tg.sum(model(x)), model, lab.random_directions(model, 1), points=3
    ),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_a_model_keeps_is_left_as_it_was(name: str) -> None:
    model, x = Keeps(), tg.randn(5, 2, 3)
    before = vars(model).copy()
    QUESTIONS[name](model, x)
    assert vars(model) == before


def test_every_point_of_a_surface_begins_with_the_same_state() -> None:
    model, x = Keeps(), tg.randn(5, 2, 3)
    still = {name: 0.0 * p.numpy() for name, p in model.named_parameters()}
    found = lab.surface(lambda: tg.sum(model(x)), model, [still], points=4)
    assert (found.loss == tg.sum(model(x)).item()).all()
