"""Following a stream: calls like an earlier one are quick, and give what the first one gives."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import ops, rnn, tape
from tinygrad_rnn.tape import leaves

B, I, H = 2, 3, 5

LAYERS: dict[str, Callable[[], Any]] = {
    "RNN": lambda: rnn.RNN(I, H),
    "LSTM": lambda: rnn.LSTM(I, H),
    "LSTM, stacked": lambda: rnn.LSTM(I, H, num_layers=3),
    "LSTM, projected": lambda: rnn.LSTM(I, H, num_layers=2, proj_size=4),
    "GRU": lambda: rnn.GRU(I, H, num_layers=2),
    "Recurrent": lambda: rnn.Recurrent(rnn.LSTMCell(I, H)),
    "Recurrent, nested": lambda: rnn.Recurrent(Nested()),
}


class Nested(rnn.Cell):
    """A state in containers, a part of which stays as it was, and a rate that can be assigned."""

    def __init__(self) -> None:
        self.input_size, self.hidden_size = 3, 5  # a global number would keep it from being known
        self.weight = tg.nn.Parameter(np.random.default_rng(1).normal(size=(5, 3)).astype("f"))
        self.rate = 0.5

    def initial_state(self, batch_size: int) -> Any:
        h = self.zeros(batch_size, 5)
        return {"h": h, "rest": (h + 1, [h - 1])}

    def step(self, x: Any, state: Any) -> Any:
        fixed, [moving] = state["rest"]
        h = self.rate * state["h"] + tg.linear(x, self.weight) * fixed
        return h + moving, {"h": h, "rest": (fixed, [tg.tanh(moving + h)])}


class Owner:
    layer: Any


class TwoOutputs(rnn.Cell):
    """Outputs in a tuple."""

    pure = True

    def __init__(self) -> None:
        self.input_size = self.hidden_size = I

    def initial_state(self, batch_size: int) -> Any:
        return tg.zeros((batch_size, I))

    def step(self, x: Any, state: Any) -> Any:
        h = tg.tanh(x + state)
        return (h, 2 * h), h


def draw(*shape: int, seed: int = 0) -> Any:
    return tg.tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def values(tree: Any) -> list[np.ndarray]:
    return [leaf.numpy().copy() for leaf in leaves(tree)]


def assert_same(found: Any, expected: Any) -> None:
    for a, b in zip(values(found), values(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def recorded(call: Callable[..., Any], *inputs: Any) -> Any:
    """The call in the mode in which nothing is remembered."""
    with tg.enable_grad():
        return call(*inputs)


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> Any:
    return LAYERS[request.param]()


def test_a_stream_gives_what_the_sequence_gives(layer: Any) -> None:
    x = draw(6, B, I)
    state = layer.initial_state(B)
    expected, end = recorded(layer, x, state)
    with tg.no_grad():
        outputs, by_step, by_call = [], state, state
        for t in range(6):
            y, by_step = layer.step(x[t], by_step)
            again, by_call = layer(x[t : t + 1], by_call)
            assert_same(again[0], y)
            outputs.append(y)
    assert_same(tg.stack(outputs), expected)
    assert_same((by_step, by_call), (end, end))
    kinds = [type(part) for part in (by_step, by_call, end)]
    assert kinds[0] is kinds[1] is kinds[2]


def test_results_share_no_memory(layer: Any) -> None:
    x, state = draw(1, B, I), layer.initial_state(B)
    kept: list[Any] = []
    with tg.no_grad():
        for _ in range(4):
            kept.append(layer(x, state))
            kept.append(layer.step(x[0], state))
    first = values(kept[0])
    arrays = [leaf.array for found in kept for leaf in leaves(found)]
    given = [x.array, *(leaf.array for leaf in leaves(state))]
    for k, array in enumerate(arrays):
        assert not any(np.shares_memory(array, other) for other in (*arrays[:k], *given))
        array[...] = np.nan
    with tg.no_grad():
        assert_same(layer(x, state), [tg.tensor(v) for v in first])
    assert not any(np.isnan(array).any() for array in given)


def test_new_values_of_parameters_are_seen(layer: Any) -> None:
    x, state = draw(1, B, I), layer.initial_state(B)

    def check() -> None:
        expected = recorded(layer, x, state)
        for _ in range(2):
            assert_same(layer(x, state), expected)
            assert_same(layer.step(x[0], state), (expected[0][0], expected[1]))

    with tg.no_grad():
        check()
        for parameter in layer.parameters():  # the array replaced
            parameter.replace_array(parameter.array * 1.5)
        check()
        for parameter in layer.parameters():  # its elements overwritten
            parameter.array[...] *= 0.5
        check()
        layer.load_state_dict({k: v + 0.25 for k, v in layer.state_dict().items()})
        check()
        for parameter in layer.parameters():  # an array that no product takes as it is
            parameter.replace_array(np.asfortranarray(parameter.array))
        check()


def test_a_parameter_assigned_anew_is_seen() -> None:
    layer, x = rnn.LSTM(I, H), draw(1, B, I)
    state = layer.initial_state(B)
    with tg.no_grad():
        layer(x, state)
        layer.weight_hh_l0 = tg.nn.Parameter(layer.weight_hh_l0.array + 1)
        assert_same(layer(x, state), recorded(layer, x, state))


def test_attributes_of_the_cell_and_of_the_layer_are_seen() -> None:
    cell = Nested()
    layer, x = rnn.Recurrent(cell), draw(1, B, I)
    with tg.no_grad():
        state = layer(x)[1]
        before = values(layer(x, state))
        cell.rate = 2.0
        after = layer(x, state)
        assert not np.allclose(values(after)[0], before[0])
        assert_same(after, recorded(layer, x, state))
        layer.batch_first = True
        assert_same(layer(x.swapaxes(0, 1), state)[0].swapaxes(0, 1), after[0])
        with pytest.raises(ValueError, match="state"):
            layer(draw(3, 1, I), state)


def test_dropout_between_layers_follows_train_and_eval() -> None:
    layer = rnn.GRU(I, 64, num_layers=2, dropout=0.5)
    x = draw(1, B, I)
    with tg.no_grad():
        state = layer(x)[1]
        for _ in range(2):
            layer.train()
            a, b = (layer.step(x[0], state)[0].numpy() for _ in range(2))
            assert not np.array_equal(a, b)
            layer.eval()
            a, b = (layer.step(x[0], state)[0].numpy() for _ in range(2))
            assert np.array_equal(a, b)


def test_random_numbers_are_drawn_at_each_step() -> None:
    class Noisy(rnn.RNNCell):
        def step(self, x: Any, state: Any) -> Any:
            return super().step(ops.dropout(x, 0.5), state)

    layer, x = rnn.Recurrent(Noisy(64, H)), draw(B, 64)
    with tg.no_grad():
        state = layer.initial_state(B)
        ys = [layer.step(x, state)[0].numpy() for _ in range(4)]
    assert all(not np.array_equal(ys[0], y) for y in ys[1:])


def test_both_directions_of_a_short_sequence() -> None:
    layer, x = rnn.LSTM(I, H, num_layers=2, bidirectional=True), draw(2, B, I)
    state = layer.initial_state(B)
    expected = recorded(layer, x, state)
    with tg.no_grad():
        for _ in range(3):
            assert_same(layer(x, state), expected)


def test_mixed_shapes_and_dtypes(layer: Any) -> None:
    with tg.no_grad():
        for _ in range(3):
            for steps, batch in ((1, 1), (1, B), (3, 1), (2, 4), (5, B)):
                x, state = draw(steps, batch, I), layer.initial_state(batch)
                assert_same(layer(x, state), recorded(layer, x, state))
        layer.to(np.float64)
        x, state = draw(1, B, I).to(np.float64), layer.initial_state(B)
        assert all(leaf.dtype == np.float64 for leaf in leaves(layer(x, state)))


def test_what_is_refused_stays_refused(layer: Any) -> None:
    x, state = draw(1, B, I), layer.initial_state(B)
    with tg.no_grad():
        for _ in range(2):
            layer(x, state)
            layer.step(x[0], state)
        with pytest.raises(ValueError, match="inputs must have shape"):
            layer.step(x, state)
        with pytest.raises(TypeError, match="inputs must be float32"):
            layer(x.to(np.float64), state)
        with pytest.raises(ValueError, match="the state must be"):
            layer(x, layer.initial_state(B + 1))
        with pytest.raises((ValueError, TypeError), match="the state must be"):
            layer(x[0], state)


@pytest.mark.parametrize("switch", [tg.no_grad, tg.enable_grad])
def test_two_layers_that_become_two_directions(switch: Any) -> None:
    layer, x = rnn.RNN(H, H, num_layers=2), draw(4, B, H)
    cells = [rnn.Recurrent(cell, reverse=k == 1) for k, cell in enumerate(layer.cells())]
    with switch():
        layer(x)
        layer.bidirectional = True
        assert_same(layer(x)[0], tg.concat([each(x)[0] for each in cells], -1))


@pytest.mark.parametrize("switch", [tg.no_grad, tg.enable_grad])
@pytest.mark.parametrize("unroll", [False, True])
def test_outputs_in_a_tuple_in_every_layout(unroll: bool, switch: Any) -> None:
    x, h = draw(4, B, I), draw(B, I, seed=1)
    layer, first = rnn.Recurrent(TwoOutputs(), unroll=unroll), None
    turned = rnn.Recurrent(TwoOutputs(), unroll=unroll, batch_first=True)
    with switch():
        for _ in range(2):
            found, last = layer(x, h)
            first = found if first is None else first
            assert_same((found, last), (first, first[0][3]))
            assert_same(turned(tg.swapaxes(x, 0, 1), h)[0], [tg.swapaxes(y, 0, 1) for y in first])
            assert_same(layer(x[:, 1], h[1])[0], [y[:, 1] for y in first])
            assert_same(layer.step(x[0], h)[0], [y[0] for y in first])


def test_observers_and_gradients_see_a_remembered_call() -> None:
    layer, x = rnn.LSTM(I, H), draw(1, B, I)
    names: list[str] = []

    class Names(tape.Observer):
        def after_forward(self, record: Any) -> None:
            names.append(record.primitive.name)

    state = layer.initial_state(B)
    with tg.no_grad():
        layer(x, state)
        layer(x, state)
        with tape.observe(Names()):
            layer(x, state)
    assert "scan" in names
    layer(x, state)[0].sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_threads_follow_streams_of_their_own(layer: Any) -> None:
    x = [draw(40, B, I, seed=k) for k in range(4)]
    start = layer.initial_state(B)
    expected = [recorded(layer, one, start)[0].numpy() for one in x]
    found: list[Any] = [None] * 4

    def follow(k: int) -> None:
        outputs, state = [], start
        with tg.no_grad():
            for t in range(40):
                y, state = layer.step(x[k][t], state)
                outputs.append(y.numpy())
        found[k] = np.stack(outputs)

    threads = [threading.Thread(target=follow, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_memory_stays_flat_over_a_stream(layer: Any) -> None:
    x, state = draw(B, I), layer.initial_state(B)

    def follow(state: Any, steps: int) -> Any:
        for k in range(steps):
            _, state = layer.step(x, state)
            if k % 50 == 0:
                for parameter in layer.parameters():
                    parameter.replace_array(parameter.array.copy())
        return state

    with tg.no_grad():
        state = follow(state, 200)
        tracemalloc.start()
        state = follow(state, 1000)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        follow(state, 1000)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert after - before < 20_000


@pytest.mark.parametrize("switch", [tg.no_grad, tg.enable_grad])
def test_a_dropped_layer_is_freed_and_what_it_was_given(switch: Any) -> None:
    layer: Any = rnn.LSTM(I, H)
    x, state = draw(1, B, I), layer.initial_state(B)
    layer.owner = Owner()
    layer.owner.layer = layer  # a circle that the memory of calls must not hold
    layer.kept = tg.zeros(3)
    kept = weakref.ref(layer.kept)
    with switch():
        for _ in range(3):
            layer(x, state)
    del layer.kept
    assert kept() is None
    gone = [weakref.ref(layer), *(weakref.ref(p.array) for p in layer.parameters())]
    del layer
    gc.collect()
    assert [ref() for ref in gone] == [None] * len(gone)


def test_a_probe_of_other_steps_is_refused_in_a_known_call() -> None:
    layer = rnn.Recurrent(rnn.RNNCell(I, H))
    probe = tg.zeros((5, B, H))
    for _ in range(2):
        layer(draw(5, B, I), probe=probe)
    with pytest.raises(ValueError, match="probe must be"):
        layer(draw(7, B, I), probe=probe)
