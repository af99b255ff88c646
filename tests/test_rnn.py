"""Cells, the time loop, stacks: gradients, worked examples, and what must hold of any network."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import (
    CountingCell,
    NestedCell,
    close,
    draw,
    functional,
    leaves,
    random_state,
    randomise,
    rebuilt,
    total,
)
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn
from tinygrad_rnn.tape import tree_map

CELLS: dict[str, Callable[[int, int], rnn.Cell]] = {
    "tanh": rnn.RNNCell,
    "relu": lambda i, h: rnn.RNNCell(i, h, nonlinearity="relu"),
    "sigmoid": lambda i, h: rnn.RNNCell(i, h, nonlinearity=tg.sigmoid),
    "no bias": lambda i, h: rnn.RNNCell(i, h, bias=False),
    "lstm": rnn.LSTMCell,
    "lstm, forget bias": lambda i, h: rnn.LSTMCell(i, h, forget_bias=1.0),
    "lstm, no bias": lambda i, h: rnn.LSTMCell(i, h, bias=False),
    "gru": rnn.GRUCell,
    "gru, no bias": lambda i, h: rnn.GRUCell(i, h, bias=False),
    "nested": NestedCell,
    "counting": CountingCell,
}
LAYERS: dict[str, Callable[[], Any]] = {
    "RNN": lambda: rnn.RNN(3, 4, 2),
    "LSTM": lambda: rnn.LSTM(3, 4, 2, batch_first=True),
    "GRU": lambda: rnn.GRU(3, 4, 2),
    "Recurrent": lambda: rnn.Recurrent(rnn.LSTMCell(3, 4), batch_first=True),
    "Recurrent, nested": lambda: rnn.Recurrent(NestedCell(3, 4)),
    "Recurrent, counting": lambda: rnn.Recurrent(CountingCell(3, 4)),
    "Stacked": lambda: rnn.Stacked(
        [
            rnn.Recurrent(rnn.GRUCell(3, 5)),
            nn.LayerNorm(5),
            nn.Linear(5, 2),
            rnn.LSTM(2, 4),
            rnn.Recurrent(CountingCell(4, 3)),
        ]
    ),
}


# Gradients on every device


@pytest.mark.parametrize("name", CELLS)
def test_gradients_of_cells(name: str, device: str) -> None:
    cell = randomise(CELLS[name](3, 4)).to(device)
    state = random_state(cell.initial_state(2))
    function, parameters = functional(
        cell, lambda x, *leaves_: cell.step(x, rebuilt(state, leaves_))
    )
    inputs = [*parameters, draw(2, 3, device=device), *leaves(state)]
    assert tg.check_gradients(function, inputs)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_layers(name: str, device: str) -> None:
    layer = randomise(LAYERS[name]()).to(device)
    state = random_state(layer.initial_state(2))
    function, parameters = functional(layer, lambda x, *leaves_: layer(x, rebuilt(state, leaves_)))
    batch_first = getattr(layer, "batch_first", False)
    x = draw(*((2, 3) if batch_first else (3, 2)), 3, device=device)
    assert tg.check_gradients(function, [*parameters, x, *leaves(state)])


@pytest.mark.parametrize("name", LAYERS)
def test_layers_read_nothing_on_the_host(name: str) -> None:
    layer = randomise(LAYERS[name]()).to("strict")
    x = draw(2, 2, 3, device="strict")
    with STRICT.counting() as count:
        total(*layer(x)).backward()
    assert count.host_reads == 0
    assert all(p.grad.device == "strict" for p in layer.parameters())


@pytest.mark.parametrize("kind", [rnn.RNN, rnn.LSTM, rnn.GRU])
def test_half_precision(kind: Any) -> None:
    layer = kind(3, 4, 2)
    wide = copy.deepcopy(layer).to(np.float64)
    layer.to(np.float16)
    x = draw(5, 2, 3)
    half = x.to(np.float16)
    outputs, expected = layer(half), wide(x)
    for a, b in zip(leaves(outputs), leaves(expected), strict=True):
        assert a.dtype == np.float16
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-3, rtol=1e-2)
    total(*outputs).backward()
    total(*expected).backward()
    for p, q in zip(layer.parameters(), wide.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), atol=5e-3, rtol=5e-2)


# Worked examples


def unit_network() -> Callable[[list[list[float]]], list[float]]:
    """Two inputs, two linear hidden units, two linear outputs; every weight is 1, no bias."""
    layer = rnn.Recurrent(rnn.RNNCell(2, 2, bias=False, nonlinearity=lambda z: z))
    head = nn.Linear(2, 2, bias=False)
    for parameter in [*layer.parameters(), *head.parameters()]:
        nn.init.ones_(parameter)

    def run(inputs: list[list[float]]) -> list[float]:
        y = head(layer(tg.tensor(inputs, np.float32).reshape(-1, 1, 2))[0]).numpy()
        assert np.array_equal(y[..., 0], y[..., 1])
        return y[:, 0, 0].tolist()

    return run


def test_the_order_of_inputs_matters() -> None:
    run = unit_network()
    h, expected = 0.0, []
    for x in (1, 1, 2):
        h = 2 * x + 2 * h
        expected.append(2 * h)
    assert run([[1, 1], [1, 1], [2, 2]]) == expected == [4, 12, 32]
    assert run([[2, 2], [1, 1], [1, 1]]) == [8, 20, 44]


@pytest.mark.parametrize(
    ("kind", "cell", "gates"),
    [(rnn.RNN, rnn.RNNCell, 1), (rnn.LSTM, rnn.LSTMCell, 4), (rnn.GRU, rnn.GRUCell, 3)],
)
def test_parameter_counts(kind: Any, cell: Any, gates: int) -> None:
    expected = gates * 256 * (128 + 256 + 2)
    assert expected == {1: 98_816, 4: 395_264, 3: 296_448}[gates]
    for module in (kind(128, 256), cell(128, 256)):
        assert sum(p.size for p in module.parameters()) == expected


def test_the_equations_by_hand() -> None:
    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z))

    x, h, c = (draw(2, n, seed=n).numpy() for n in (3, 4, 5))
    c = c[:, :4]
    cell = randomise(rnn.LSTMCell(3, 4))
    w, u, b, d = (p.numpy() for p in cell.parameters())
    z = x @ w.T + b + h @ u.T + d
    i, f, g, o = (z[:, 4 * k : 4 * k + 4] for k in range(4))
    c_new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    y, state = cell(tg.tensor(x), (tg.tensor(h), tg.tensor(c)))
    close(state.c, c_new)
    close(y, sigmoid(o) * np.tanh(c_new))

    cell = randomise(rnn.GRUCell(3, 4))
    w, u, b, d = (p.numpy() for p in cell.parameters())
    a, e = x @ w.T + b, h @ u.T + d
    r, z = sigmoid(a[:, :4] + e[:, :4]), sigmoid(a[:, 4:8] + e[:, 4:8])
    n = np.tanh(a[:, 8:] + r * e[:, 8:])
    close(cell(tg.tensor(x), tg.tensor(h))[0], (1 - z) * n + z * h)


def test_forget_bias() -> None:
    for module, suffix in ((rnn.LSTMCell(3, 4, forget_bias=2.5), ""),
                           (rnn.LSTM(3, 4, 2, forget_bias=2.5), "_l1")):  # fmt: skip
        state = module.state_dict()
        gates = state[f"bias_ih{suffix}"] + state[f"bias_hh{suffix}"]
        assert gates[4:8].tolist() == [2.5] * 4
        assert np.all(gates[:4] != 2.5)


@pytest.mark.parametrize("kind", [rnn.RNN, rnn.LSTM, rnn.GRU])
def test_weights_begin_within_one_over_root_of_the_hidden_size(kind: Any) -> None:
    tg.manual_seed(0)
    layer = kind(7, 64, 2)
    tg.manual_seed(0)
    again = kind(7, 64, 2)
    for p, q in zip(layer.parameters(), again.parameters(), strict=True):
        assert np.array_equal(p.numpy(), q.numpy())
        assert np.abs(p.numpy()).max() <= 1 / 8
        assert p.numpy().std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.15)


# Cells of a user's own


@pytest.mark.parametrize("make", [NestedCell, CountingCell])
def test_a_cell_of_ones_own(make: Any) -> None:
    cell = randomise(make(3, 4))
    x = draw(5, 2, 3, requires_grad=True)
    y, state = rnn.Recurrent(cell)(x)
    assert type(state) is type(cell.initial_state(2))
    expected, h = [], cell.initial_state(2)
    for k in range(5):
        one, h = cell(x[k], h)
        expected.append(one.numpy())
    close(y, np.stack(expected), 1e-12)
    total(y, state).backward()
    assert all(np.any(p.grad.numpy() != 0) for p in cell.parameters())
    assert np.any(x.grad.numpy()[0] != 0)


def test_an_integer_counter_in_the_state() -> None:
    cell = randomise(CountingCell(3, 4))
    layer = rnn.Stacked([rnn.Recurrent(cell)])
    y, (state,) = layer(draw(5, 2, 3))
    assert state.t.dtype == np.int64
    assert state.t.tolist() == [[5], [5]]
    assert np.array_equal(y[0].numpy(), y[1].numpy())
    assert not np.array_equal(y[1].numpy(), y[2].numpy())


# What must hold of any network


@pytest.mark.parametrize("name", LAYERS)
@given(cut=st.integers(1, 5), batch=st.sampled_from([1, 2]))
def test_chunks_with_the_state_carried_equal_the_whole(name: str, cut: int, batch: int) -> None:
    layer = randomise(LAYERS[name]())
    batch_first = getattr(layer, "batch_first", False)
    x = draw(batch, 6, 3) if batch_first else draw(6, batch, 3)
    first, second = tg.split(x, sizes=[cut, 6 - cut], axis=1 if batch_first else 0)
    whole, last = layer(x)
    a, state = layer(first)
    b, state = layer(second, state)
    close(tg.concat([a, b], axis=1 if batch_first else 0), whole, 1e-12)
    for one, other in zip(leaves(state), leaves(last), strict=True):
        close(one, other, 1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_the_future_does_not_reach_the_past(name: str) -> None:
    layer = randomise(LAYERS[name]())
    batch_first = getattr(layer, "batch_first", False)
    for t in range(4):
        x = draw(2, 4, 3, requires_grad=True) if batch_first else draw(4, 2, 3, requires_grad=True)
        y = layer(x)[0]
        if batch_first:
            y = tg.swapaxes(y, 0, 1)
        total(y[t]).backward()
        g = x.grad.numpy()
        g = g.swapaxes(0, 1) if batch_first else g
        assert np.all(g[t + 1 :] == 0)
        assert np.any(g[0] != 0)


@pytest.mark.parametrize("name", CELLS)
def test_a_stack_of_one_and_a_layer_of_one_cell(name: str) -> None:
    cell = randomise(CELLS[name](3, 4))
    x = draw(4, 2, 3)
    y, state = rnn.Recurrent(cell)(x)
    z, (other,) = rnn.Stacked([rnn.Recurrent(cell)])(x)
    assert np.array_equal(y.numpy(), z.numpy())
    for a, b in zip(leaves(state), leaves(other), strict=True):
        assert np.array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize(
    ("kind", "cell"), [(rnn.RNN, rnn.RNNCell), (rnn.LSTM, rnn.LSTMCell), (rnn.GRU, rnn.GRUCell)]
)
def test_layers_of_many_cells_equal_a_stack_of_them(kind: Any, cell: Any) -> None:
    layer = randomise(kind(3, 4, 3))
    stack = rnn.Stacked([rnn.Recurrent(cell(3 if k == 0 else 4, 4)) for k in range(3)])
    singles: list[Any] = stack.layers
    for k, single in enumerate(singles):
        single.to(np.float64)
        single.cell.load_state_dict(
            {n.removesuffix(f"_l{k}"): v for n, v in layer.state_dict().items() if n[-1] == str(k)}
        )
    x = draw(5, 2, 3)
    y, state = layer(x)
    z, states = stack(x)
    close(y, z, 0)
    for k in range(3):
        for a, b in zip(leaves(state), leaves(states[k]), strict=True):
            close(a[k], b, 0)


@pytest.mark.parametrize("name", ["tanh", "lstm", "gru"])
def test_the_jacobian_over_four_steps_is_the_product_of_four(name: str) -> None:
    cell = randomise(CELLS[name](3, 4))

    class Flat(NamedTuple):
        """The whole state as one vector, since an LSTM's h depends on c too."""

        vector: tg.Tensor

    xs = draw(6, 1, 3)
    form = cell.initial_state(1)
    size = 4 * len(leaves(form))
    vectors = [tg.zeros(size, np.float64, requires_grad=True)]
    for x in xs:
        state = rebuilt(form, tg.split(vectors[-1].reshape(1, size), parts=len(leaves(form))))
        _, state = cell.step(x, state)
        vectors.append(tg.concat(leaves(state), axis=1).reshape(size))
    product = np.eye(size)
    for t in range(2, 6):
        product = tg.jacobian(vectors[t], vectors[t - 1]).numpy() @ product
    whole = tg.jacobian(vectors[5], vectors[1])
    assert whole.shape == (size, size)
    close(whole, product, 1e-12)
    assert np.any(product != 0)
    assert np.all(tg.jacobian(vectors[1], vectors[5]).numpy() == 0)


@pytest.mark.parametrize("name", LAYERS)
def test_partial_use_of_the_results(name: str) -> None:
    """The gradients of everything together are the sum of those of each result alone."""
    layer = randomise(LAYERS[name]())
    x = draw(3, 3, 3, requires_grad=True)

    def gradients(select: Callable[[list[Any]], list[Any]]) -> list[np.ndarray]:
        layer.zero_grad()
        x.grad = None
        results = [r for r in leaves(layer(x)) if r.dtype.kind == "f"]
        total(*select(results)).backward()
        return [
            np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy()
            for p in [*layer.parameters(), x]
        ]

    count = len([r for r in leaves(layer(x)) if r.dtype.kind == "f"])
    whole = gradients(lambda results: results)
    singles = [gradients(lambda results, k=k: [results[k]]) for k in range(count)]
    for k, g in enumerate(whole):
        close(sum(single[k] for single in singles), g, 1e-12)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 3), (4, 1), (3, 0)])
def test_one_step_one_row_and_no_row(name: str, steps: int, batch: int, jit: bool) -> None:
    layer = randomise(LAYERS[name]())
    batch_first = getattr(layer, "batch_first", False)
    x = draw(*((batch, steps) if batch_first else (steps, batch)), 3, requires_grad=True)
    with tg.replay.using(jit=jit):
        y, state = layer(x)
        assert y.shape[:2] == x.shape[:2]
        total(y, state).backward()
    assert x.grad.shape == x.shape
    for p in layer.parameters():
        assert p.grad.shape == p.shape
        assert batch > 0 or np.all(p.grad.numpy() == 0)


def test_rows_do_not_meet() -> None:
    for make in LAYERS.values():
        layer = randomise(make())
        batch_first = getattr(layer, "batch_first", False)
        x = draw(4, 4, 3)
        y = layer(x)[0]
        alone = layer(x[2:3])[0] if batch_first else layer(x[:, 2:3])[0]
        close(alone, y[2:3] if batch_first else y[:, 2:3], 1e-12)


def test_layouts_hold_the_same_numbers() -> None:
    layer = randomise(rnn.LSTM(3, 4, 2))
    other = rnn.LSTM(3, 4, 2, batch_first=True).to(np.float64)
    other.load_state_dict(layer.state_dict())
    x = draw(5, 2, 3)
    y, state = layer(x)
    z, same = other(tg.swapaxes(x, 0, 1))
    close(tg.swapaxes(z, 0, 1), y, 1e-12)
    for a, b in zip(state, same, strict=True):
        assert a.shape == (2, 2, 4)
        close(a, b, 1e-12)


def test_inputs_that_are_not_contiguous() -> None:
    layer = randomise(rnn.GRU(3, 4))
    values = np.random.default_rng(0).standard_normal((6, 4, 5))
    view = values[::-2, 1:3, ::2]
    close(layer(tg.from_numpy(view))[0], layer(tg.tensor(view.copy()))[0], 1e-14)


# States


def test_states_may_be_plain_tuples_or_lists() -> None:
    layer = randomise(rnn.LSTM(3, 4, 2))
    x = draw(5, 2, 3)
    h, c = draw(2, 2, 4, seed=2), draw(2, 2, 4, seed=3)
    expected = layer(x, rnn.LSTMState(h, c))
    assert type(expected[1]) is rnn.LSTMState
    for state in ((h, c), [h, c]):
        y, found = layer(x, state)
        assert type(found) is rnn.LSTMState
        close(y, expected[0], 0)


def test_the_initial_state_is_zero_and_of_the_layers_dtype_and_device() -> None:
    for make in LAYERS.values():
        layer = make().to(np.float64).to("strict")
        for leaf in leaves(layer.initial_state(2)):
            assert leaf.device == "strict"
            assert leaf.dtype in (np.float64, np.int64)
            assert np.all(leaf.numpy() == 0)
        x = draw(2, 3, 3, device="strict")
        y, _ = layer(x)
        z, _ = layer(x, layer.initial_state(3 if not getattr(layer, "batch_first", False) else 2))
        assert np.array_equal(y.numpy(), z.numpy())


def test_inputs_and_states_are_left_as_they_were() -> None:
    for make in LAYERS.values():
        layer = randomise(make())
        x = draw(2, 2, 3)
        state = random_state(layer.initial_state(2))
        before = [leaf.numpy().copy() for leaf in (x, *leaves(state), *layer.parameters())]
        total(*layer(x, state)).backward()
        after = (x, *leaves(state), *layer.parameters())
        for a, b in zip(before, after, strict=True):
            assert np.array_equal(a, b.numpy())


# Modes


@pytest.mark.parametrize("kind", [rnn.RNN, rnn.LSTM, rnn.GRU])
def test_dropout_acts_between_layers_in_training_only(kind: Any) -> None:
    layer = randomise(kind(3, 4, 3, dropout=0.5))
    plain = kind(3, 4, 3).to(np.float64)
    plain.load_state_dict(layer.state_dict())
    x = draw(5, 2, 3)

    def run(seed: int) -> np.ndarray:
        tg.manual_seed(seed)
        return layer(x)[0].numpy()

    assert np.array_equal(run(0), run(0))
    assert not np.array_equal(run(0), run(1))
    assert not np.any(run(0) == 0)
    layer.eval()
    assert np.array_equal(run(0), plain(x)[0].numpy())
    layer.train()
    assert not np.array_equal(run(0), plain(x)[0].numpy())


def test_dropout_of_a_single_layer_does_nothing() -> None:
    layer = rnn.LSTM(3, 4, dropout=0.9)
    x = tg.ones((5, 2, 3))
    assert np.array_equal(layer(x)[0].numpy(), layer.eval()(x)[0].numpy())


def test_dropout_in_a_stack_follows_the_mode() -> None:
    stack = rnn.Stacked([rnn.GRU(3, 4), nn.Dropout(0.5), rnn.GRU(4, 4)])
    x = tg.ones((5, 2, 3))
    tg.manual_seed(0)
    a = stack(x)[0].numpy()
    tg.manual_seed(0)
    assert np.array_equal(a, stack(x)[0].numpy())
    assert not np.array_equal(a, stack(x)[0].numpy())
    b, state = stack.eval()(x)
    assert np.array_equal(b.numpy(), stack(x)[0].numpy())
    assert state[1] is None
    assert stack.initial_state(2)[1] is None


# Parameters


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "same"])
@pytest.mark.parametrize("kind", [rnn.RNN, rnn.LSTM, rnn.GRU])
def test_a_layer_and_its_cells_hold_the_same_parameters(kind: Any, how: str) -> None:
    layer = kind(3, 4, 2)
    made = {
        "deepcopy": copy.deepcopy,
        "pickle": lambda m: pickle.loads(pickle.dumps(m)),
        "same": lambda m: m,
    }[how](layer)
    assert list(made.state_dict()) == list(layer.state_dict())
    for k, cell in enumerate(made.cells()):
        for name, parameter in cell.named_parameters():
            assert getattr(made, f"{name}_l{k}") is parameter
    assert len(made.parameters()) == 8
    x = tg.ones((2, 1, 3))
    assert np.array_equal(made(x)[0].numpy(), layer(x)[0].numpy())
    made(x)[0].sum().backward()
    assert all(p.grad is not None for p in made.parameters())
    if how != "same":
        nn.init.zeros_(made.weight_ih_l0)
        assert not np.array_equal(made(x)[0].numpy(), layer(x)[0].numpy())


def test_names_are_pytorchs() -> None:
    assert list(rnn.LSTM(3, 4, 2).state_dict()) == [
        f"{name}_l{k}"
        for k in range(2)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    assert list(rnn.GRU(3, 4, bias=False).state_dict()) == ["weight_ih_l0", "weight_hh_l0"]


@pytest.mark.parametrize("kind", [rnn.Recurrent, rnn.LSTM])
def test_a_layer_takes_few_names_from_its_subclasses(kind: Any) -> None:
    own = {"batch_first", "cells", "checkpoint", "explain", "initial_state", "step", "unroll"}
    found = {name for name in dir(kind) if name[0] != "_"} - {*dir(tg.nn.Module)}
    assert found <= own


def test_a_replaced_parameter_is_seen_by_the_next_call() -> None:
    layer = randomise(rnn.LSTM(3, 4))
    x = draw(2, 1, 3)
    before = layer(x)[0].numpy()
    layer.weight_ih_l0 = nn.Parameter(layer.weight_ih_l0.numpy() * 2)
    after = layer(x)[0]
    assert not np.array_equal(after.numpy(), before)
    after.sum().backward()
    assert layer.weight_ih_l0.grad is not None
    assert layer.weight_ih_l0 in [p for p in layer.parameters() if p.shape == (16, 3)]


def test_weights_tied_between_layers() -> None:
    layer = randomise(rnn.GRU(4, 4, 2))
    layer.weight_hh_l1 = layer.weight_hh_l0
    assert len(layer.parameters()) == 7
    assert len(layer.state_dict()) == 8
    total(layer(draw(3, 2, 4))[0]).backward()
    one = layer.weight_hh_l0.grad.numpy().copy()

    parameters = [p.detach() for p in layer.parameters()]
    layer.weight_hh_l1 = nn.Parameter(parameters[1])
    layer.zero_grad()
    for name, value in zip(
        ("weight_ih", "weight_hh", "bias_ih", "bias_hh"), parameters, strict=False
    ):
        setattr(layer, f"{name}_l0", nn.Parameter(value))
    total(layer(draw(3, 2, 4))[0]).backward()
    close(layer.weight_hh_l0.grad.numpy() + layer.weight_hh_l1.grad.numpy(), one, 1e-12)


def test_names_inside_wrappers() -> None:
    stack = rnn.Stacked([rnn.Recurrent(rnn.GRUCell(3, 4)), rnn.RNN(4, 2, bias=False)])
    assert list(stack.state_dict()) == [
        *(f"layers.0.cell.{name}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
        *(f"layers.1.{name}_l0" for name in ("weight_ih", "weight_hh")),
    ]
    assert len(stack) == 2
    assert stack[1] is stack.layers[1]


@pytest.mark.parametrize("unroll", [True, False])
@pytest.mark.parametrize("lengths", [None, [6, 4]])
@pytest.mark.parametrize("make", [rnn.LSTMCell, rnn.GRUCell])
def test_the_total_gradient_of_the_state_at_every_step(
    make: Any, unroll: bool, lengths: Any
) -> None:
    """It is what the tape of a loop written by hand says of each state."""
    cell = randomise(make(3, 4))
    x, weight = draw(6, 2, 3), draw(6, 2, 4)
    probe = tg.zeros((6, 2, 4), "float64")
    start = cell.initial_state(2)
    probe = type(start)(probe, probe.copy()) if isinstance(start, tuple) else probe
    for part in leaves(probe):
        part.requires_grad = True
    layer = rnn.Recurrent(cell, unroll=unroll)
    y, last = layer(x, lengths=lengths, probe=probe)
    (tg.sum(y * weight) + total(last)).backward()

    state, loss, states = start, 0.0, []
    for t in range(6):
        _, after = cell.step(x[t], state)
        after = tree_map(lambda a: 1.0 * a, after)  # as it is handed on
        out = leaves(after)[0]
        for leaf in leaves(after):
            leaf.retain_grad()
        states.append(leaves(after))
        if lengths is not None:
            valid = tg.tensor(np.array([t < n for n in lengths]))
            out = tg.where(valid.reshape(2, 1), out, 0.0)
            after = tree_map(lambda a, b, v=valid: tg.where(v.reshape(2, 1), a, b), after, state)
        state = after
        loss = loss + tg.sum(out * weight[t])
    (loss + total(state)).backward()
    for k, part in enumerate(leaves(probe)):
        close(part.grad, np.stack([s[k].grad.numpy() for s in states]), 1e-12)
