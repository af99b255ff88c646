"""Anomalies are found at the operation and the time step where they begin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import draw, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import lab, rnn

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def test_the_operation_and_the_line_are_named() -> None:
    x = tg.tensor([1.0, -1.0], requires_grad=True)
    where = r"^log: the result .*test_lab\.py:\d+"
    with pytest.raises(lab.AnomalyError, match=where), lab.detect_anomaly():
        tg.log(x)


def test_what_was_not_finite_before_is_not_blamed() -> None:
    with lab.detect_anomaly():
        assert np.isnan((tg.tensor([np.nan]) + 1.0).numpy()).all()


def test_a_gradient_is_found_backwards() -> None:
    x = tg.tensor([0.0, 1.0], requires_grad=True)
    with pytest.raises(lab.AnomalyError, match=r"^sqrt: its gradient rule"), lab.detect_anomaly():
        tg.sqrt(x).sum().backward()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("jit", [False, True])
def test_inside_a_replayed_loop_the_step_is_named(reverse: bool, jit: bool) -> None:
    def step(x: Any, h: Any) -> Any:
        return h, 0.5 * h + tg.log(x)

    xs = np.ones(6)
    xs[3] = -1.0
    with (
        pytest.raises(lab.AnomalyError, match=r"^log in a replayed loop, time step 3: the result"),
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
    where = r"^sqrt in a replayed loop, backwards"
    with pytest.raises(lab.AnomalyError, match=where), lab.detect_anomaly():
        total.backward()


def test_a_sound_network_passes() -> None:
    layer: Any = randomise(rnn.LSTM(3, 4, 2, bidirectional=True))
    with lab.detect_anomaly():
        y, _ = layer(draw(5, 2, 3, requires_grad=True), lengths=[5, 3])
        y.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
