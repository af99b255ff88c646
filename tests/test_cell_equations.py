"""The equations of each cell: by hand in NumPy, in worked examples, and as cases of one another.

The LSTMs are in test_lstm_equations.py, Clockwork in test_clockwork.py, PyTorch's numbers in
test_parity.py, ONNX's in test_cells_onnx.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from equations import FUNCTIONS, by_hand, copied, same_over_time, sigmoid, values
from networks import close, draw, randomise, total

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn

pytestmark = pytest.mark.usefixtures("by_numpy")  # test_cells.py compiles them


# Elman


@pytest.mark.parametrize("name", FUNCTIONS)
def test_elman(name: str) -> None:
    f = FUNCTIONS[name]
    cell = randomise(rnn.RNNCell(3, 4, nonlinearity=name))
    p = values(cell)

    def step(x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        h = f(x @ p.weight_ih.T + p.bias_ih + state[0] @ p.weight_hh.T + p.bias_hh)
        return h, (h,)

    by_hand(cell, step)
    layer = rnn.RNN(3, 4, nonlinearity=name).to(np.float64)
    layer.load_state_dict({f"{k}_l0": v for k, v in cell.state_dict().items()})
    x = draw(5, 2, 3)
    close(layer(x)[0], rnn.Recurrent(cell)(x)[0], 1e-13)


def test_elman_with_any_function() -> None:
    one = randomise(rnn.RNNCell(3, 4, nonlinearity="leaky_relu"))
    same_over_time(one, randomise(rnn.RNNCell(3, 4, nonlinearity=lambda z: tg.leaky_relu(z, 0.01))))


def unit_weights(cell: Any) -> Any:
    for parameter in cell.parameters():
        nn.init.ones_(parameter)
    return rnn.Recurrent(cell)


@pytest.mark.parametrize(
    ("inputs", "expected"), [((1, 1, 2), [4, 12, 32]), ((2, 1, 1), [8, 20, 44])]
)
def test_elmans_worked_example(inputs: tuple[int, ...], expected: list[int]) -> None:
    """Two hidden units, two outputs, all weights 1, no bias, nothing but sums."""
    layer = unit_weights(rnn.RNNCell(2, 2, bias=False, nonlinearity="identity"))
    head = nn.Linear(2, 2, bias=False)
    nn.init.ones_(head.weight)
    y = head(layer(tg.tensor([[[x, x]] for x in inputs], np.float32))[0]).numpy()
    h, found = 0, []
    for x in inputs:
        h = 2 * x + 2 * h
        found.append(2 * h)
    assert y[:, 0, 0].tolist() == y[:, 0, 1].tolist() == found == expected


def test_irnn_is_elman_with_its_values() -> None:
    tg.manual_seed(0)
    cell = rnn.IRNNCell(30, 50, gain=0.7, std=0.02)
    p = values(cell)
    assert np.array_equal(p.weight_hh, 0.7 * np.eye(50, dtype=np.float32))
    assert not np.any(p.bias_ih)
    assert not np.any(p.bias_hh)
    assert p.weight_ih.std() == pytest.approx(0.02, rel=0.05)
    assert np.abs(p.weight_ih).max() > 2.5 * 0.02  # normal, not uniform
    assert values(rnn.IRNNCell(30, 50)).weight_ih.std() == pytest.approx(0.001, rel=0.05)
    assert np.array_equal(values(rnn.IRNNCell(3, 4)).weight_hh, np.eye(4))
    assert set(rnn.IRNNCell(3, 4, bias=False).state_dict()) == {"weight_ih", "weight_hh"}
    elman = rnn.RNNCell(30, 50, nonlinearity="relu")
    elman.load_state_dict(cell.state_dict())
    x = draw(6, 2, 30).to(np.float32)
    assert np.array_equal(rnn.Recurrent(cell)(x)[0].numpy(), rnn.Recurrent(elman)(x)[0].numpy())


def test_irnn_holds_its_state_and_its_gradient() -> None:
    """With nothing coming in: over 1,000 steps, exactly, at the start."""
    start = tg.tensor(np.abs(draw(2, 4).numpy()).astype(np.float32), requires_grad=True)
    _, last = rnn.Recurrent(rnn.IRNNCell(3, 4))(tg.zeros((1000, 2, 3)), start)
    last.sum().backward()
    assert np.array_equal(last.numpy(), start.numpy())
    assert np.array_equal(start.grad.numpy(), np.ones((2, 4)))


# Jordan


def test_jordans_worked_example() -> None:
    cell = rnn.JordanCell(2, 2, 2, bias=False, nonlinearity="identity")
    y = unit_weights(cell)(tg.tensor([[[x, x]] for x in (1, 1, 2)], np.float32))[0].numpy()
    fed, expected = 0, []
    for x in (1, 1, 2):
        h = 2 * x + 2 * fed
        fed = 2 * h
        expected.append(fed)
    assert y[:, 0, 0].tolist() == y[:, 0, 1].tolist() == expected == [4, 20, 88]


@pytest.mark.parametrize("decay", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("teacher_forcing", [False, True])
def test_jordan(decay: float, teacher_forcing: bool) -> None:
    cell = randomise(
        rnn.JordanCell(3, 4, 2, True, "relu", "sigmoid", decay, teacher_forcing=teacher_forcing)
    )
    p = values(cell)

    def step(x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        (s,) = state
        h = np.maximum(x[:, :3] @ p.weight_ih.T + s @ p.weight_sh.T + p.bias_h, 0)
        y = sigmoid(h @ p.weight_hy.T + p.bias_y)
        return y, (decay * s + (x[:, 3:] if teacher_forcing else y),)

    by_hand(cell, step)


def test_a_taught_jordan_network_is_a_feed_forward_one() -> None:
    """On (x_t, y*_{t-1}): outputs and gradients; no step waits for another."""
    cell = randomise(rnn.JordanCell(3, 4, 2, teacher_forcing=True))
    net = nn.Sequential(nn.Linear(5, 4), tg.tanh, nn.Linear(4, 2)).to(np.float64)
    p = values(cell)
    net.load_state_dict(
        {
            "layers.0.weight": np.concatenate([p.weight_ih, p.weight_sh], axis=1),
            "layers.0.bias": p.bias_h,
            "layers.2.weight": p.weight_hy,
            "layers.2.bias": p.bias_y,
        }
    )
    x, target = draw(6, 2, 3, requires_grad=True), draw(6, 2, 2, seed=2)
    before = tg.concat([tg.zeros((1, 2, 2), np.float64), target[:-1]])
    want = net(tg.concat([x, before], axis=-1))
    total(want - target).backward()
    expected = x.grad.numpy().copy()
    x.grad = None
    y, last = rnn.Recurrent(cell)(tg.concat([x, target], axis=-1))
    total(y - target).backward()
    close(y, want, 1e-12)
    close(last, target[-1], 0)
    close(x.grad, expected, 1e-12)
    first = net.layers[0].weight.grad.numpy()
    close(cell.weight_ih.grad, first[:, :3], 1e-12)
    close(cell.weight_sh.grad, first[:, 3:], 1e-12)
    close(cell.weight_hy.grad, net.layers[2].weight.grad, 1e-12)
    x.grad = None
    total(rnn.Recurrent(cell)(tg.concat([x, target], axis=-1))[0][3]).backward()
    assert np.any(x.grad.numpy() != 0, axis=(1, 2)).tolist() == [t == 3 for t in range(6)]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_jordan_network_taught_its_own_outputs_runs_freely(reverse: bool) -> None:
    cell = randomise(rnn.JordanCell(3, 4, 2, output="sigmoid", decay=0.4))
    layer = rnn.Recurrent(cell, reverse=reverse)
    x = draw(6, 3, 3)
    free, state = layer(x, lengths=[4, 6, 1])
    cell.teacher_forcing = True
    taught, other = layer(tg.concat([x, free], axis=-1), lengths=[4, 6, 1])
    close(taught, free, 1e-12)
    close(other, state, 1e-12)
    other_outputs, _ = layer(tg.concat([x, free + 1], axis=-1), lengths=[4, 6, 1])
    assert not np.allclose(other_outputs.numpy(), free.numpy())
    cell.teacher_forcing = False
    close(layer(x, lengths=[4, 6, 1])[0], free, 0)


def test_what_a_softmax_was_made_of() -> None:
    cell = randomise(rnn.JordanCell(3, 4, 5, output=tg.softmax))
    y, _, inner = rnn.Recurrent(cell)(draw(6, 2, 3), record=["a"])
    close(y.numpy().sum(axis=-1), np.ones((6, 2)))
    close(tg.softmax(inner["a"]), y, 1e-13)


# GRU


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reset", ["after", "before"])
def test_gru(reset: str, bias: bool) -> None:
    cell = randomise(rnn.GRUCell(3, 4, bias, reset=reset))
    p = values(cell)
    b, d = (p.bias_ih, p.bias_hh) if bias else (np.zeros(12), np.zeros(12))

    def step(x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        (h,) = state
        x_r, x_z, x_n = np.split(x @ p.weight_ih.T + b, 3, axis=1)
        h_r, h_z, h_n = np.split(h @ p.weight_hh.T + d, 3, axis=1)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        inner = r * h_n if reset == "after" else (r * h) @ p.weight_hh[8:].T + d[8:]
        h = (1 - z) * np.tanh(x_n + inner) + z * h
        return h, (h,)

    by_hand(cell, step)


def test_simplified_gru_by_hand() -> None:
    cell = randomise(rnn.SimplifiedGRUCell(3, 4))
    p = values(cell)

    def step(x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        (h,) = state
        z = x @ p.weight_ih.T + p.bias_ih + h @ p.weight_hh.T + p.bias_hh
        u, n = sigmoid(z[:, :4]), np.tanh(z[:, 4:])
        h = u * n + (1 - u) * h
        return h, (h,)

    by_hand(cell, step)


def test_simplified_gru_is_a_gru() -> None:
    """With r = 1 and z = 1 - u."""
    cell = randomise(rnn.SimplifiedGRUCell(3, 4))
    held = {}
    for name, array in cell.state_dict().items():
        u, n = np.split(array, 2)
        r = np.full_like(u, 1000.0 if name == "bias_ih" else 0.0)
        held[name] = np.concatenate([r, -u, n])
    for reset in ("after", "before"):
        same_over_time(cell, copied(rnn.GRUCell(3, 4, reset=reset), **held))


def updating(*gates: float) -> Any:
    """A simplified GRU whose update gates are what they are, and whose candidates begin at 0."""
    cell = rnn.SimplifiedGRUCell(3, len(gates)).to(np.float64)
    for parameter in cell.parameters():
        nn.init.zeros_(parameter)
    u = np.array(gates)
    with np.errstate(divide="ignore"):
        logits = np.clip(np.log(u) - np.log1p(-u), -800, 800)
    p = cell.state_dict()
    p["bias_ih"][: len(gates)] = logits
    cell.load_state_dict(p)
    return cell


def test_what_an_update_gate_keeps() -> None:
    h = draw(2, 4)
    x = tg.zeros((1000, 2, 3), np.float64)
    _, kept = rnn.Recurrent(updating(0, 0, 0, 0))(x, h)
    assert np.array_equal(kept.numpy(), h.numpy())
    _, kept = rnn.Recurrent(updating(*[1e-6] * 4))(x, h)
    close(kept.numpy() / h.numpy(), np.full((2, 4), (1 - 1e-6) ** 1000), 1e-12)
    np.testing.assert_allclose(kept.numpy() / h.numpy(), 0.999, atol=1e-6)


def test_an_update_gate_writes_where_it_is_open() -> None:
    cell = updating(1, 0, 0, 0)
    p = cell.state_dict()
    p["weight_ih"][4:] = draw(4, 3, seed=5).numpy()
    cell.load_state_dict(p)
    x, h = draw(2, 3), draw(2, 4, seed=2)
    _, after = cell(x, h)
    assert np.array_equal(after.numpy()[:, 1:], h.numpy()[:, 1:])
    close(after[:, 0], np.tanh(x.numpy() @ p["weight_ih"][4]), 1e-13)


# SCRN


@pytest.mark.parametrize("learned", [False, True])
def test_scrn_by_hand(learned: bool) -> None:
    cell = randomise(rnn.SCRNCell(3, 4, 2, decay=0.8, learned=learned))
    p = values(cell)
    a = sigmoid(p.decay_logit) if learned else 0.8
    assert cell.output_size == 6

    def step(x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        h, k = state
        k = (1 - a) * (x @ p.weight_ik.T) + a * k
        h = sigmoid(k @ p.weight_kh.T + x @ p.weight_ih.T + h @ p.weight_hh.T)
        return np.concatenate([h, k], axis=1), (h, k)

    by_hand(cell, step)


def test_a_context_that_keeps_everything() -> None:
    cell = randomise(rnn.SCRNCell(3, 4, 2, decay=1))
    k = draw(2, 2, seed=2)
    _, last = rnn.Recurrent(cell)(draw(100, 2, 3), (draw(2, 4), k))
    assert np.array_equal(last.k.numpy(), k.numpy())


def test_a_learned_decay_begins_where_it_is_told() -> None:
    tg.manual_seed(0)
    fixed = rnn.SCRNCell(3, 4, 2, decay=0.8)
    tg.manual_seed(0)
    learned = rnn.SCRNCell(3, 4, 2, decay=0.8, learned=True)
    x = draw(6, 2, 3).to(np.float32)
    y, _ = rnn.Recurrent(learned)(x)
    np.testing.assert_allclose(y.numpy(), rnn.Recurrent(fixed)(x)[0].numpy(), atol=1e-6)
    total(y).backward()
    assert np.all(learned.decay_logit.grad.numpy() != 0)


# Layer normalisation


def normalised(v: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = v - v.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * weight + bias


def test_layer_norm_in_elman() -> None:
    cell = randomise(rnn.LayerNormRNNCell(3, 4, nonlinearity="sigmoid"))
    p = values(cell)

    def step(x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        h = sigmoid(
            normalised(x @ p.weight_ih.T, p.norm_ih_weight, p.norm_ih_bias)
            + normalised(state[0] @ p.weight_hh.T, p.norm_hh_weight, p.norm_hh_bias)
        )
        return h, (h,)

    by_hand(cell, step)


def test_layer_norm_in_an_lstm() -> None:
    cell = randomise(rnn.LayerNormLSTMCell(3, 4))
    p = values(cell)

    def step(x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        h, c = state
        z = normalised(x @ p.weight_ih.T, p.norm_ih_weight, p.norm_ih_bias)
        z = z + normalised(h @ p.weight_hh.T, p.norm_hh_weight, p.norm_hh_bias)
        i, f, g, o = np.split(z, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(normalised(c, p.norm_c_weight, p.norm_c_bias))
        return h, (h, c)

    by_hand(cell, step)


def test_layer_norm_in_a_gru() -> None:
    cell = randomise(rnn.LayerNormGRUCell(3, 4))
    p = values(cell)

    def step(x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        (h,) = state
        a, e = x @ p.weight_ih.T, h @ p.weight_hh.T
        gates = normalised(a[:, :8], p.norm_ih_weight, p.norm_ih_bias)
        gates = sigmoid(gates + normalised(e[:, :8], p.norm_hh_weight, p.norm_hh_bias))
        r, z = gates[:, :4], gates[:, 4:]
        inner = normalised(e[:, 8:], p.norm_hn_weight, p.norm_hn_bias)
        n = np.tanh(normalised(a[:, 8:], p.norm_in_weight, p.norm_in_bias) + r * inner)
        h = (1 - z) * n + z * h
        return h, (h,)

    by_hand(cell, step)


@pytest.mark.parametrize(
    "make", [rnn.LayerNormRNNCell, rnn.LayerNormLSTMCell, rnn.LayerNormGRUCell]
)
def test_a_norm_forgets_the_size_of_the_inputs(make: Any) -> None:
    """And its gains begin at 1, its biases at 0, or are not there."""
    cell = make(3, 4)
    for name, array in cell.state_dict().items():
        if name.startswith("norm"):
            assert np.all(array == name.endswith("weight")), name
    assert not any(name.endswith("bias") for name in make(3, 4, bias=False).state_dict())
    randomise(cell)
    x = 10 * draw(4, 2, 3)
    y = rnn.Recurrent(cell)(x)[0].numpy()
    np.testing.assert_allclose(rnn.Recurrent(cell)(10 * x)[0].numpy(), y, atol=1e-4)
