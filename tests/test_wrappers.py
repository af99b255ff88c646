"""Layers made of layers, what ``record=`` brings back, and batch normalisation between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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

LENGTHS = [3, 5, 0, 1]


def touched(layer: Any, chosen: Callable[[tg.Tensor], tg.Tensor]) -> list[bool]:
    """At which steps of the inputs a part of the outputs has a gradient."""
    x = draw(5, 2, 3, requires_grad=True)
    total(chosen(layer(x)[0])).backward()
    return np.any(x.grad.numpy() != 0, axis=(1, 2)).tolist()


# Both directions


def test_stacks_within_both_directions_keep_them_apart() -> None:
    def stack() -> rnn.Stacked:
        return rnn.Stacked([rnn.GRU(3, 4), nn.Linear(4, 4), rnn.LSTM(4, 4)])

    layer = randomise(rnn.Bidirectional(stack(), stack()))
    for t in range(5):
        past, future = [k <= t for k in range(5)], [k >= t for k in range(5)]
        assert touched(layer, lambda y, t=t: y[t, :, :4]) == past
        assert touched(layer, lambda y, t=t: y[t, :, 4:]) == future


def test_both_directions_within_a_stack_meet() -> None:
    layer = randomise(
        rnn.Stacked(
            [
                rnn.Bidirectional(rnn.GRU(3, 4), rnn.GRU(3, 4)),
                rnn.Bidirectional(rnn.GRU(8, 4), rnn.GRU(8, 4)),
            ]
        )
    )
    for half in (slice(4), slice(4, 8)):
        for t in range(5):
            assert touched(layer, lambda y, t=t, half=half: y[t, :, half]) == [True] * 5


@pytest.mark.parametrize(
    ("kind", "cell"), [(rnn.RNN, rnn.RNNCell), (rnn.LSTM, rnn.LSTMCell), (rnn.GRU, rnn.GRUCell)]
)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_convenience_layers_equal_a_stack_of_both_directions(
    kind: Any, cell: Any, lengths: Any
) -> None:
    layer = randomise(kind(3, 4, 2, bidirectional=True))
    stack = rnn.Stacked(
        [
            rnn.Bidirectional(*(rnn.Recurrent(cell(size, 4)) for _ in range(2)))
            for size in (3, 8)
        ]
    ).to(np.float64)  # fmt: skip
    state = layer.state_dict()
    for k, both in enumerate(stack.layers):
        for part, suffix in (
            (both.forward_layer, f"_l{k}"),
            (both.backward_layer, f"_l{k}_reverse"),
        ):
            part.cell.load_state_dict(
                {n.removesuffix(suffix): v for n, v in state.items() if n.endswith(suffix)}
            )
    x = draw(5, 4, 3)
    y, last = layer(x, lengths=lengths)
    z, states = stack(x, lengths=lengths)
    close(y, z, 0)
    for k in range(4):
        for a, b in zip(leaves(last), leaves(states[k // 2][k % 2]), strict=True):
            close(a[k], b, 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: rnn.Recurrent(rnn.LSTMCell(3, 4)),
        lambda: rnn.GRU(3, 4, 2),
        lambda: rnn.Stacked([rnn.RNN(3, 4), nn.LayerNorm(4)]),
    ],
)
def test_one_set_of_weights_mirrors_a_palindrome(make: Any) -> None:
    shared = make()
    layer = randomise(rnn.Bidirectional(shared, shared))
    assert len(layer.parameters()) == len(shared.parameters())
    half = draw(3, 2, 3)
    x = tg.concat([half, tg.flip(half[:-1], 0)], 0)
    y, (first, second) = layer(x)
    close(y[..., :4], tg.flip(y[..., 4:], 0), 0)
    for a, b in zip(leaves(first), leaves(second), strict=True):
        close(a, b, 0)
    summed = rnn.Bidirectional(shared, shared, "sum")(x)[0]
    close(summed, tg.flip(summed, 0), 0)


def test_merges() -> None:
    forward, backward = randomise(rnn.LSTM(3, 4)), randomise(rnn.GRU(3, 4), 1)
    x = draw(5, 4, 3)
    for lengths in (None, LENGTHS):
        a, _ = forward(x, lengths=lengths)
        b, _ = backward(x, lengths=lengths, reverse=True)
        for merge, expected in (
            ("concat", tg.concat([a, b], -1)),
            ("sum", a + b),
            ("mean", (a + b) / 2),
            (lambda p, q: p - 2 * q, a - 2 * b),
        ):
            close(rnn.Bidirectional(forward, backward, merge)(x, lengths=lengths)[0], expected)


def test_a_merge_of_ones_own_ends_where_the_sequences_end() -> None:
    layer = randomise(rnn.Bidirectional(rnn.GRU(3, 4), rnn.GRU(3, 4), lambda a, b: tg.exp(a + b)))
    y = layer(draw(5, 4, 3), lengths=LENGTHS)[0].numpy()
    past = np.arange(5)[:, None] >= LENGTHS
    assert np.all(y[past] == 0)
    assert np.all(y[~past] > 0)


def test_states_of_both_directions_go_in_as_they_come_out() -> None:
    layer = randomise(rnn.Bidirectional(rnn.LSTM(3, 4), rnn.Recurrent(NestedCell(3, 2))))
    _, state = layer(draw(5, 4, 3))
    assert type(state) is tuple
    assert type(state[0]) is rnn.LSTMState
    again, _ = layer(draw(5, 4, 3, seed=7), list(state))
    assert not np.array_equal(again.numpy(), layer(draw(5, 4, 3, seed=7))[0].numpy())


# Residual connections


def test_residual() -> None:
    inner = randomise(rnn.GRU(3, 3))
    x = draw(5, 4, 3)
    for lengths in (None, LENGTHS):
        y, state = rnn.Residual(inner)(x, lengths=lengths)
        z, expected = inner(x, lengths=lengths)
        kept = 1 if lengths is None else np.arange(5)[:, None, None] < np.array(LENGTHS)[:, None]
        close(y, z.numpy() + kept * x.numpy(), 0)
        close(state, expected, 0)


@pytest.mark.parametrize("batch_first", [False, True])
@given(steps=st.integers(1, 4))
def test_wrappers_know_the_layout_of_what_they_hold(batch_first: bool, steps: int) -> None:
    """Also where T = B, which no shape gives away."""
    inner = randomise(rnn.GRU(3, 3, batch_first=batch_first))
    plain = rnn.GRU(3, 3).to(np.float64)
    plain.load_state_dict(inner.state_dict())
    layers = [
        lambda g: rnn.Residual(rnn.Stacked([g])),
        lambda g: rnn.Stacked([rnn.Residual(g)]),
        lambda g: rnn.Residual(rnn.Bidirectional(g, g, "sum")),
        lambda g: rnn.Stacked([g, nn.Sequential(tg.exp)]),
    ]
    xs = draw(steps, 4, 3)
    x = tg.swapaxes(xs, 0, 1) if batch_first else xs
    lengths = [steps, 0, 1, steps // 2]
    for make in layers:
        layer = make(inner)
        assert layer.batch_first is batch_first
        y, _ = layer(x, lengths=lengths)
        y = tg.swapaxes(y, 0, 1) if batch_first else y
        close(y, make(plain)(xs, lengths=lengths)[0], 1e-12)
        assert np.all(y.numpy()[np.arange(steps)[:, None] >= lengths] == 0)


# Stacks with layers that have no state


def test_an_embedding_may_come_first() -> None:
    layer = randomise(rnn.Stacked([nn.Embedding(6, 3), rnn.LSTM(3, 4, bidirectional=True)]))
    tokens = np.array([[1, 2, 3, 4], [5, 0, 99, 1], [2, 2, -1, 99]])
    lengths = [3, 3, 1, 2]
    y, state = layer(tg.tensor(tokens), lengths=lengths)
    for row, n in enumerate(lengths):
        alone, last = layer(tg.tensor(tokens[:n, row]))
        close(y[:n, row], alone, 1e-12)
        for a, b in zip(leaves(state), leaves(last), strict=True):
            close(a[:, row], b, 1e-12)


def test_dropout_between_layers_follows_the_mode() -> None:
    layer = randomise(rnn.Stacked([rnn.RNN(3, 4), nn.Dropout(0.5), rnn.RNN(4, 4)]))
    x = draw(5, 4, 3)
    calm = layer.eval()(x)[0]
    close(layer(x)[0], calm, 0)
    layer.train()
    tg.manual_seed(0)
    first = layer(x)[0]
    assert not np.array_equal(first.numpy(), calm.numpy())
    tg.manual_seed(0)
    close(layer(x)[0], first, 0)


def test_dropout_between_layers_of_a_stream() -> None:
    layer = randomise(rnn.RNN(3, 4, 2, dropout=0.5))
    x = draw(6, 3)
    calm = layer.eval().step(x)[0].numpy()
    tg.manual_seed(0)
    y, state = layer.train().step(x)
    assert not np.array_equal(y.numpy(), calm)
    # The lowest layer's inputs are not touched, nor is a single layer's anything.
    close(state[0], rnn.Recurrent(layer.cells()[0])(x[None])[1])
    single = randomise(rnn.RNN(3, 4, dropout=0.5))
    close(single.train().step(x)[0], single.eval().step(x)[0])


class Plain(nn.Module):
    """A user's recurrent layer, with nothing but what a wrapper asks for."""

    def __init__(self) -> None:
        self.inner = rnn.GRU(3, 3)

    def initial_state(self, batch_size: int) -> Any:
        return self.inner.initial_state(batch_size)

    def forward(
        self, x: Any, state: Any = None, *, lengths: Any = None, reverse: bool = False
    ) -> Any:
        return self.inner(x, state, lengths=lengths, reverse=reverse)


def test_a_layer_of_ones_own_in_every_wrapper() -> None:
    plain = randomise(Plain())
    x = draw(5, 4, 3)
    close(rnn.Stacked([plain])(x, lengths=LENGTHS)[0], plain.inner(x, lengths=LENGTHS)[0], 0)
    close(rnn.Residual(plain)(x)[0], x + plain.inner(x)[0], 0)
    close(rnn.Bidirectional(plain, plain, lambda a, b: b)(x)[0], plain.inner(x, reverse=True)[0], 0)
    for wrapper in (rnn.Stacked([plain]), rnn.Residual(plain)):
        with pytest.raises(TypeError, match="step: Plain has no step"):
            wrapper.step(x[0])


# Derivatives of first and second order


@pytest.mark.parametrize(
    "make",
    [
        lambda: rnn.Bidirectional(rnn.Recurrent(rnn.GRUCell(2, 2)), rnn.RNN(2, 2), "sum"),
        lambda: rnn.Residual(rnn.LSTM(2, 2)),
        lambda: rnn.Stacked([rnn.Recurrent(rnn.RNNCell(2, 3), reverse=True), nn.BatchNorm1d(3)]),
        lambda: rnn.LSTM(2, 3, bidirectional=True, proj_size=2),
    ],
)
def test_gradients_of_wrappers(make: Any, device: str) -> None:
    layer = randomise(make()).to(device)
    state = random_state(layer.initial_state(2))
    function, parameters = functional(
        layer, lambda x, *values: layer(x, rebuilt(state, values), lengths=[3, 1])
    )
    assert tg.check_gradients(function, [*parameters, draw(3, 2, 2, device=device), *leaves(state)])


# Inner values over time


def keep(lengths: Any) -> np.ndarray:
    """(T, B, 1): where the steps count."""
    return (np.arange(5)[:, None] < np.array([5] * 4 if lengths is None else lengths))[..., None]


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("proj_size", [0, 2])
def test_the_cell_state_is_rebuilt_from_the_gates(
    lengths: Any, reverse: bool, proj_size: int
) -> None:
    """c_T = (prod f) c_0 + sum over t of (prod over k > t of f_k) i_t g_t."""
    layer = randomise(rnn.Recurrent(rnn.LSTMCell(3, 4, proj_size=proj_size), reverse))
    state = random_state(layer.initial_state(4))
    x = draw(5, 4, 3)
    y, last, found = layer(x, state, lengths=lengths, record=["c", "i", "f", "g", "o", "h"])
    plain, same_last = layer(x, state, lengths=lengths)
    assert np.array_equal(y.numpy(), plain.numpy())
    assert np.array_equal(last.c.numpy(), same_last.c.numpy())
    i, f, g, o, c = (found[name].numpy() for name in "ifgoc")
    counts = keep(lengths)
    for values in (i, f, g, o, c):
        assert values.shape == (5, 4, 4)
        assert np.all(values[~counts[..., 0]] == 0)
    f = np.where(counts, f, 1)
    if reverse:
        i, f, g = (values[::-1] for values in (i, f, g))
    c_0 = state.c.numpy()
    rebuilt_c = np.prod(f, axis=0) * c_0 + sum(
        np.prod(f[t + 1 :], axis=0) * i[t] * g[t] for t in range(5)
    )
    close(last.c, rebuilt_c, 1e-12)
    for row, n in enumerate([5] * 4 if lengths is None else lengths):
        if n:
            end = 0 if reverse else n - 1
            close(found["c"][end, row], last.c[row], 0)
            close(found["h"][end, row], last.h[row], 0)
    close(found["h"], y, 0)
    if not proj_size:
        close(y, o * np.tanh(c), 1e-12)


def test_recorded_values_carry_gradients(device: str) -> None:
    layer = randomise(rnn.Recurrent(rnn.GRUCell(2, 3))).to(device)
    function, parameters = functional(
        layer, lambda x: layer(x, lengths=[3, 1], record=("r", "z", "n"))[2]
    )
    assert tg.check_gradients(function, [*parameters, draw(3, 2, 2, device=device)])


@pytest.mark.parametrize("kind", [rnn.LSTM, rnn.GRU, rnn.RNN])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_recording_in_layers_of_many_cells(kind: Any, batch_first: bool, lengths: Any) -> None:
    layer = randomise(kind(3, 4, 2, bidirectional=True, batch_first=batch_first))
    name = {rnn.LSTM: "c", rnn.GRU: "z", rnn.RNN: "h"}[kind]
    xs = draw(5, 4, 3)
    x = tg.swapaxes(xs, 0, 1) if batch_first else xs
    y, last, found = layer(x, lengths=lengths, record=[name])
    assert list(found) == [name]
    values = found[name]
    assert values.shape == ((4, 4, 5, 4) if batch_first else (4, 5, 4, 4))
    values = tg.swapaxes(values, 1, 2) if batch_first else values
    assert np.all(values.numpy()[:, ~keep(lengths)[..., 0]] == 0)
    below = xs
    for k, cell in enumerate(layer.cells()):
        single = rnn.Recurrent(cell, reverse=k % 2 == 1)
        _, _, expected = single(below, lengths=lengths, record=[name])
        close(values[k], expected[name], 0)
        if k == 1:
            below = tg.concat(
                [rnn.Recurrent(c, r)(xs, lengths=lengths)[0]
                 for c, r in zip(layer.cells()[:2], (False, True), strict=True)], -1
            )  # fmt: skip
    if kind is rnn.LSTM:
        for row, n in enumerate([5] * 4 if lengths is None else lengths):
            if n:
                close(values[::2, n - 1, row], last.c[::2, row], 0)
                close(values[1::2, 0, row], last.c[1::2, row], 0)
    assert y.shape == ((4, 5, 8) if batch_first else (5, 4, 8))


def test_recording_without_a_batch() -> None:
    layer = randomise(rnn.LSTM(3, 4, 2))
    x = draw(5, 1, 3)
    _, _, batched = layer(x, record=["f"])
    _, _, found = layer(x[:, 0], record=["f"])
    assert found["f"].shape == (2, 5, 4)
    close(found["f"], batched["f"][:, :, 0], 1e-12)
    single = rnn.Recurrent(layer.cells()[0], batch_first=True)
    close(single(x[:, 0], record=["f"])[2]["f"], found["f"][0], 1e-12)


def test_recording_in_wrappers() -> None:
    """What was recorded comes in the containers of the state."""
    cells = [rnn.Recurrent(rnn.LSTMCell(size, 3)) for size in (3, 3, 6)]
    layer = randomise(
        rnn.Stacked([rnn.Bidirectional(*cells[:2]), nn.Linear(6, 6), cells[2], rnn.LSTM(3, 2, 2)])
    )
    x = draw(5, 4, 3)
    y, state, found = layer(x, lengths=LENGTHS, record=["c"])
    close(layer(x, lengths=LENGTHS)[0], y, 0)
    assert found[1] is None
    close(found[0][0]["c"], cells[0](x, lengths=LENGTHS, record=["c"])[2]["c"], 0)
    close(found[0][1]["c"], cells[1](x, lengths=LENGTHS, reverse=True, record=["c"])[2]["c"], 0)
    close(found[2]["c"][4, 1], state[2].c[1], 0)
    assert found[3]["c"].shape == (2, 5, 4, 2)
    inner = randomise(rnn.Recurrent(rnn.GRUCell(3, 3)))
    _, _, single = rnn.Residual(inner)(x, record=["z"])
    close(single["z"], inner(x, record=["z"])[2]["z"], 0)


class NotingCell(CountingCell):
    """It notes a gate and an integer."""

    def step(self, x: Any, state: Any) -> Any:
        gate = tg.sigmoid(x[:, :1])
        rnn.note(gate=gate, even=state.t % 2)
        return super().step(x * gate, state)


def test_a_cell_of_ones_own_notes_what_it_likes() -> None:
    layer = randomise(rnn.Recurrent(NotingCell(3, 4)))
    x = draw(5, 4, 3)
    _, _, found = layer(x, record=["gate", "even", "t", "h"])
    close(found["gate"], tg.sigmoid(x[..., :1]), 0)
    assert found["even"].numpy()[:, 0, 0].tolist() == [0, 1, 0, 1, 0]
    assert found["t"].numpy()[:, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert found["t"].dtype == np.int64
    _, _, found = layer(x, lengths=LENGTHS, record=["t"])
    assert found["t"].numpy()[:, 0, 0].tolist() == [1, 2, 3, 0, 0]


def test_a_value_noted_at_some_steps_only() -> None:
    class Once(CountingCell):
        def step(self, x: Any, state: Any) -> Any:
            if state.t.numpy()[0, 0] == 0:
                rnn.note(first=x)
            return super().step(x, state)

    layer = randomise(rnn.Recurrent(Once(3, 4), unroll=True))
    assert layer(draw(1, 2, 3), record=["first"])[2]["first"].shape == (1, 2, 3)
    with pytest.raises(ValueError, match="Once has no inner value 'first', only"):
        layer(draw(2, 2, 3), record=["first"])


def test_a_cell_within_a_cell_notes_too() -> None:
    """And a layer within a cell's step keeps its own to itself."""

    class Outer(CountingCell):
        def step(self, x: Any, state: Any) -> Any:
            y, after = super().step(x, state)
            rnn.Recurrent(rnn.GRUCell(3, 4))(x[None].to(np.float32))
            return y, after

    _, _, found = randomise(rnn.Recurrent(NestedCell(3, 4)))(draw(5, 4, 3), record=["f", "slow"])
    assert found["f"].shape == found["slow"].shape == (5, 4, 4)
    with pytest.raises(ValueError, match="Outer has no inner value 'r', only"):
        randomise(rnn.Recurrent(Outer(3, 4)))(draw(5, 4, 3), record=["r"])
    # A state within the state is not a value over time.
    with pytest.raises(ValueError, match="NestedCell has no inner value 'fast', only"):
        randomise(rnn.Recurrent(NestedCell(3, 4)))(draw(5, 4, 3), record=["fast"])


# Batch normalisation between recurrent layers


def normalised(momentum: float | None = 0.1) -> Any:
    return randomise(
        rnn.Stacked([rnn.GRU(3, 4), nn.BatchNorm1d(4, momentum=momentum), rnn.LSTM(4, 2)])
    )


@pytest.mark.parametrize("nested", [False, True])
def test_batch_norm_counts_the_steps_that_count(nested: bool) -> None:
    layer = normalised(1.0)
    gru, norm = layer.layers[:2]
    if nested:
        layer.layers[1] = nn.Sequential(nn.Sequential(norm), tg.tanh)
    x = draw(5, 4, 3)
    layer(x, lengths=LENGTHS)
    inner = gru(x, lengths=LENGTHS)[0].numpy()[keep(LENGTHS)[..., 0]]
    assert inner.shape == (9, 4)
    close(norm.running_mean, inner.mean(0), 1e-12)
    close(norm.running_var, inner.var(0, ddof=1), 1e-12)
    assert norm.num_batches_tracked.item() == 1


def test_a_sequence_of_layers_of_ones_own_needs_no_mask() -> None:
    class Doubled(nn.Sequential):
        def forward(self, x: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            return 2 * super().forward(x)

    layer = rnn.Stacked([rnn.LSTM(3, 5), Doubled(nn.Linear(5, 4)), rnn.GRU(4, 2)])
    layer(tg.randn(4, 2, 3), lengths=[4, 2])


@given(lengths=st.lists(st.integers(0, 5), min_size=4, max_size=4))
def test_batch_norm_in_evaluation_treats_each_row_alone(lengths: list[int]) -> None:
    layer = normalised()
    layer(draw(6, 4, 3))
    layer.eval()
    x = draw(5, 4, 3, seed=2)
    before = layer.state_dict()
    y, _ = layer(x, lengths=lengths)
    for row, n in enumerate(lengths):
        assert np.all(y.numpy()[n:, row] == 0)
        if n:
            close(y[:n, row], layer(x[:n, row])[0], 1e-12)
    for name, value in layer.state_dict().items():
        assert np.array_equal(value, before[name])


@pytest.mark.parametrize("batch_first", [False, True])
def test_batch_norm_and_what_stands_in_the_padding(batch_first: bool) -> None:
    past = ~keep(LENGTHS)
    found = []
    for filler in (0.0, np.nan):
        layer = randomise(
            rnn.Stacked(
                [nn.BatchNorm1d(3), nn.Linear(3, 3), rnn.GRU(3, 2, batch_first=batch_first)]
            )
        )
        values = np.where(past, filler, draw(5, 4, 3).numpy())
        x = tg.tensor(values.swapaxes(0, 1) if batch_first else values, requires_grad=True)
        y, state = layer(x, lengths=LENGTHS)
        total(y, state).backward()
        found.append(
            [y.numpy(), state[2].numpy(), x.grad.numpy(), *layer.state_dict().values()]
            + [p.grad.numpy() for p in layer.parameters()]
        )
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a, b)
        assert np.all(np.isfinite(a))


def test_batch_norm_in_training_reads_nothing_on_the_host() -> None:
    layer = normalised(None).to("strict")
    with STRICT.counting() as count:
        for k in range(2):
            total(*layer(draw(5, 4, 3, seed=k, device="strict"), lengths=LENGTHS)).backward()
    assert count.host_reads == 0
    assert layer.layers[1].num_batches_tracked.item() == 2


def test_batch_norm_of_a_stream() -> None:
    layer = normalised().eval()
    xs = draw(5, 4, 3)
    state, outputs = None, []
    for x in xs:
        y, state = layer.step(x, state)
        outputs.append(y)
    close(tg.stack(outputs, 0), layer(xs)[0], 1e-12)
