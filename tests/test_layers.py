"""Layers without time: gradients on every device, by hand, and on a device that reads nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import assert_equal, close, draw, functional, randomise
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn.checks import beside

# Gradients on every device


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "Linear": (lambda: nn.Linear(3, 4), lambda: draw(2, 5, 3)),
    "Linear without bias": (lambda: nn.Linear(3, 4, bias=False), lambda: draw(3)),
    "Embedding": (lambda: nn.Embedding(5, 3), lambda: tg.tensor([[4, 0, 4], [1, 4, 0]])),
    "LayerNorm": (lambda: nn.LayerNorm(4), lambda: draw(3, 4)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3), lambda: draw(3, 2, 3)),
    "BatchNorm1d in evaluation": (lambda: nn.BatchNorm1d(3).eval(), lambda: draw(2, 3)),
    "LayerNorm over two axes": (lambda: nn.LayerNorm((3, 4), bias=False), lambda: draw(2, 3, 4)),
    "Sequential": (
        lambda: nn.Sequential(nn.Linear(3, 4), tg.tanh, nn.LayerNorm(4), nn.Linear(4, 2)),
        lambda: draw(2, 3),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_layers(name: str, device: str) -> None:
    make, inputs = LAYERS[name]
    layer = randomise(make()).to(device)
    function, parameters = functional(layer, layer)
    assert tg.check_gradients(function, [*parameters, inputs().to(device)])


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9])
def test_gradients_of_dropout(p: float, device: str) -> None:
    layer = nn.Dropout(p)

    def seeded(x: tg.Tensor) -> tg.Tensor:
        tg.manual_seed(0)
        return layer(x) ** 2

    assert tg.check_gradients(seeded, draw(4, 3, device=device))


# What a layer is, by hand


def test_linear_embedding_and_layer_norm_by_hand() -> None:
    x = draw(2, 5, 3)
    linear = randomise(nn.Linear(3, 4))
    close(linear(x), x.numpy() @ linear.weight.numpy().T + linear.bias.numpy())
    embedding = nn.Embedding(6, 3)
    indices = np.array([[5, 0], [5, 1]])
    close(embedding(indices), embedding.weight.numpy()[indices], 0)
    norm = randomise(nn.LayerNorm(3, eps=0.01))
    values = x.numpy()
    centred = values - values.mean(-1, keepdims=True)
    length = np.sqrt(values.var(-1, keepdims=True) + 0.01)
    close(norm(x), centred / length * norm.weight.numpy() + norm.bias.numpy())


def test_layer_norm_of_constant_rows_is_its_bias() -> None:
    norm = randomise(nn.LayerNorm(3))
    x = tg.full((2, 3), 7.0, np.float64, requires_grad=True)
    y = norm(x)
    close(y, np.broadcast_to(norm.bias.numpy(), (2, 3)))
    y.sum().backward()
    assert np.all(np.isfinite(x.grad.numpy()))


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (4, 0, 3)])
def test_empty_and_one_row_batches(shape: tuple[int, ...]) -> None:
    x = tg.zeros(shape, requires_grad=True)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Dropout())
    y = model(x)
    y.sum().backward()
    assert y.shape == (*shape[:-1], 4)
    assert x.grad.shape == shape
    assert nn.Embedding(5, 3)(np.zeros(shape, int)).shape == (*shape, 3)


def test_dropout_zeroes_a_share_and_keeps_the_mean() -> None:
    tg.manual_seed(0)
    x = tg.ones((200, 200))
    y = nn.Dropout(0.25)(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert np.mean(y == 0) == pytest.approx(0.25, abs=0.01)
    assert y.dtype == np.float32


def test_dropout_follows_the_mode_and_the_seed() -> None:
    model = nn.Sequential(nn.Linear(3, 50), nn.Dropout(0.5))
    x = tg.ones((4, 3))

    def run(seed: int) -> np.ndarray:
        tg.manual_seed(seed)
        return model(x).numpy()

    assert np.array_equal(run(0), run(0))
    assert not np.array_equal(run(0), run(1))
    model.eval()
    assert np.array_equal(run(0), run(1))
    assert np.array_equal(run(0), model[0](x).numpy())
    model.train()
    assert not np.array_equal(run(0), run(1))


# On a device that reads nothing by itself


def test_layers_read_nothing_on_the_host() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Dropout(0.5), tg.relu)
    model.to("strict")
    x = draw(2, 3, device="strict").to(np.float32)
    target = draw(2, 4, seed=2, device="strict")
    with STRICT.counting() as count:
        nn.mse_loss(model(x), target).backward()
    assert count.host_reads == 0


def test_embedding_and_cross_entropy_read_their_range_checks_only() -> None:
    """And not even these where integers come from the host, whose range is seen there."""
    embedding = nn.Embedding(5, 3).to("strict")
    indices, labels = np.array([[4, 1], [1, 1]]), [[0, -100], [1, 2]]
    there = [tg.tensor(values, device="strict") for values in (indices, labels)]
    for (x, y), reads in (((indices, labels), 0), (there, 2)):
        with STRICT.counting() as count:
            nn.cross_entropy(embedding(x), y, weight=np.ones(3, np.float32)).backward()
        assert count.host_reads == reads + (reads > 0)  # the weights are taken by label, too
    for x, y, message in (
        (indices + 1, labels, "^Embedding: index 5 is out of range for 5 entries"),
        (indices, [[0, -100], [3, 0]], "^cross_entropy: label 3 is out of range for 3 classes"),
        (-indices, labels, "^Embedding: index -4 is out of range for 5 entries"),
    ):
        with pytest.raises(IndexError, match=message):
            nn.cross_entropy(embedding(x), y)


def test_a_range_is_forgotten_where_the_integers_change() -> None:
    embedding = nn.Embedding(5, 3).to("strict")
    x = beside(embedding.weight, np.array([4, 1]))
    embedding(x)
    x.data = tg.tensor([5, 1], device="strict")
    with pytest.raises(IndexError, match="index 5 is out of range"):
        embedding(x)


# Batch normalisation


def test_batch_norm_by_hand() -> None:
    layer = nn.BatchNorm1d(2, momentum=0.5)
    y = layer(tg.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]]))
    r = 2 / math.sqrt(8 / 3 + 1e-5)
    close(y, np.array([[-r, 0], [0, 0], [r, 0]]), 1e-6)
    close(layer.running_mean, np.array([1, 0.5]))
    close(layer.running_var, np.array([0.5 + 4 / 2, 0.5]))
    assert layer.num_batches_tracked.item() == 1
    assert layer.num_batches_tracked.dtype == np.int64
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    layer.eval()
    close(layer(tg.tensor([[1.0, 0.5]])), np.zeros((1, 2)), 1e-6)


def test_batch_norm_follows_in_training_only_and_outside_the_tape(device: str) -> None:
    layer = randomise(nn.BatchNorm1d(3)).to(device)
    before = layer.state_dict()
    layer.eval()
    x = draw(4, 3, device=device, requires_grad=True)
    layer(x)
    assert_equal(layer.state_dict(), before)
    layer.train()
    evaluated = layer.eval()(x)
    y = layer.train()(x)
    after = layer.state_dict()
    assert not np.array_equal(after["running_mean"], before["running_mean"])
    for buffer in (layer.running_mean, layer.running_var, layer.num_batches_tracked):
        assert buffer.is_leaf
        assert not buffer.requires_grad
        assert buffer.device == device
    # Neither tape minds that the running means have moved on.
    y.sum().backward()
    evaluated.sum().backward()
    assert_equal(layer.state_dict(), after)


def test_batch_norm_where_nothing_or_little_counts() -> None:
    layer = nn.BatchNorm1d(2, momentum=1.0, axis=-1).to(np.float64)
    x = tg.tensor([[[np.nan, np.inf], [1.0, 2.0]]], requires_grad=True).to(np.float64)
    y = layer(x, mask=[[False, False]])
    assert np.all(y.numpy() == 0)
    assert layer.running_mean.tolist() == [0, 0]
    assert layer.running_var.tolist() == [1, 1]
    y = layer(x, mask=[[False, True]])
    assert np.all(y.numpy() == 0)
    assert layer.running_mean.tolist() == [1, 2]
    assert layer.running_var.tolist() == [0, 0]
    for steps in (0, 1):
        assert layer.eval()(x[:, :steps]).shape == (1, steps, 2)
