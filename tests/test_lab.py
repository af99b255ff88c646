"""Anomalies are found at the operation and the time step where they begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import draw, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import lab, rnn

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def test_the_operation_and_the_line_are_named() -> None:
    x = tg.tensor([1.0, -1.0], requires_grad=True)
    where = r"^log: gives nan of finite operands \(.*test_lab\.py:\d+\)\n"
    with pytest.raises(lab.AnomalyError, match=where), lab.detect_anomaly():
        tg.log(x)


def test_what_was_not_finite_before_is_said_to_have_been_so() -> None:
    x = tg.tensor([np.nan])
    here = r"^the variable x of test_what_\w+ holds nan: .*\n  read first by add \(.*test_lab\.py"
    with pytest.raises(lab.AnomalyError, match=here), lab.detect_anomaly():
        assert np.isnan((x + 1.0).numpy()).all()


def test_a_gradient_is_found_backwards() -> None:
    x = tg.tensor([0.0, 1.0], requires_grad=True)
    with (
        pytest.raises(lab.AnomalyError, match=r"^sqrt, backwards: its gradient rule"),
        lab.detect_anomaly(),
    ):
        tg.sqrt(x).sum().backward()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("jit", [False, True])
def test_inside_a_replayed_loop_the_step_is_named(reverse: bool, jit: bool) -> None:
    def step(x: Any, h: Any) -> Any:
        return h, 0.5 * h + tg.log(x)

    xs = np.ones(6)
    xs[3] = -1.0
    with (
        pytest.raises(lab.AnomalyError, match=r"^log in a replayed loop, time step 3: gives nan"),
        lab.detect_anomaly(),
        tg.replay.using(jit=jit),
    ):
        tg.scan(
            lambda x, h: (h, 0.5 * h + tg.log(x)),
            tg.tensor(xs),
            tg.tensor(np.ones(())),
            reverse=reverse,
        )


def test_backwards_inside_a_replayed_loop() -> None:
    start = tg.tensor(0.0, requires_grad=True)
    ys, _ = tg.scan(lambda x, h: (h, tg.sqrt(h) + x), tg.zeros(3), start)
    total = ys.sum()
    where = r"^sqrt in a replayed loop, backwards, time step 1: "
    with pytest.raises(lab.AnomalyError, match=where), lab.detect_anomaly():
        total.backward()


def test_a_sound_network_passes() -> None:
    layer: Any = randomise(rnn.LSTM(3, 4, 2, bidirectional=True))
    with lab.detect_anomaly():
        y, _ = layer(draw(5, 2, 3, requires_grad=True), lengths=[5, 3])
        y.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


class Logarithm(rnn.Cell):
    """h_t = sqrt(log(x_t) + h_{t-1}): goes wrong forward where x < 0, and backward at 0."""

    def __init__(self) -> None:
        self.input_size = self.hidden_size = 3
        self.scale = tg.nn.Parameter(np.ones(3))

    def step(self, x: Any, h: Any) -> Any:
        a = tg.log(x * self.scale)
        return tg.sqrt(a + h), tg.sqrt(a + h)


def where(text: str) -> int:
    """The line of this file that begins with a text."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(k for k, line in enumerate(lines, 1) if line.strip().startswith(text))


@pytest.mark.parametrize("unroll", [True, False])
def test_layer_step_direction_and_line_are_named(unroll: bool) -> None:
    """Forward and backward, in the second level of a stack in both directions."""
    inside = "" if unroll else " in a replayed loop"
    both = [rnn.Recurrent(Logarithm(), unroll=unroll) for _ in "ab"]
    model = rnn.Stacked([rnn.Bidirectional(*both, merge=lambda y, z: z)])
    x = tg.tensor(np.full((5, 2, 3), 2.0), requires_grad=True)
    with lab.detect_anomaly():
        model(x)[0].sum().backward()
    values = x.numpy().copy()
    values[1, 1, 2] = -1.0
    with pytest.raises(lab.AnomalyError) as forward, lab.detect_anomaly():
        model.layers[0].backward_layer(tg.tensor(values), reverse=True)
    assert str(forward.value) == (
        f"log{inside}, time step 1: gives nan of finite operands "
        f"(cell, reversed, {__file__}:{where('a = tg.log')})\n"
        "  result: float64 (2, 3) 1 of 6 nan, else 0.6931; the first at [1, 2]\n"
        "  operands: float64 (2, 3) from -1 to 2\n"
        "  hint: log of a number below 0 is nan: what is to keep it positive? tg.exp or "
        "tg.softplus do"
    )
    values[1, 1, 2], values[4, 1, 2] = 2.0, 1.0
    backwards = f"{inside}, backwards"
    with pytest.raises(lab.AnomalyError) as backward, lab.detect_anomaly():
        model(tg.tensor(values, requires_grad=True))[0].sum().backward()
    assert str(backward.value) == (
        f"sqrt{backwards}, time step 4: its gradient rule gives inf of finite operands "
        f"(layers.0.backward_layer.cell, reversed, {__file__}:{where('return tg.sqrt')})\n"
        "  gradient: float64 (2, 3) 1 of 6 inf, else 0.3713; the first at [1, 2]\n"
        "  operands: float64 (2, 3) from 0 to 0.6931; gradient float64 (2, 3) "
        "from 0.6183 to 0.9615\n"
        "  hint: the derivative of sqrt at 0 is infinite: tg.sqrt(x + 1e-12); a root of a sum of "
        "squares is tg.norm, whose gradient at 0 is 0"
    )


def test_a_loop_that_was_made_while_nobody_looked() -> None:
    layer = rnn.Recurrent(Logarithm())
    y, _ = layer(tg.tensor(np.ones((3, 1, 3))))
    step = r"^sqrt in a replayed loop, backwards, time step \d: .*test_lab\.py:\d+\)\n"
    with pytest.raises(lab.AnomalyError, match=step), lab.detect_anomaly():
        y.sum().backward()
