"""Gradients that vanish and explode: examples/vanishing.py."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import rnn


@pytest.mark.parametrize(
    ("w", "shown"),
    [(0.01, "0 0"), (0.99, "4.4e-05 0.044"), (1.0, "1 1e+03"), (1.01, "2.1e+04 2.1e+07")],
)  # fmt: skip
def test_powers(program: ModuleType, w: float, shown: str) -> None:
    value, gradient = program.power(w, 999)
    np.testing.assert_allclose([value, gradient], [w**999, 999 * w**998], rtol=1e-11)
    assert f"{value:.2g} {gradient:.2g}" == shown


def test_the_power_of_1_01(program: ModuleType) -> None:
    assert f"{program.power(1.01, 999)[0]:,.1f}" == "20,751.6"


def test_a_chain_of_sigmoids(program: ModuleType) -> None:
    """Against the chain rule by hand: dy3/db1 = (y1 (1 - y1)) (y2 (1 - y2)) (y3 (1 - y3))."""
    ys, gradient = program.chain_of_sigmoids()
    expected = [1 / (1 + np.exp(-0.0))]
    for _ in range(2):
        expected.append(1 / (1 + np.exp(-expected[-1])))
    np.testing.assert_allclose(ys, expected, rtol=1e-14)
    np.testing.assert_allclose(gradient, np.prod([y * (1 - y) for y in expected]), rtol=1e-14)
    assert [f"{y:.4f}" for y in ys] == ["0.5000", "0.6225", "0.6508"]
    assert f"{gradient:.5f}" == "0.01335"


def test_remedies(program: ModuleType) -> None:
    """What the tables claim of the first layer's share, and that the last one's is its own."""
    tg.manual_seed(3)
    first = {}
    for remedy in program.REMEDIES:
        found = program.gradient_by_layer(remedy, "cpu")
        assert found.shape == (program.DEPTH + 1,)
        first[remedy.name] = found[0] / found[-1]
    assert first["sigmoid"] < 1e-20
    assert first["sigmoid"] < first["sigmoid, Xavier"] < first["sigmoid, layer norm"] < 1e-8
    assert first["relu"] < 1e-8
    for name in ("sigmoid, skips", "tanh, Xavier", "relu, He", "leaky relu, He"):
        assert 0.01 < first[name] < 100


def test_growth(program: ModuleType) -> None:
    """One shared matrix ends in the powers of its largest eigenvalue, independent ones do not."""
    shared, apart = [], []
    for seed in range(8):
        tg.manual_seed(seed)
        shared.append(program.growth(True, 1.0, "cpu"))
        apart.append(program.growth(False, 1.0, "cpu"))
    assert np.shape(shared) == (8, program.LAYERS + 1)
    np.testing.assert_array_equal(np.array(shared)[:, 0], 1)
    spreads = [np.std(np.log([run[-1] for run in runs])) for runs in (shared, apart)]
    assert spreads[0] > 2 * spreads[1]


@pytest.mark.parametrize("name", ["Elman", "LSTM, f = sig(5)", "GRU"])
def test_contributions_of_steps(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """They sum to dL/dW, and each is what a copy of W for that step alone gets as its gradient."""
    monkeypatch.setattr(program, "T", 6)
    tg.manual_seed(0)
    cell = program.CELLS[name]()
    tg.manual_seed(1)
    found = program.through_time(cell, "cpu")
    assert found.missing < 1e-13

    tg.manual_seed(1)  # the same x and v again
    x = tg.randn(6, program.B, program.I, dtype="float64")
    v = tg.randn(program.B, program.H, dtype="float64")
    shared, copies, states = cell.weight_hh, [], []
    state = cell.initial_state(program.B)
    for t in range(6):
        cell.weight_hh = tg.nn.Parameter(shared.detach())
        copies.append(cell.weight_hh)
        _, state = cell.step(x[t], state)
        states.append(program.fields(state)[0])
        states[-1].retain_grad()
    tg.sum(v * states[-1]).backward()
    norms = [np.linalg.norm(copy.grad.numpy()) for copy in copies]
    np.testing.assert_allclose(found.weight, norms, rtol=1e-12)
    norms = [np.linalg.norm(h.grad.numpy()) for h in states]
    np.testing.assert_allclose(found.state, norms, rtol=1e-12)


def test_the_cell_path_is_the_product_of_the_forget_gates(program: ModuleType) -> None:
    """With h detached dc_T/dc_0 is prod f, which the replayed loop finds as well."""
    tg.manual_seed(4)
    cell = program.CellPath(program.I, program.H).to("float64")
    cell.weight_hh.data = 5 * cell.weight_hh.detach()
    x = tg.randn(12, 1, program.I, dtype="float64")
    v = tg.randn(1, program.H, dtype="float64")
    found = program.first_gradient(cell, x, v)
    _, _, inner = rnn.Recurrent(cell)(x, record=["f"])
    np.testing.assert_allclose(found, v.numpy() * np.prod(inner["f"].numpy(), axis=0), rtol=1e-12)
    whole = rnn.LSTMCell(program.I, program.H).to("float64")
    whole.load_state_dict(cell.state_dict())
    assert not np.allclose(program.first_gradient(whole, x, v), found)


def test_what_explodes(program: ModuleType) -> None:
    """The cell path cannot: f is below 1. The others can, and all paths are their sum."""
    tg.manual_seed(5)
    small, large = program.growths(1.0, "cpu"), program.growths(16.0, "cpu")
    for found in (small, large):
        for name in program.LSTMS:
            assert found[f"{name}: cell path"] < 1
            parts = found[f"{name}: cell path"], found[f"{name}: other paths"]
            assert abs(parts[1] - parts[0]) <= found[name] * (1 + 1e-9)
            assert found[name] <= sum(parts) * (1 + 1e-9)
    assert small["Elman"] < 1e-10
    assert large["Elman"] > program.EXPLODED
    assert large["LSTM: other paths"] > program.EXPLODED


def test_a_device_that_is_not_there(main: Callable[..., None]) -> None:
    with pytest.raises(SystemExit, match=r"^vanishing: device 'tpu' is unknown"):
        main("--device", "tpu")
