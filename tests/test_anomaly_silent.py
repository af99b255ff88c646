"""Masks and infinities that are meant: ordinary models in which no anomaly is found."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import CELLS, draw, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn
from tinygrad_rnn.optim import SGD

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

T, B, I, H = 6, 3, 4, 5
LENGTHS = [6, 0, 3]


def padded() -> tg.Tensor:
    """Inputs that are nan past the end of each sequence."""
    x = draw(T, B, I, requires_grad=True)
    for b, length in enumerate(LENGTHS):
        x.array[length:, b] = math.nan
    return x


def scores() -> tg.Tensor:
    return draw(B, T, T, requires_grad=True)


def valid() -> tg.Tensor:
    return tg.tensor(np.arange(T)[None, None] < np.array(LENGTHS)[:, None, None])


def attention_with_a_mask_that_is_added() -> Any:
    mask = np.where(np.tril(np.ones((T, T))), 0.0, -math.inf)
    return tg.softmax(scores() + tg.tensor(mask)) @ draw(B, T, H)


def attention_over_rows_without_anything() -> Any:
    return tg.softmax(tg.where(valid(), scores(), -math.inf)) @ draw(B, T, H)


def a_mask_that_is_a_logarithm() -> Any:
    return tg.softmax(scores() + tg.log(valid().astype(np.float64)))


def the_logarithm_of_a_softmax_that_is_masked() -> Any:
    """Classes that are masked are at -inf, and the labels are others."""
    allowed = tg.tensor([True, True, False, True])
    logits = tg.where(allowed, draw(T, I, requires_grad=True), -math.inf)
    return nn.cross_entropy(logits, [0, 1, 3, 0, 1, 3])


def a_log_softmax_that_is_masked_and_picked() -> Any:
    logits = tg.where(tg.tensor([True, False, True, True]), draw(T, I, requires_grad=True), -np.inf)
    logs = tg.log_softmax(logits)
    return tg.where(tg.isfinite(logs), logs, 0.0)


def logsumexp_with_nothing_in_it() -> Any:
    y = tg.logsumexp(tg.where(valid(), scores(), -math.inf), -1)
    return tg.where(y == -math.inf, 0.0, y)


def the_forward_algorithm_in_logarithms() -> Any:
    """As in CTC: most states cannot be reached at first."""
    start = tg.tensor(np.where(np.arange(H) == 0, 0.0, -math.inf))
    moves = tg.tensor(np.where(np.triu(np.ones((H, H))), 0.0, -math.inf))
    emitted = draw(T, H, requires_grad=True)

    def step(x: Any, a: Any) -> Any:
        a = tg.logsumexp(tg.expand_dims(a, 1) + moves, 0) + x
        return a, a

    return tg.scan(step, emitted, start)[1][-1]


def the_best_path() -> Any:
    start = tg.tensor(np.where(np.arange(H) == 0, 0.0, -math.inf))
    moves = tg.tensor(np.where(np.triu(np.ones((H, H))), 0.0, -math.inf))

    def step(x: Any, a: Any) -> Any:
        a = tg.max(tg.expand_dims(a, 1) + moves, 0) + x
        return a, a

    return tg.scan(step, draw(T, H, requires_grad=True), start)[1][-1]


def the_largest_so_far() -> Any:
    def step(x: Any, top: Any) -> Any:
        top = tg.maximum(top, x)
        return top, top

    return tg.scan(step, draw(T, H, requires_grad=True), tg.full(H, -math.inf).astype(float))[0]


def the_smallest_so_far_unrolled() -> Any:
    low: Any = tg.full(H, math.inf).astype(float)
    for x in draw(T, H, requires_grad=True):
        low = tg.minimum(low, x)
    return low


def pooling_over_time_with_lengths() -> Any:
    y, _ = randomise(rnn.LSTM(I, H))(padded(), lengths=LENGTHS)
    there = tg.expand_dims(tg.tensor(np.arange(T)[:, None] < np.array(LENGTHS)), -1)
    top = tg.max(tg.where(there, y, -math.inf), 0)
    return tg.where(tg.isfinite(top), top, 0.0)


def padding_that_is_nan() -> Any:
    y, _ = randomise(rnn.LSTM(I, H, 2, bidirectional=True))(padded(), lengths=LENGTHS)
    return y


def padding_that_is_nan_unrolled() -> Any:
    y, _ = randomise(rnn.GRU(I, H, bidirectional=True, unroll=True))(padded(), lengths=LENGTHS)
    return y


def padding_that_is_nan_in_a_stack_with_batch_norm() -> Any:
    layers = [rnn.Recurrent(rnn.GRUCell(I, H)), nn.BatchNorm1d(H), rnn.LSTM(H, H)]
    return randomise(rnn.Stacked(layers))(padded(), lengths=LENGTHS)[0]


def padding_that_is_nan_in_a_loss() -> Any:
    x = padded()
    there = np.isfinite(x.numpy())
    return nn.mse_loss(tg.where(tg.tensor(there), x, 0.0), tg.zeros((T, B, I)), mask=there)


def a_mean_over_what_is_there() -> Any:
    x = padded()
    there = tg.isfinite(x)
    count = tg.sum(there, 0)
    return tg.sum(tg.where(there, x, 0.0), 0) / tg.where(count == 0, 1, count)


def a_where_around_both() -> Any:
    x = tg.tensor([0.0, 1.0, 4.0], requires_grad=True)
    return tg.where(x > 0, tg.log(tg.where(x > 0, x, 1.0)), 0.0)


def a_branch_that_is_not_taken_and_not_differentiated() -> Any:
    x = tg.tensor([0.0, -1.0, 4.0])
    w = tg.ones(3, requires_grad=True)
    return w * tg.where(x > 0, tg.log(x), 0.0)


def comparisons_with_infinities() -> Any:
    x = tg.tensor([0.0, 1.0, 4.0], requires_grad=True)
    edges = tg.tensor([-math.inf, 0.5, math.inf])
    inside = (edges[:-1] <= tg.expand_dims(x, -1)) & (tg.expand_dims(x, -1) < edges[1:])
    return x * tg.sum(inside * tg.tensor([1.0, 2.0]), -1)


def limits_that_are_none() -> Any:
    return tg.clip(draw(T, requires_grad=True), -1.0, math.inf) + tg.clip(draw(T), None, 1.0)


def what_saturates() -> Any:
    x = tg.tensor([-math.inf, math.inf, 1.0])
    w = tg.ones(3, requires_grad=True)
    return w * (tg.sigmoid(x) + tg.tanh(x) + tg.exp(-tg.abs(x)) + tg.erf(x) + 1 / (1 + x * x))


def a_norm_at_nought() -> Any:
    x = tg.zeros((B, H), requires_grad=True)
    return x / tg.maximum(tg.norm(x, axis=-1, keepdims=True), 1e-8)


def scores_at_infinity_written_by_index() -> Any:
    x = draw(B, H, requires_grad=True).at[:, 2].set(-math.inf)
    return tg.softmax(x)


def half_precision_with_a_scale() -> Any:
    layer = nn.Linear(I, H).to(np.float16)
    y = layer(draw(B, I).astype(np.float16))
    return SGD(layer.parameters(), lr=0.1).scaled(tg.mean(y * y))


def what_is_sampled() -> Any:
    """The largest scores are kept, the others are at -inf."""
    x = draw(B, 9)
    least = tg.tensor(np.sort(x.numpy())[:, -3:-2])
    return tg.softmax(tg.where(x >= least, x, -math.inf)) * tg.ones(9, requires_grad=True)


def a_checkpointed_mask() -> Any:
    function = tg.checkpoint(lambda s: tg.softmax(tg.where(valid(), s, -math.inf)))
    return function(scores())


def a_function_of_a_cell_of_the_users_own() -> Any:
    """Attention over what the cell was given so far, in a replayed loop."""
    memory = draw(B, T, H)

    def step(x: Any, h: Any) -> Any:
        weights = tg.softmax(tg.where(x, tg.sum(memory * tg.expand_dims(h, 1), -1), -math.inf))
        h = tg.tanh(tg.sum(tg.expand_dims(weights, -1) * memory, 1) + h)
        return h, h

    there = tg.tensor(np.random.default_rng(0).random((T, B, T)) > 0.6)
    return tg.scan(step, there, draw(B, H, requires_grad=True))[0]


ORDINARY: list[Callable[[], Any]] = [
    value for name, value in globals().items()
    if callable(value) and getattr(value, "__module__", "") == __name__
    and name not in ("padded", "scores", "valid")
]  # fmt: skip


def test_there_are_enough_of_them() -> None:
    assert len(ORDINARY) > 24


@pytest.mark.parametrize("model", ORDINARY, ids=lambda f: f.__name__)
def test_ordinary_models_pass(model: Any) -> None:
    with lab.detect_anomaly():
        y = model()
        assert np.isfinite(y.numpy()).all()
        tg.sum(y).backward()


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("unroll", [False, True])
def test_every_cell_passes_with_padding(name: str, unroll: bool) -> None:
    cell = randomise(CELLS[name](I, H + 1 if name == "clockwork" else H), scale=0.3)
    layer = rnn.Recurrent(cell, unroll=unroll)
    with tg.replay.using(jit=False), lab.detect_anomaly():
        layer(padded(), lengths=LENGTHS)[0].sum().backward()


def test_infinities_alone_are_no_fault() -> None:
    """Nobody has said that they are not wanted, as long as no operation made them."""
    with lab.detect_anomaly():
        x = tg.full((2, 3), -math.inf)
        tg.log_softmax(tg.where(tg.tensor([True, False, True]), tg.zeros(3), x))
        tg.max(x, -1)
        tg.logsumexp(x)
        x + 1.0


REMEDIES: dict[str, Callable[[Any], Any]] = {
    "log": lambda x: tg.log(tg.maximum(x, 1e-12)),
    "sqrt": lambda x: tg.sqrt(tg.maximum(x, 0)),
    "root": lambda x: tg.sqrt(tg.relu(x) + 1e-12),
    "power": lambda x: tg.maximum(x, 0.0) ** 0.5,
    "clip": lambda x: tg.sqrt(tg.clip(x, 0.0, 9.0)),
    "divide": lambda x: 1.0 / tg.where(x == 0, 1, x),
    "branch": lambda x: tg.where(x > 0, tg.log(tg.where(x > 0, x, 1.0)), 0.0),
    "norm": lambda x: x / (tg.norm(x - x) + 1e-8),
}


@pytest.mark.parametrize("name", REMEDIES)
@pytest.mark.parametrize("loop", ["no", "replayed", "unrolled"])
def test_what_is_advised_passes(name: str, loop: str) -> None:
    """Also where a gradient is infinite on its way to an operation that drops it."""
    remedy = REMEDIES[name]
    x = tg.tensor(np.array([[-1.0, 4.0], [-2.0, 1.0]]), requires_grad=True)

    def run() -> Any:
        y = x * 1.5  # no leaf
        if loop == "no":
            return remedy(y)
        h0 = tg.tensor(0.0).astype(np.float64)
        return tg.scan(lambda x, h: (remedy(x), h), y, h0, unroll=loop == "unrolled")[0]

    with lab.detect_anomaly():
        run().sum().backward()
    assert x.grad is not None
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("unroll", [False, True])
def test_an_infinite_gradient_that_is_dropped_beside_one_that_is_not(unroll: bool) -> None:
    """The latter is told, though the walk comes to the former before."""
    x = tg.tensor(np.array([4.0, 0.0, -1.0]), requires_grad=True)

    def step(x: Any, h: Any) -> Any:
        return tg.sqrt(tg.maximum(x, -0.5) + 0.5) + tg.sqrt(x + 1.0), h

    h0 = tg.tensor(0.0).astype(np.float64)
    with pytest.raises(lab.AnomalyError) as error, lab.detect_anomaly():
        tg.scan(step, x * 1.0, h0, unroll=unroll)[0].sum().backward()
    assert (error.value.operation, error.value.step) == ("sqrt", 2)
    assert error.value.backward


def test_an_infinite_gradient_that_is_asked_for() -> None:
    x = tg.tensor([4.0, 0.0], requires_grad=True)

    def run() -> None:
        y = tg.maximum(x - 1.0, 0.0)
        y.retain_grad()
        tg.sqrt(y).sum().backward()

    told = r"^sqrt, backwards: its gradient rule gives inf"
    with pytest.raises(lab.AnomalyError, match=told), lab.detect_anomaly():
        run()


@pytest.mark.parametrize("unroll", [False, True])
def test_moves_that_a_parameter_forbids(unroll: bool) -> None:
    """Nobody reads the scores of the first steps, in which most states cannot be reached."""
    free = np.eye(H) + np.eye(H, k=1) > 0
    moves = nn.Parameter(np.where(free, 0.1, -math.inf))
    start = nn.Parameter(np.where(np.arange(H) == 0, 0.0, -math.inf))
    emitted = draw(T, H, requires_grad=True)

    def step(x: Any, a: Any) -> Any:
        a = tg.logsumexp(tg.expand_dims(a, 1) + moves, 0) + x
        return a, a

    with lab.detect_anomaly():
        _, a = tg.scan(step, emitted[1:], start + emitted[0], unroll=unroll)
        tg.logsumexp(a).backward()
    for p in (moves, start, emitted):
        assert p.grad is not None
        assert np.isfinite(p.grad.numpy()).all()

    with pytest.raises(lab.AnomalyError, match=r"^the variable start of ") as error:
        lab.detect_anomaly()(lambda: (start * 0.0).sum().backward())()
    assert "nan comes of it in multiply" in str(error.value)
