"""Calls that PyTorch and NumPy read in two ways: nobody guesses, and a sentence names both.

test_ports.py compares with PyTorch; here the right values are found by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import close, draw, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, rnn


def likelihood(logits: np.ndarray, axis: int) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis, keepdims=True))


def test_fault_8_classes_that_fit_on_two_axes_are_not_guessed() -> None:
    logits, labels = draw(2, 3, 3), np.array([[0, 2, 1], [1, 1, 0]])
    for loss in (nn.cross_entropy, nn.CrossEntropyLoss()):
        with pytest.raises(ValueError, match=r"^cross_entropy: .* write axis=1 or axis=-1$"):
            loss(logits, labels)
    for axis in (1, -1):
        taken = np.take_along_axis(
            likelihood(logits.numpy(), axis), np.expand_dims(labels, axis), axis
        )
        close(nn.cross_entropy(logits, labels, axis=axis), -taken.mean())
        close(nn.CrossEntropyLoss(axis=axis)(logits, labels), -taken.mean())


def test_fault_8_what_fits_one_reading_is_read_so() -> None:
    logits, labels = draw(2, 3, 4, 5), np.array([0, 2, 1, 1] * 10).reshape(2, 4, 5) % 3
    expected = nn.cross_entropy(tg.moveaxis(logits, 1, -1), labels, axis=-1)
    close(nn.cross_entropy(logits, labels), expected)
    close(nn.cross_entropy(logits, labels, axis=1), expected)
    close(nn.cross_entropy(tg.moveaxis(logits, 1, -1), labels), expected)
    close(nn.cross_entropy(tg.moveaxis(logits, 1, 2), labels, axis=2), expected)
    with pytest.raises(ValueError, match=r"^cross_entropy: logits with classes on axis -1 .*fit: "):
        nn.cross_entropy(logits, labels, axis=-1)
    with pytest.raises(IndexError, match=r"^cross_entropy: axis 4 is out of range"):
        nn.cross_entropy(logits, labels, axis=4)


def test_fault_11i_the_first_argument_is_the_weight_of_classes(device: str) -> None:
    logits, labels = draw(4, 3, device=device), np.array([0, 2, -100, 1])
    weight = np.array([0.5, 2.0, 3.0])
    kept, losses = labels[labels >= 0], -likelihood(logits.numpy(), 1)
    each = losses[[0, 1, 3], kept] * weight[kept]
    loss = nn.CrossEntropyLoss(weight.tolist()).to(device)
    close(loss(logits, labels), each.sum() / weight[kept].sum())
    close(nn.cross_entropy(logits, labels, weight, reduction="sum"), each.sum())
    spread = (losses[[0, 1, 3]] * weight).mean(1)
    smoothed = nn.cross_entropy(logits, labels, weight, label_smoothing=0.1)
    close(smoothed, (0.9 * each + 0.1 * spread).sum() / weight[kept].sum())
    assert tg.check_gradients(
        lambda x: nn.cross_entropy(x, labels, weight, label_smoothing=0.1), logits
    )
    assert nn.cross_entropy(logits, [-100] * 4, weight).item() == 0
    assert list(loss.state_dict()) == ["weight"]


def test_fault_11j_layer_norm_without_weights() -> None:
    x = draw(3, 4)
    layer = nn.LayerNorm(4, 0.1, False)
    assert layer.parameters() == []
    values = x.numpy()
    centred = values - values.mean(1, keepdims=True)
    close(layer(x), centred / np.sqrt(values.var(1, keepdims=True) + 0.1))
    assert [name for name, _ in nn.LayerNorm(4, 0.1, True, False).named_parameters()] == ["weight"]
    with pytest.raises(TypeError, match=r"^LayerNorm: inputs must be floating, got int64$"):
        layer(tg.ones((2, 4), int))


def test_fault_11j_gelu_by_the_name_of_its_approximation() -> None:
    x = draw(5)
    close(tg.gelu(x, "none"), tg.gelu(x))
    assert np.abs(tg.gelu(x, "tanh").numpy() - tg.gelu(x).numpy()).max() > 1e-5
    for wrong in (True, False, "erf"):
        with pytest.raises(ValueError, match=r"^gelu: approximate must be 'none' or 'tanh', got "):
            tg.gelu(x, wrong)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("split", [tg.split, lambda x, *a: x.split(*a)], ids=["split", "method"])
def test_fault_35_split_names_both_readings(split: Any) -> None:
    x = draw(4, 6)
    for places, said in {
        (2,): "split: split(x, 2) cuts into chunks of 2 along axis 0 in PyTorch; write split(x, "
        "parts=2, axis=-1) for 2 equal parts, or sizes=[...]",
        (3, 1): "split: split(x, 3, 1) cuts into chunks of 3 along axis 1 in PyTorch; write "
        "split(x, parts=3, axis=1) for 3 equal parts, or sizes=[...]",
        ((2, 4), -1): "split: split(x, (2, 4), -1) cuts into parts of these sizes along axis -1 in "
        "PyTorch; write split(x, sizes=(2, 4), axis=-1) for that, or axis=-1 for the last axis",
    }.items():
        with pytest.raises(TypeError) as caught:
            split(x, *places)
        assert str(caught.value) == said
    for options in ({}, {"parts": 2, "sizes": [2, 4]}):
        with pytest.raises(TypeError, match=r"^split: give parts= or sizes=, one of the two$"):
            tg.split(x, **options)


@pytest.mark.parametrize(
    ("size", "chunks", "sizes"),
    [(6, 3, [2, 2, 2]), (5, 3, [2, 2, 1]), (5, 4, [2, 2, 1]), (3, 7, [1, 1, 1]), (0, 2, [0, 0])],
)
def test_fault_35_chunks_are_as_long_as_they_need_to_be(
    size: int, chunks: int, sizes: list[int]
) -> None:
    x = tg.arange(2.0 * size).reshape(size, 2)
    assert [part.shape for part in tg.chunk(x, chunks)] == [(n, 2) for n in sizes]
    assert [part.shape for part in x.T.chunk(chunks, axis=-1)] == [(2, n) for n in sizes]
    close(tg.concat(x.chunk(chunks)), x.numpy())


X = draw(4, 6)
W = nn.Parameter([[1.0, 2.0]])
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "norm by an order": (lambda: tg.norm(X, 1), TypeError, "norm: norm(x, 1) names the order"),
    "take of rows": (lambda: tg.take(X, [0]), TypeError, "take: x has shape (4, 6); write take("),
    "take of a number": (lambda: tg.take(X.sum(), [0]), TypeError, "take: x has shape (); write"),
    "transpose": (lambda: X.transpose(0, 1), TypeError, "transpose: x.transpose(0, 1) exchanges"),
    "zeros": (lambda: tg.zeros(2, 3), TypeError, "zeros: the shape is one argument, as in zeros("),
    "ones": (lambda: tg.ones(2, 3, 4), TypeError, "ones: the shape is one argument, as in ones("),
    "clip": (lambda: tg.clip(X, X), TypeError, "clip: bounds must be numbers, got a Tensor; write"),
    "max of two": (
        lambda: tg.max(X, X),
        TypeError,
        "max: an axis must be an integer, got a Tensor",
    ),
    "chunk": (
        lambda: tg.chunk(X, 0),
        ValueError,
        "chunk: chunks must be a positive integer, got 0",
    ),
    "smoothing": (
        lambda: nn.cross_entropy(X, [0] * 4, label_smoothing=2),
        ValueError,
        "cross_entropy: label_smoothing must lie in 0 ... 1, got 2",
    ),
    "weight": (
        lambda: nn.cross_entropy(X, [0] * 4, [1.0]),
        ValueError,
        "cross_entropy: the weight must have shape (6,), got (1,)",
    ),
    "axis of a norm": (
        lambda: nn.BatchNorm1d(3, axis=2),
        ValueError,
        "BatchNorm1d: axis must be 1, -1 or None, got 2",
    ),
    "batch norm": (
        lambda: nn.BatchNorm1d(3)(tg.ones((2, 3, 3))),
        ValueError,
        "BatchNorm1d: inputs (2, 3, 3) fit with the 3 features on axis 1, as in PyTorch, and on ",
    ),
    "batch norm of axis 1": (
        lambda: nn.BatchNorm1d(3, axis=1)(tg.ones((3, 2, 3))),
        ValueError,
        "BatchNorm1d: inputs must have shape (N, 3, L) with at least two axes, got (3, 2, 3)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_two_readings_are_refused(name: str) -> None:
    call, kind, said = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    "call",
    [
        lambda: optim.SGD([W], 0.1, 0.9, 0.0),
        lambda: optim.Adam([W], 0.1, (0.9, 0.9), 1e-8, 0.0, 0.1),
        lambda: optim.AdamW([W], 0.1, (0.9, 0.9), 1e-8, 0.0, 0.1),
        lambda: optim.RMSprop([W], 0.1, 0.9, 1e-8, 0.0, 0.0, False, 0.1),
        lambda: optim.Adagrad([W], 0.1, 0.0, 0.0, 0.0, 1e-8, 0.1),
        lambda: optim.Adadelta([W], 0.1, 0.9, 1e-8, 0.0, 0.1),
        lambda: rnn.LSTM(2, 3, 1, True, False, 0.0, False, 0, 1.0),
        lambda: rnn.LSTMCell(2, 3, True, 2),
        lambda: rnn.GRUCell(2, 3, True, "before"),
        lambda: nn.init.kaiming_uniform_(W, 1.0),
        lambda: nn.init.kaiming_normal_(W, 1.0),
        lambda: nn.HuberLoss(0.5),
        lambda: nn.MSELoss("sum"),
        lambda: nn.L1Loss("sum"),
        lambda: nn.BCEWithLogitsLoss("sum"),
        lambda: nn.CrossEntropyLoss(None, 2),
        lambda: nn.cross_entropy(X, [0] * 4, None, 2),
        lambda: tg.eye(2, 3, int),
    ],
)
def test_what_is_ours_alone_is_named(call: Any) -> None:
    with pytest.raises(TypeError, match="positional argument"):
        call()


def test_what_has_one_reading_is_taken() -> None:
    close(tg.take(X[0], [5, 0]), X.numpy()[0, [5, 0]])
    close(X.transpose(1, 0), X.numpy().T)
    assert tg.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    close(tg.norm(X, axis=0, keepdims=True), np.linalg.norm(X.numpy(), axis=0, keepdims=True))


@pytest.mark.parametrize("axis", [None, 1])
def test_batch_norm_of_the_second_axis(axis: int | None) -> None:
    """(N, C, L) is (N, L, C) turned round, for masks and the running means too."""
    second, last = (randomise(nn.BatchNorm1d(3, axis=a)) for a in (axis, -1))
    last.load_state_dict(second.state_dict())
    x, mask = draw(5, 4, 3), np.random.default_rng(0).random((5, 4)) < 0.7
    turned = x.swapaxes(1, 2)
    for kept in (None, mask):
        close(second(turned, mask=kept).swapaxes(1, 2), last(x, mask=kept).numpy())
    close(second.running_var, last.running_var.numpy())
    close(second.eval()(turned[:1]).swapaxes(1, 2), last.eval()(x[:1]).numpy())


def test_the_features_of_a_stack_are_last() -> None:
    layer = randomise(rnn.Stacked([rnn.GRU(2, 3), nn.Sequential(nn.BatchNorm1d(3)), rnn.GRU(3, 2)]))
    assert layer(draw(4, 3, 2))[0].shape == (4, 3, 2)
