"""The equations of the LSTMs: by hand in NumPy, in worked examples, and as cases of one another."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from equations import FUNCTIONS, by_hand, copied, same_over_time, sigmoid, values
from networks import close, draw, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn

pytestmark = pytest.mark.usefixtures("by_numpy")  # test_cells.py compiles them


def test_lstms_worked_example() -> None:
    """One cell whose gates follow the second and the third input, and whose functions are none."""
    cell = rnn.LSTMCell(3, 1, activation="identity", output_activation="identity")
    gates = {"i": (0, 100, 0, -10), "f": (0, 100, 0, 10), "g": (1, 0, 0, 0), "o": (0, 0, 100, -10)}
    table = np.array(list(gates.values()), float)
    copied(
        cell,
        weight_ih=table[:, :3],
        weight_hh=np.zeros((4, 1)),
        bias_ih=table[:, 3],
        bias_hh=np.zeros(4),
    )
    inputs = [(3, 1, 0), (4, 1, 0), (2, 0, 0), (1, 0, 1), (3, -1, 0)]
    y, _, inner = rnn.Recurrent(cell)(
        tg.tensor(np.array(inputs, float)[:, None]), record=["c", "i", "f"]
    )
    c, cs, hs = 0, [], []
    for value, gate, out in inputs:
        c = {1: c + value, 0: c, -1: 0}[gate]
        cs.append(c)
        hs.append(c if out else 0)
    assert (cs, hs) == ([3, 7, 7, 7, 0], [0, 0, 0, 7, 0])
    np.testing.assert_allclose(inner["c"].numpy()[:, 0, 0], cs, atol=0.01)
    np.testing.assert_allclose(y.numpy()[:, 0, 0], hs, atol=0.01)
    assert np.round(inner["i"].numpy()[:, 0, 0]).tolist() == [1, 1, 0, 0, 0]
    assert np.round(inner["f"].numpy()[:, 0, 0]).tolist() == [1, 1, 1, 1, 0]


@pytest.mark.parametrize("act", FUNCTIONS)
@pytest.mark.parametrize("out", ["identity", "sigmoid", "tanh"])
def test_lstm(act: str, out: str) -> None:
    cell = randomise(rnn.LSTMCell(3, 4, activation=act, output_activation=out))
    p = values(cell)

    def step(x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        h, c = state
        z = x @ p.weight_ih.T + p.bias_ih + h @ p.weight_hh.T + p.bias_hh
        i, f, g, o = np.split(z, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * FUNCTIONS[act](g)
        h = sigmoid(o) * FUNCTIONS[out](c)
        return h, (h, c)

    by_hand(cell, step)


def test_lstm_with_any_function() -> None:
    named = randomise(rnn.LSTMCell(3, 4, activation="relu", output_activation="sigmoid"))
    given = rnn.LSTMCell(3, 4, activation=tg.relu, output_activation=lambda c: tg.sigmoid(c))
    same_over_time(named, randomise(given))


@pytest.mark.parametrize(
    "make",
    [
        rnn.LSTMCell,
        rnn.PeepholeLSTMCell,
        lambda i, h, **o: rnn.PeepholeLSTMCell(i, h, full=True, **o),
    ],
)
def test_forget_bias(make: Any) -> None:
    p = values(make(3, 4, forget_bias=2.5))
    both = p.bias_ih + p.bias_hh
    assert both[4:8].tolist() == p.bias_ih[4:8].tolist() == [2.5] * 4
    assert np.all(np.delete(both, slice(4, 8)) != 2.5)
    assert 2.5 not in values(make(3, 4)).bias_ih


def test_forget_bias_of_the_other_lstms() -> None:
    p = values(rnn.CoupledLSTMCell(3, 4, forget_bias=2.5))
    assert (p.bias_ih + p.bias_hh)[:4].tolist() == [-2.5] * 4  # of i, and f = 1 - i
    assert np.all((p.bias_ih + p.bias_hh)[4:] != -2.5)
    p = values(rnn.LayerNormLSTMCell(3, 4, forget_bias=2.5))
    assert (p.norm_ih_bias + p.norm_hh_bias).tolist() == [0] * 4 + [2.5] * 4 + [0] * 8


@pytest.mark.parametrize("bias", [0.0, 1.0, 5.0])
def test_what_a_forget_bias_leaves_of_the_cell_state(bias: float) -> None:
    """sigmoid(bias)^40 after 40 steps, beside what came in meanwhile, where the weights are 0."""
    for cell in (
        rnn.LSTMCell(3, 4, forget_bias=bias),
        rnn.PeepholeLSTMCell(3, 4, forget_bias=bias),
        rnn.CoupledLSTMCell(3, 4, forget_bias=bias),
        rnn.LayerNormLSTMCell(3, 4, forget_bias=bias),
    ):
        cell.to(np.float64)
        for name, parameter in cell.named_parameters():
            if not name.endswith(("bias_ih", "norm_ih.bias")):
                nn.init.zeros_(parameter)
        layer, x, c = rnn.Recurrent(cell), tg.zeros((40, 2, 3), np.float64), draw(2, 4)
        (_, last), (_, none) = layer(x, (0 * c, c))[1], layer(x)[1]
        close(last - none, sigmoid(np.float64(bias)) ** 40 * c.numpy(), 1e-12)


def test_without_a_forget_gate() -> None:
    """The LSTM whose forget gate is held at 1."""
    cell = randomise(rnn.NoForgetLSTMCell(3, 4))
    held = {}
    for name, array in cell.state_dict().items():
        i, g, o = np.split(array, 3)
        f = np.full_like(i, 1000.0 if name == "bias_ih" else 0.0)
        held[name] = np.concatenate([i, f, g, o])
    lstm = copied(rnn.LSTMCell(3, 4), **held)
    same_over_time(cell, lstm)
    f = rnn.Recurrent(lstm)(draw(5, 2, 3), record=["f"])[2]["f"]
    assert np.all(f.numpy() == 1)


def test_what_is_not_forgotten_arrives() -> None:
    """Exactly, with its gradient, where the input gate is shut."""
    cell = randomise(rnn.NoForgetLSTMCell(3, 4))
    p = cell.state_dict()
    for name in ("weight_ih", "weight_hh", "bias_hh"):
        p[name][:4] = 0
    p["bias_ih"][:4] = -800
    cell.load_state_dict(p)
    c = draw(2, 4, requires_grad=True)
    _, last = rnn.Recurrent(cell)(draw(100, 2, 3), (draw(2, 4, seed=2), c))
    last.c.sum().backward()
    assert np.array_equal(last.c.numpy(), c.numpy())
    assert np.array_equal(c.grad.numpy(), np.ones((2, 4)))


def test_coupled_gates() -> None:
    """The LSTM whose f is 1 - i: sigmoid(-a) = 1 - sigmoid(a)."""
    cell = randomise(rnn.CoupledLSTMCell(3, 4))
    held = {}
    for name, array in cell.state_dict().items():
        i, g, o = np.split(array, 3)
        held[name] = np.concatenate([i, -i, g, o])
    same_over_time(cell, copied(rnn.LSTMCell(3, 4), **held))
    inner = rnn.Recurrent(cell)(draw(5, 2, 3), record=["f", "i"])[2]
    close(inner["f"], 1 - inner["i"].numpy(), 0)


OPTIONS = [
    {"full": full, "candidate": candidate, "output_sees": sees}
    for full, candidate, sees in product([False, True], [False, True], ["new", "old"])
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_peepholes(options: dict[str, Any]) -> None:
    cell = randomise(rnn.PeepholeLSTMCell(3, 4, **options))
    p = values(cell)
    assert hasattr(p, "weight_cg") == options["candidate"]

    def step(x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        h, old = state
        P = {k: getattr(p, f"weight_c{k}", np.zeros(4)) for k in "ifog"}
        if not options["full"]:
            P = {k: np.diag(v) for k, v in P.items()}
        elif not options["candidate"]:
            P["g"] = np.zeros((4, 4))
        z = x @ p.weight_ih.T + p.bias_ih + h @ p.weight_hh.T + p.bias_hh
        i, f, g, o = np.split(z, 4, axis=1)
        i, f = sigmoid(i + old @ P["i"].T), sigmoid(f + old @ P["f"].T)
        c = f * old + i * np.tanh(g + old @ P["g"].T)
        o = sigmoid(o + (c if options["output_sees"] == "new" else old) @ P["o"].T)
        h = o * np.tanh(c)
        return h, (h, c)

    by_hand(cell, step)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_without_peepholes_it_is_an_lstm(options: dict[str, Any]) -> None:
    cell = randomise(rnn.PeepholeLSTMCell(3, 4, **options))
    for name, parameter in cell.named_parameters():
        if name.startswith("weight_c"):
            nn.init.zeros_(parameter)
    state = {k: v for k, v in cell.state_dict().items() if not k.startswith("weight_c")}
    same_over_time(cell, copied(rnn.LSTMCell(3, 4), **state))


@pytest.mark.parametrize("full", [False, True])
def test_a_diagonal_moves_its_own_element_only(full: bool) -> None:
    """Of every gate, i, f and o, in one step; a full matrix moves them all."""
    cell = randomise(rnn.PeepholeLSTMCell(3, 4, full=full))
    for k in range(4):
        for gate in "ifo":
            c = draw(1, 4, requires_grad=True)
            state = rnn.LSTMState(draw(1, 4, seed=2), c)
            inner = rnn.Recurrent(cell)(draw(1, 1, 3), state, record=[gate])[2]
            inner[gate][0, 0, k].backward()
            moved = c.grad.numpy()[0] != 0
            assert moved.tolist() == [full or j == k for j in range(4)]
