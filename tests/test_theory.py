"""What the theory of recurrent networks says, checked on the tape: replayed and unrolled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from networks import close, draw, leaves, random_state, randomise, rebuilt

import tinygrad_rnn as tg
from tinygrad_rnn import rnn

CELLS: dict[str, Callable[[int, int], rnn.Cell]] = {
    "rnn": rnn.RNNCell,
    "lstm": rnn.LSTMCell,
    "gru": rnn.GRUCell,
}
every_cell = pytest.mark.parametrize("name", CELLS)
both_ways = pytest.mark.parametrize("unroll", [False, True])


pytestmark = pytest.mark.usefixtures("by_numpy")


@pytest.fixture
def how(request: pytest.FixtureRequest) -> Iterator[str]:
    """How the loop is run: compiled only where the extra ``jit`` is installed."""
    with tg.replay.using(jit=request.param == "compiled"):
        yield request.param


def flat(form: Any, vector: tg.Tensor) -> Any:
    """A state of one row from one vector, since an LSTM's h depends on c too."""
    count = len(leaves(form))
    return rebuilt(form, tg.split(vector.reshape(1, -1), parts=count, axis=1))


def vector_of(state: Any) -> tg.Tensor:
    return tg.concat(leaves(state), axis=1).reshape(-1)


# Backpropagation through time


@every_cell
@both_ways
def test_the_jacobian_over_time_is_the_product_of_those_of_the_steps(
    name: str, unroll: bool
) -> None:
    """The product (d s_5 / d s_4) ... (d s_2 / d s_1), each factor by itself, is d s_5 / d s_1."""
    cell = randomise(CELLS[name](3, 4))
    layer = rnn.Recurrent(cell, unroll=unroll)
    form = cell.initial_state(1)
    x = draw(5, 1, 3)
    _, first = layer(x[:1], random_state(form))
    vectors = [tg.tensor(vector_of(first).numpy(), requires_grad=True)]
    product = np.eye(vectors[0].shape[0])
    for t in range(1, 5):
        _, state = cell.step(x[t], flat(form, vectors[-1]))
        reached = vector_of(state)
        product = tg.jacobian(reached, vectors[-1]).numpy() @ product
        vectors.append(tg.tensor(reached.numpy(), requires_grad=True))
    _, last = layer(x[1:], flat(form, vectors[0]))
    whole = tg.jacobian(vector_of(last), vectors[0])
    close(whole, product, 1e-12)
    assert np.linalg.matrix_rank(product) > 1


@every_cell
@both_ways
def test_the_contributions_of_the_steps_sum_to_the_gradient(name: str, unroll: bool) -> None:
    """dL/dW = sum over t of (d s_t / d W at fixed s_{t-1}) dL/ds_t, where the total dL/ds_t is the
    gradient of zeros that are added to the state.
    """
    cell = randomise(CELLS[name](3, 4))
    x, weight = draw(6, 2, 3), draw(6, 2, 4, seed=9)
    form = cell.initial_state(2)
    probe = rebuilt(form, [tg.zeros((6, *s.shape), np.float64, requires_grad=True)
                           for s in leaves(form)])  # fmt: skip
    output, _ = rnn.Recurrent(cell, unroll=unroll)(x, probe=probe)
    tg.sum(output * weight).backward()
    whole = [p.grad.numpy().copy() for p in cell.parameters()]

    contributions = []
    state = form
    for t in range(6):
        cell.zero_grad()
        _, after = cell.step(x[t], rnn.detach(state))
        parts = zip(leaves(after), leaves(probe), strict=True)
        sum(tg.sum(s * p.grad[t]) for s, p in parts).backward()
        contributions.append([p.grad.numpy().copy() for p in cell.parameters()])
        state = after
    for k, gradient in enumerate(whole):
        parts = [c[k] for c in contributions]
        close(sum(parts), gradient, 1e-12)
        if cell.parameters()[k].ndim == 2 and "hh" in str(cell.parameters()[k].name):
            assert np.all(parts[0] == 0)  # h_0 = 0
        assert all(np.any(part != 0) for part in parts[1:])


# The path of the LSTM's cell state


@pytest.mark.parametrize("how", ["unrolled", "replayed", "compiled"], indirect=True)
def test_the_cell_state_is_rebuilt_from_the_gates(how: str) -> None:
    """c_T = (prod f) c_0 + sum over t of (prod over k > t of f_k) i_t g_t."""
    layer = randomise(rnn.Recurrent(rnn.LSTMCell(3, 4), unroll=how == "unrolled"))
    state = random_state(layer.initial_state(2))
    _, last, found = layer(draw(7, 2, 3), state, record=["i", "f", "g"])
    i, f, g = (found[name].numpy() for name in "ifg")
    sums = sum(np.prod(f[t + 1 :], axis=0) * i[t] * g[t] for t in range(7))
    close(last.c, np.prod(f, axis=0) * state.c.numpy() + sums, 1e-12)


class CellPath(rnn.LSTMCell):
    """An LSTM whose h is cut off the tape: what is left is the path from c to c."""

    def step(self, x: tg.Tensor, state: rnn.LSTMState) -> Any:
        return super().step(x, rnn.LSTMState(state.h.detach(), state.c))


@pytest.mark.parametrize("how", ["unrolled", "replayed", "compiled"], indirect=True)
def test_without_h_the_gradient_of_c_is_the_product_of_the_forget_gates(how: str) -> None:
    layer = randomise(rnn.Recurrent(CellPath(3, 4), unroll=how == "unrolled"))
    h, c = draw(1, 4, seed=4), draw(1, 4, seed=5, requires_grad=True)
    x = draw(6, 1, 3)
    _, last, found = layer(x, rnn.LSTMState(h, c), record=["f"])
    product = np.ones(4)
    for f in found["f"].numpy()[::-1, 0]:
        product = product * f
    jacobian = tg.jacobian(last.c, c).numpy().reshape(4, 4)
    assert np.array_equal(jacobian, np.diag(product))
    plain = randomise(rnn.Recurrent(rnn.LSTMCell(3, 4), unroll=how == "unrolled"))
    _, other = plain(x, rnn.LSTMState(h, c))
    assert np.array_equal(other.c.numpy(), last.c.numpy())
    assert np.all(tg.jacobian(other.c, c).numpy() != 0)  # with h, every element moves every other


# The LSTM's backward equations, written out


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def lstm_by_hand(
    p: dict[str, np.ndarray], x: np.ndarray, h0: np.ndarray, c0: np.ndarray,
    dy: np.ndarray, dh_last: np.ndarray, dc_last: np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Forward and backward through time in plain NumPy; dy is the gradient of each output."""
    h, c, kept = h0, c0, []
    for x_t in x:
        z = x_t @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"]
        i, f, g, o = np.split(z, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        new = f * c + i * g
        kept.append((x_t, h, c, i, f, g, o, np.tanh(new)))
        h, c = o * np.tanh(new), new
    found = {name: np.zeros_like(value) for name, value in p.items()}
    found |= {"h": h, "c": c, "dx": np.zeros_like(x), "dgates": np.zeros((*x.shape[:2], 16))}
    dh, dc = dh_last, dc_last
    for t in reversed(range(len(x))):
        x_t, h, c, i, f, g, o, tanh_c = kept[t]
        dh = dh + dy[t]  # what comes back from the next step, and the step's own output
        do = dh * tanh_c
        dc = dc + dh * o * (1 - tanh_c**2)
        di, df, dg = dc * g, dc * c, dc * i
        dgates = np.concatenate(
            [di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)], axis=1
        )
        found["weight_ih"] += dgates.T @ x_t
        found["weight_hh"] += dgates.T @ h
        found["bias_ih"] += dgates.sum(0)
        found["bias_hh"] += dgates.sum(0)
        found["dx"][t] = dgates @ p["weight_ih"]
        found["dgates"][t] = dgates
        dh, dc = dgates @ p["weight_hh"], dc * f
    return found | {"dh": dh, "dc": dc}


@pytest.mark.parametrize("how", ["unrolled", "replayed", "compiled"], indirect=True)
@pytest.mark.parametrize("steps", [1, 6])
def test_the_lstms_backward_equations(how: str, steps: int) -> None:
    """The inputs are followed by 4 H zeros that are added to the gates before the sigmoid, so that
    their gradient is that of the gates.
    """
    layer = randomise(rnn.Recurrent(rnn.LSTMCell(3 + 16, 4), unroll=how == "unrolled"))
    names = dict(layer.cell.named_parameters())
    weight = names["weight_ih"].numpy().copy()
    weight[:, 3:] = np.eye(16)
    names["weight_ih"].data = tg.tensor(weight)
    values = draw(steps, 2, 19).numpy()
    values[..., 3:] = 0
    x = tg.tensor(values, requires_grad=True)
    h, c = (draw(2, 4, seed=seed, requires_grad=True) for seed in (2, 3))
    dy, dh, dc = draw(steps, 2, 4, seed=4), draw(2, 4, seed=5), draw(2, 4, seed=6)
    y, last = layer(x, rnn.LSTMState(h, c))
    (tg.sum(y * dy) + tg.sum(last.h * dh) + tg.sum(last.c * dc)).backward()
    hand = lstm_by_hand(
        {name: p.numpy() for name, p in names.items()},
        *(v.numpy() for v in (x, h, c, dy, dh, dc)),
    )
    close(last.h, hand["h"])
    close(last.c, hand["c"])
    for name, parameter in names.items():
        close(parameter.grad, hand[name])
    close(x.grad[..., :3], hand["dx"][..., :3])
    close(x.grad[..., 3:], hand["dgates"])
    close(h.grad, hand["dh"])
    close(c.grad, hand["dc"])
