"""The error surface of one unit: examples/cliff.py."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import optim, rnn


@pytest.mark.parametrize("steps", [3, 50])
@pytest.mark.parametrize("network", ["Elman", "LSTM"])
def test_each_row_is_a_network_of_one_unit(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, network: str, steps: int
) -> None:
    """Against the library's cells with one unit, their loop unrolled, and their gradients."""
    monkeypatch.setattr(program, "STEPS", steps)
    points = np.random.default_rng(0).uniform((0, -3), (6, 1), (5, 2))
    error, gradients = program.errors(network, *points.T, "cpu")
    assert error.shape == (5,)
    for k, (w, b) in enumerate(points):
        if network == "Elman":
            cell = rnn.RNNCell(1, 1, nonlinearity="sigmoid").to("float64")
        else:
            cell = rnn.LSTMCell(1, 1).to("float64")
        for parameter, value in ((cell.weight_hh, w), (cell.bias_ih, b), (cell.bias_hh, 0)):
            tg.nn.init.constant_(parameter, value)
        h = tg.full((1, 1), program.FIRST, "float64")
        state = h
        if network == "LSTM":
            state = rnn.LSTMState(h, tg.zeros((1, 1), "float64"))
            cell.bias_hh.data = tg.tensor([0.0, 1.0, 0.0, 0.0], dtype="float64")
        x = tg.zeros((program.STEPS, 1, 1), "float64")
        output, _ = rnn.Recurrent(cell, unroll=True)(x, state)
        tg.sum(tg.square(output[-1] - program.TARGET)).backward()
        np.testing.assert_allclose(error[k], (output[-1].item() - program.TARGET) ** 2, rtol=1e-10)
        expected = [cell.weight_hh.grad.numpy().sum(), cell.bias_ih.grad.numpy().sum()]
        np.testing.assert_allclose(gradients[k], expected, rtol=1e-8, atol=1e-14)


def test_the_wall(program: ModuleType) -> None:
    """It stands where h_0 is a resting point that repels: w h_0 + b = logit(h_0) = 0.5.

    There dh_50/db = d + d (w d) + ... + d (w d)^49 with d = h_0 (1 - h_0), and on its two sides h
    goes to resting points of its own.
    """
    w, h = 6.0, program.FIRST
    b, d = 0.5 - w * h, h * (1 - h)
    error, gradients = program.errors("Elman", [w] * 3, [b - 1e-3, b, b + 1e-3], "cpu")
    assert error[0] > 0.4
    assert error[2] < 0.05
    expected = 2 * (h - program.TARGET) * d * ((w * d) ** 50 - 1) / (w * d - 1)
    assert abs(expected) > 1e6
    np.testing.assert_allclose(gradients[1, 1], expected, rtol=1e-4)
    assert np.abs(gradients[[0, 2]]).max() < 1


@pytest.mark.parametrize("limit", [0.1, np.inf])
def test_descent_is_that_of_the_optimizer(program: ModuleType, limit: float) -> None:
    """Every row goes the way of optim.SGD, with ClipNorm where the norm is limited."""
    starts = np.array([[5.0, -2.2], [1.0, -4.0], [6.0, -2.85]])
    path = program.descend("Elman", starts, 0.5, limit, 8, "cpu")
    assert path.shape == (9, 3, 2)
    for k, (w, b) in enumerate(starts):
        units = program.ElmanUnits(w, b, "cpu")
        clip = optim.ClipNorm(limit) if np.isfinite(limit) else None
        optimizer = optim.SGD([units.w, units.b], lr=0.5, clip=clip)
        for _ in range(8):
            output, _ = rnn.Recurrent(units)(tg.zeros((program.STEPS, 1, 1), "float64"))
            optimizer.zero_grad()
            tg.sum(tg.square(output[-1] - program.TARGET)).backward()
            optimizer.step()
        np.testing.assert_allclose(path[-1, k], [units.w.item(), units.b.item()], rtol=1e-9)


def test_clipping_keeps_descent_from_jumping(program: ModuleType) -> None:
    """At the foot of the wall: thrown off the map without, at rest with it."""
    starts = np.array([[5.2, -2.75], [5.0, -2.2], [6.0, -2.9]])
    free = program.descend("Elman", starts, 1.0, np.inf, 150, "cpu")
    clipped = program.descend("Elman", starts, 1.0, 0.1, 150, "cpu")
    free, clipped = (program.judge("Elman", path, "cpu") for path in (free, clipped))
    assert free.jumped.any()
    assert free.longest.max() > 1
    assert not clipped.jumped.any()
    assert clipped.longest.max() <= 0.1
    assert clipped.settled.all()
    assert not clipped.left.any()
    np.testing.assert_array_equal(free.jumped, free.longest > 1)


def test_what_became_of_a_way(program: ModuleType) -> None:
    """A path that rests, one that leaves the map in one jump, one that goes to and fro."""
    path = np.tile([2.0, -1.0], (60, 3, 1))
    path[30:, 1] = [12.0, -1.0]
    path[::2, 2] = [2.0, 0.5]
    ways = program.judge("Elman", path, "cpu")
    np.testing.assert_array_equal(ways.jumped, [False, True, True])
    np.testing.assert_allclose(ways.longest, [0, 10, 1.5])
    np.testing.assert_array_equal(ways.left, [False, True, False])
    np.testing.assert_array_equal(ways.settled, [True, False, False])
    error, _ = program.errors("Elman", path[-1, :, 0], path[-1, :, 1], "cpu")
    np.testing.assert_array_equal(ways.error, error)


def test_the_map(program: ModuleType) -> None:
    found = program.survey("Elman", 5, "cpu")
    assert found.error.shape == found.slope.shape == (5, 5)
    np.testing.assert_array_equal(found.w[0], np.linspace(*program.W, 5))
    np.testing.assert_array_equal(found.b[:, 0], np.linspace(*program.B, 5))
    error, gradients = program.errors("Elman", [found.w[1, 3]], [found.b[1, 3]], "cpu")
    np.testing.assert_allclose(found.error[1, 3], error[0], rtol=1e-12)
    np.testing.assert_allclose(found.slope[1, 3], np.hypot(*gradients[0]), rtol=1e-12)


def test_a_device_that_is_not_there(main: Callable[..., None]) -> None:
    with pytest.raises(SystemExit, match=r"^cliff: device 'tpu' is unknown"):
        main("--device", "tpu")
