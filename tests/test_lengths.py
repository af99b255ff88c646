"""``lengths=`` and ``reverse=`` on every recurrent layer: what must hold of padded batches."""

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
    close_leaves,
    draw,
    functional,
    leaves,
    mapped,
    random_state,
    randomise,
    rebuilt,
    total,
)
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn

# Every kind of layer from 3 inputs. Those that begin with "causal" can be followed as a stream.
LAYERS: dict[str, Callable[[], Any]] = {
    "causal RNN": lambda: rnn.RNN(3, 4, 2, "relu"),
    "causal LSTM": lambda: rnn.LSTM(3, 4, 2, batch_first=True, proj_size=2),
    "causal GRU": lambda: rnn.GRU(3, 4),
    "RNN, both ways": lambda: rnn.RNN(3, 4, bidirectional=True),
    "LSTM, both ways": lambda: rnn.LSTM(3, 4, 2, bidirectional=True, proj_size=2),
    "GRU, both ways": lambda: rnn.GRU(3, 4, 2, batch_first=True, bidirectional=True),
    "causal Recurrent": lambda: rnn.Recurrent(rnn.LSTMCell(3, 4)),
    "Recurrent, reversed": lambda: rnn.Recurrent(rnn.GRUCell(3, 4), True, batch_first=True),
    "causal Recurrent, nested": lambda: rnn.Recurrent(NestedCell(3, 4), batch_first=True),
    "causal Recurrent, counting": lambda: rnn.Recurrent(CountingCell(3, 4)),
    "Recurrent, counting, reversed": lambda: rnn.Recurrent(CountingCell(3, 4), reverse=True),
    "causal Stacked": lambda: rnn.Stacked(
        [nn.Linear(3, 2), rnn.Recurrent(rnn.LSTMCell(2, 5)), nn.LayerNorm(5), rnn.GRU(5, 3)]
    ),
    "causal Stacked, Linear last": lambda: rnn.Stacked(
        [rnn.LSTM(3, 2, batch_first=True), nn.Dropout(), nn.Linear(2, 4)]
    ),
    "causal Stacked, BatchNorm1d": lambda: rnn.Stacked(
        [nn.BatchNorm1d(3), rnn.GRU(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)]
    ),
    "causal Residual": lambda: rnn.Residual(rnn.GRU(3, 3, 2)),
    "causal Residual of a stack": lambda: rnn.Residual(
        rnn.Stacked([nn.Linear(3, 2), rnn.Residual(rnn.LSTM(2, 2, batch_first=True)),
                     rnn.RNN(2, 3, batch_first=True)])
    ),
    "Bidirectional": lambda: rnn.Bidirectional(
        rnn.Recurrent(rnn.GRUCell(3, 4)), rnn.Recurrent(CountingCell(3, 2))
    ),
    "Bidirectional of stacks": lambda: rnn.Bidirectional(
        rnn.Stacked([rnn.RNN(3, 4), nn.LayerNorm(4), rnn.Recurrent(NestedCell(4, 2))]),
        rnn.LSTM(3, 2, 2),
        "mean",
    ),
    "Stacked of both ways": lambda: rnn.Stacked(
        [
            rnn.Bidirectional(rnn.LSTM(3, 2), rnn.RNN(3, 2)),
            nn.Linear(4, 4),
            rnn.Residual(
                rnn.Bidirectional(
                    rnn.GRU(4, 4), rnn.Recurrent(rnn.LSTMCell(4, 4)), lambda a, b: a * b + 1
                )
            ),
        ]
    ),
}  # fmt: skip
CAUSAL = [name for name in LAYERS if name.startswith("causal")]
LENGTHS = [3, 5, 0, 1]

every_layer = pytest.mark.parametrize("name", LAYERS)
any_lengths = st.lists(st.integers(0, 5), min_size=4, max_size=4)


def made(name: str, seed: int = 0) -> Any:
    return randomise(LAYERS[name](), seed).eval()


def laid_out(layer: Any, x: tg.Tensor) -> tg.Tensor:
    """(T, B, ...) as the layer wants it, and outputs back."""
    return tg.swapaxes(x, 0, 1) if layer.batch_first else x


def rows_of(layer: Any, state: Any, chosen: slice) -> Any:
    """Some rows of a state of any layer."""
    if isinstance(layer, rnn.Stacked):
        parts = zip(layer.layers, state, strict=True)
        return tuple(None if s is None else rows_of(part, s, chosen) for part, s in parts)
    if isinstance(layer, rnn.Bidirectional):
        pair = layer.forward_layer, layer.backward_layer
        return tuple(rows_of(part, s, chosen) for part, s in zip(pair, state, strict=True))
    if isinstance(layer, rnn.Residual):
        return rows_of(layer.layer, state, chosen)
    if isinstance(layer, rnn.Recurrent):
        return mapped(lambda leaf: leaf[chosen], state)
    return mapped(lambda leaf: leaf[:, chosen], state)


def padding(lengths: list[int], steps: int = 5) -> np.ndarray:
    """(T, B): where the steps do not count."""
    return np.arange(steps)[:, None] >= np.array(lengths, int)


def gradients(layer: Any, x: tg.Tensor, state: Any) -> list[np.ndarray]:
    """The gradients of the parameters, the inputs and the floating leaves of the state."""
    values = [*layer.parameters(), x, *leaves(state)]
    return [
        np.zeros(v.shape) if v.grad is None else v.grad.numpy().copy()
        for v in values
        if v.dtype.kind == "f"
    ]


def wanting(state: Any) -> Any:
    """The same state with gradients wanted."""
    return mapped(lambda s: s.detach() if s.dtype.kind != "f" else leaf(s.numpy()), state)


def leaf(values: np.ndarray) -> tg.Tensor:
    return tg.tensor(values, requires_grad=True)


def objective(*parts: Any) -> Any:
    """A weighted sum of everything floating, so that no two elements count alike."""
    found = [part for part in leaves(parts) if part.dtype.kind == "f"]
    return sum((part * draw(*part.shape, seed=k)).sum() for k, part in enumerate(found))


# Padded batches


@every_layer
@given(lengths=any_lengths, given_state=st.booleans())
def test_a_padded_batch_equals_each_row_alone(
    name: str, lengths: list[int], given_state: bool
) -> None:
    layer = made(name)
    xs = draw(5, 4, 3)
    state = random_state(layer.initial_state(4)) if given_state else None
    y, last = layer(laid_out(layer, xs), state, lengths=lengths)
    y = laid_out(layer, y)
    begin = layer.initial_state(4) if state is None else state
    for row, n in enumerate(lengths):
        chosen = slice(row, row + 1)
        assert np.all(y.numpy()[n:, row] == 0)
        expected = rows_of(layer, begin, chosen)
        if n:
            alone, expected = layer(laid_out(layer, xs[:n, chosen]), expected)
            close(y[:n, chosen], laid_out(layer, alone), 1e-12)
        close_leaves(rows_of(layer, last, chosen), expected)


@every_layer
@pytest.mark.parametrize("filler", [np.nan, -np.inf])
def test_what_stands_in_the_padding_changes_nothing(name: str, filler: float) -> None:
    layer = made(name)
    values = draw(5, 4, 3).numpy()
    found = []
    for fill in (0.0, filler):
        x = leaf(np.where(padding(LENGTHS)[:, :, None], fill, values))
        state = wanting(random_state(layer.initial_state(4)))
        layer.zero_grad()
        results = layer(laid_out(layer, x), state, lengths=LENGTHS)
        objective(*results).backward()
        found.append([*leaves(results), *gradients(layer, x, state)])
    for clean, filled in zip(*found, strict=True):
        a, b = (v.numpy() if isinstance(v, tg.Tensor) else v for v in (clean, filled))
        assert np.array_equal(a, b)
        assert np.all(np.isfinite(a))


@every_layer
@pytest.mark.parametrize("lengths", [LENGTHS, [1, 2, 5, 0], [0, 0, 0, 4]])
def test_no_gradient_reaches_the_padding(name: str, lengths: list[int]) -> None:
    layer = made(name)
    x = draw(5, 4, 3, requires_grad=True)
    objective(*layer(laid_out(layer, x), lengths=lengths)).backward()
    g = x.grad.numpy()
    past = padding(lengths)
    assert np.all(g[past] == 0)
    if "RNN" not in name and "counting" not in name:  # a relu may be off, every other step unread
        assert np.all(np.any(g[~past] != 0, axis=-1))


@every_layer
@pytest.mark.parametrize("lengths", [LENGTHS, [0, 0, 0, 0]])
def test_a_row_of_length_0_returns_its_initial_state(name: str, lengths: list[int]) -> None:
    layer = made(name)
    x = draw(5, 4, 3, requires_grad=True)
    state = wanting(random_state(layer.initial_state(4)))
    y, last = layer(laid_out(layer, x), state, lengths=lengths)
    empty = [row for row, n in enumerate(lengths) if n == 0]
    assert np.all(laid_out(layer, y).numpy()[:, empty] == 0)
    for row in empty:
        chosen = slice(row, row + 1)
        for a, b in zip(
            leaves(rows_of(layer, last, chosen)), leaves(rows_of(layer, state, chosen)), strict=True
        ):
            assert np.array_equal(a.numpy(), b.numpy())
    objective(y, last).backward()
    assert np.all(x.grad.numpy()[:, empty] == 0)
    # The cotangent of its last state goes to its initial state unchanged.
    cotangents = objective_weights(y, last)
    for row in empty:
        chosen = slice(row, row + 1)
        have = mapped(lambda s: s.grad if s.dtype.kind == "f" else s, state)
        want = rebuilt(last, cotangents)
        for a, b in zip(
            leaves(rows_of(layer, have, chosen)), leaves(rows_of(layer, want, chosen)), strict=True
        ):
            assert a.dtype.kind != "f" or np.array_equal(a.numpy(), b.numpy())
    if not any(lengths):
        assert all(p.grad is None or np.all(p.grad.numpy() == 0) for p in layer.parameters())


def objective_weights(y: tg.Tensor, state: Any) -> list[tg.Tensor]:
    """What :func:`objective` multiplies the leaves of the state with."""
    counted = 1
    found = []
    for part in leaves(state):
        found.append(draw(*part.shape, seed=counted))
        counted += part.dtype.kind == "f"
    return found


@every_layer
def test_full_lengths_change_nothing(name: str) -> None:
    layer = made(name)
    x = laid_out(layer, draw(5, 4, 3))
    close_leaves(layer(x, lengths=[5] * 4), layer(x), 0)


@every_layer
def test_the_order_of_the_rows_does_not_matter(name: str) -> None:
    layer = made(name)
    order = [3, 0, 2, 1]
    xs = draw(5, 4, 3)
    y, _ = layer(laid_out(layer, xs), lengths=LENGTHS)
    z, _ = layer(laid_out(layer, xs[:, order]), lengths=[LENGTHS[k] for k in order])
    close(laid_out(layer, z), laid_out(layer, y)[:, order], 1e-12)


@pytest.mark.parametrize("name", CAUSAL)
@given(lengths=any_lengths, cut=st.integers(1, 4))
def test_chunks_with_lengths_equal_the_whole(name: str, lengths: list[int], cut: int) -> None:
    layer = made(name)
    xs = draw(5, 4, 3)
    whole, last = layer(laid_out(layer, xs), lengths=lengths)
    n = np.array(lengths)
    a, state = layer(laid_out(layer, xs[:cut]), lengths=np.minimum(n, cut))
    b, state = layer(laid_out(layer, xs[cut:]), state, lengths=np.maximum(n - cut, 0))
    close(tg.concat([laid_out(layer, a), laid_out(layer, b)], 0), laid_out(layer, whole), 1e-12)
    close_leaves(state, last)


# The kinds of lengths


@pytest.mark.parametrize("name", ["RNN, both ways", "causal Stacked", "causal Residual"])
@pytest.mark.parametrize("where", ["cpu", "strict"])
def test_lengths_of_every_kind(name: str, where: str) -> None:
    layer = made(name).to(where)
    x = laid_out(layer, draw(5, 4, 3, device=where))
    expected = layer(x, lengths=LENGTHS)
    kinds: list[Any] = [
        tuple(LENGTHS),
        *(np.array(LENGTHS, t) for t in (np.int8, np.uint8, np.int32, np.int64, np.uint64)),
        np.array([3, 9, 5, 9, 0, 9, 1, 9])[::2],
        tg.tensor(LENGTHS, device="cpu"),
        tg.tensor(LENGTHS, device=where),
        tg.tensor(LENGTHS, np.int32, device=where).data,
    ]
    for kind in kinds:
        close_leaves(layer(x, lengths=kind), expected, 0)


def test_lengths_beyond_the_range_of_their_dtype() -> None:
    layer = randomise(rnn.RNN(1, 1))
    x = draw(300, 1, 1)
    close_leaves(layer(x, lengths=np.array([200], np.uint8)), layer(x, lengths=[200]), 0)


@every_layer
def test_lengths_on_the_device_are_read_once(name: str) -> None:
    layer = made(name).to("strict")
    x = laid_out(layer, draw(5, 4, 3, device="strict"))
    lengths = tg.tensor(LENGTHS, device="strict")
    for given_lengths, reads in ((LENGTHS, 0), (lengths, 1)):
        with STRICT.counting() as count:
            total(*layer(x, lengths=given_lengths)).backward()
        assert count.host_reads == reads


@pytest.mark.parametrize("lengths", [[], np.zeros(0, int)])
@every_layer
def test_no_rows(name: str, lengths: Any) -> None:
    layer = made(name)
    x = draw(5, 0, 3, requires_grad=True)
    y, state = layer(laid_out(layer, x), lengths=lengths)
    total(y, state).backward()
    assert laid_out(layer, y).shape[:2] == (5, 0)


# Direction


@every_layer
@given(lengths=st.none() | any_lengths, given_state=st.booleans())
def test_reverse_is_flip_run_and_flip(
    name: str, lengths: list[int] | None, given_state: bool
) -> None:
    layer = made(name)
    xs = draw(5, 4, 3)
    state = random_state(layer.initial_state(4)) if given_state else None
    counts = [5] * 4 if lengths is None else lengths

    def flipped(x: tg.Tensor) -> tg.Tensor:
        """Each row turned round within its own length."""
        order = np.arange(5)[:, None] + np.zeros(4, int)
        for row, n in enumerate(counts):
            order[:n, row] = order[:n, row][::-1]
        return x[order, np.arange(4)]

    y, last = layer(laid_out(layer, xs), state, lengths=lengths, reverse=True)
    z, expected = layer(laid_out(layer, flipped(xs)), state, lengths=lengths)
    close(laid_out(layer, y), flipped(laid_out(layer, z)), 1e-12)
    close_leaves(last, expected)


@pytest.mark.parametrize("name", ["causal LSTM", "LSTM, both ways", "causal Stacked"])
def test_a_reversed_run_twice_is_a_forward_run(name: str) -> None:
    layer = made(name)
    x = laid_out(layer, draw(5, 4, 3))
    whole = rnn.Bidirectional(layer, layer, lambda a, b: b)
    close_leaves(whole(x, reverse=True)[0], layer(x)[0], 0)
    close_leaves(whole(x, lengths=LENGTHS, reverse=True)[0], layer(x, lengths=LENGTHS)[0], 0)


def test_reversed_recurrent_reads_the_future_only() -> None:
    layer = randomise(rnn.Recurrent(rnn.GRUCell(3, 4), reverse=True))
    for t in range(5):
        x = draw(5, 2, 3, requires_grad=True)
        total(layer(x)[0][t]).backward()
        touched = np.any(x.grad.numpy() != 0, axis=(1, 2))
        assert touched.tolist() == [k >= t for k in range(5)]
    assert repr(layer).startswith("Recurrent(reverse)")


# Derivatives


@pytest.mark.parametrize(
    "name", ["GRU, both ways", "causal Residual of a stack", "Stacked of both ways"]
)
def test_gradients_with_lengths(name: str, device: str) -> None:
    layer = made(name).to(device)
    state = random_state(layer.initial_state(3))
    lengths = [2, 0, 3]
    function, parameters = functional(
        layer, lambda x, *values: layer(x, rebuilt(state, values), lengths=lengths)
    )
    x = laid_out(layer, draw(3, 3, 3, device=device))
    assert tg.check_gradients(function, [*parameters, x, *leaves(state)])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_partial_use_of_the_results(name: str, lengths: list[int] | None) -> None:
    """The gradients of everything together are the sum of those of each result alone."""
    layer = made(name)
    x = draw(5, 4, 3, requires_grad=True)
    state = wanting(random_state(layer.initial_state(4)))

    def results() -> list[Any]:
        found = layer(laid_out(layer, x), state, lengths=lengths)
        y = laid_out(layer, found[0])
        return [y[:-1], y[-1], *(s for s in leaves(found[1]) if s.dtype.kind == "f")]

    def of(select: Callable[[list[Any]], list[Any]]) -> list[np.ndarray]:
        layer.zero_grad()
        for value in [x, *leaves(state)]:
            value.grad = None
        total(*select(results())).backward()
        return gradients(layer, x, state)

    whole = of(lambda parts: parts)
    singles = [of(lambda parts, k=k: [parts[k]]) for k in range(len(results()))]
    for k, g in enumerate(whole):
        assert np.all(np.isfinite(g))
        close(sum(single[k] for single in singles), g, 1e-12)


# Streams


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("given_state", [False, True])
def test_a_stream_of_steps_equals_the_whole_run(name: str, given_state: bool) -> None:
    layer = made(name)
    xs = draw(5, 4, 3)
    state = random_state(layer.initial_state(4)) if given_state else None
    y, last = layer(laid_out(layer, xs), state)
    outputs = []
    for x in xs:
        one, state = layer.step(x, state)
        outputs.append(one)
    close(tg.stack(outputs, 0), laid_out(layer, y), 1e-12)
    close_leaves(state, last)


@pytest.mark.parametrize("name", CAUSAL)
def test_gradients_of_a_stream(name: str) -> None:
    layer = made(name)
    found = []
    for stream in (False, True):
        x = draw(5, 4, 3, requires_grad=True)
        layer.zero_grad()
        if stream:
            state, outputs = None, []
            for one in x:
                one, state = layer.step(one, state)
                outputs.append(one)
            y = tg.stack(outputs, 0)
        else:
            y, state = layer(laid_out(layer, x))
            y = laid_out(layer, y)
        objective(y, state).backward()
        found.append(gradients(layer, x, None))
    for a, b in zip(*found, strict=True):
        close(a, b, 1e-12)


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in CAUSAL])
def test_what_reads_the_future_follows_no_stream(name: str) -> None:
    with pytest.raises(ValueError, match="a stream has no end to begin"):
        made(name).step(draw(4, 3))


# Without a batch


@every_layer
@pytest.mark.parametrize(
    ("given_state", "reverse", "lengths"),
    [
        (False, False, None),
        (True, False, 3),
        (True, True, None),
        (True, False, 0),
        (False, True, 5),
    ],
)
def test_without_a_batch(name: str, given_state: bool, reverse: bool, lengths: int | None) -> None:
    layer = made(name)
    xs = draw(5, 1, 3)
    options = {"reverse": reverse, "lengths": None if lengths is None else [lengths]}
    begin = random_state(layer.initial_state(1)) if given_state else None
    y, last = layer(laid_out(layer, xs), begin, **options)
    single = None if begin is None else without_batch(layer, begin)
    z, found = layer(xs[:, 0], single, **options)
    close(z, laid_out(layer, y)[:, 0], 1e-12)
    close_leaves(found, without_batch(layer, last))


def without_batch(layer: Any, state: Any) -> Any:
    """A state of one row without its batch axis."""
    if isinstance(layer, rnn.Stacked):
        parts = zip(layer.layers, state, strict=True)
        return tuple(None if s is None else without_batch(part, s) for part, s in parts)
    if isinstance(layer, rnn.Bidirectional):
        pair = layer.forward_layer, layer.backward_layer
        return tuple(without_batch(part, s) for part, s in zip(pair, state, strict=True))
    if isinstance(layer, rnn.Residual):
        return without_batch(layer.layer, state)
    if isinstance(layer, rnn.Recurrent):
        return mapped(lambda s: s[0], state)
    return mapped(lambda s: s[:, 0], state)


# States


@every_layer
def test_detach(name: str) -> None:
    layer = made(name)
    x = laid_out(layer, draw(5, 4, 3, requires_grad=True))
    _, state = layer(x, lengths=LENGTHS)
    cut = rnn.detach(state)
    close_leaves(cut, state, 0)
    assert repr(mapped(lambda s: 0, cut)) == repr(mapped(lambda s: 0, state))
    for a, b in zip(leaves(cut), leaves(state), strict=True):
        assert a.is_leaf
        assert not a.requires_grad
        assert a.data is b.data
    layer.zero_grad()
    first = layer.parameters()[0]
    objective(*layer(laid_out(layer, draw(5, 4, 3)), cut)).backward()
    assert first.grad is not None


def test_detach_of_containers() -> None:
    x = draw(2, requires_grad=True) * 2
    state = rnn.detach({"a": [x, (x, None)], "b": rnn.LSTMState(x, x)})
    assert type(state["b"]) is rnn.LSTMState
    assert state["a"][1][1] is None
    assert not state["a"][1][0].requires_grad
    assert rnn.detach(None) is None


def test_a_counter_counts_the_steps_of_each_row() -> None:
    for reverse in (False, True):
        layer = randomise(rnn.Recurrent(CountingCell(3, 4), reverse))
        _, state = layer(draw(5, 4, 3), lengths=LENGTHS)
        assert state.t.dtype == np.int64
        assert state.t.tolist() == [[n] for n in LENGTHS]
        _, state = layer(draw(5, 4, 3), state, lengths=[1, 0, 2, 5])
        assert state.t.tolist() == [[4], [5], [2], [6]]
