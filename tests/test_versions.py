"""Versions belong to memory: what was overwritten is refused, where a rule reads it."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from networks import leaf

import tinygrad_rnn as tg
from tinygrad_rnn import nn, ops, optim, rnn
from tinygrad_rnn.tape import clock


def overwrite(x: tg.Tensor) -> None:
    x.data[...] = 5
    x.mark_changed()


refused = pytest.raises(RuntimeError, match="has been overwritten since")


# Fault 4


def test_fault_4_a_result_that_its_rule_reads() -> None:
    x = leaf(3)
    y = tg.tanh(x)
    overwrite(y)
    message = r"^backward: the result of 'tanh', which its gradient rule reads, has been over"
    with pytest.raises(RuntimeError, match=message):
        (y + 1.0).sum().backward()
    y = tg.sin(x)
    overwrite(y)
    (y + 1.0).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.cos(x.numpy()))


def test_fault_4_what_detach_gave() -> None:
    p = nn.Parameter(np.full(3, 2.0))
    p.name = "weight"
    x = leaf(3)
    y = (x * p.detach()).sum()
    p.grad = tg.ones(3, dtype="float64")
    optim.SGD([p], lr=1.0).step()
    with pytest.raises(RuntimeError, match="a tensor used by 'multiply' has been overwritten"):
        y.backward()
    y = (x * p).sum()
    optim.SGD([p], lr=1.0).step()
    with pytest.raises(RuntimeError, match="parameter 'weight' used by 'multiply' has been over"):
        y.backward()


@pytest.mark.parametrize(
    ("unroll", "checkpoint"), [(False, None), (False, 2), (True, None)], ids=str
)
def test_fault_4_the_output_of_an_lstm(unroll: bool, checkpoint: int | None) -> None:
    layer = rnn.LSTM(3, 4)
    layer.unroll = unroll
    layer.checkpoint = checkpoint
    x = tg.randn((5, 2, 3))
    x.requires_grad = True
    for part in (lambda y: y, lambda y: y[2], lambda y: y.detach().reshape(-1)):
        output, _ = layer(x)
        overwrite(part(output))
        if unroll:  # it is a copy of the states
            output.sum().backward()
        else:
            with pytest.raises(RuntimeError, match="the result of 'scan', which its gradient rule"):
                output.sum().backward()


@pytest.mark.parametrize("unroll", [False, True])
def test_the_last_state_is_a_copy(unroll: bool) -> None:
    layer = rnn.LSTM(3, 4)
    layer.unroll = unroll
    x, found = tg.randn((5, 2, 3)), []
    for change in (False, True):
        _, (h, c) = layer(x)
        loss = (h.sum() + c.sum()) * 1.0
        if change:
            overwrite(c)
        layer.zero_grad()
        loss.backward()
        found.append([p.grad.numpy() for p in layer.parameters()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


VIEWS: dict[str, Callable[[tg.Tensor], tg.Tensor]] = {
    "itself": lambda p: p,
    "detach": lambda p: p.detach(),
    "detach twice": lambda p: p.detach().detach(),
    "transpose": lambda p: p.T,
    "swapaxes": lambda p: p.swapaxes(0, 1),
    "moveaxis": lambda p: tg.moveaxis(p, 0, 1),
    "reshape": lambda p: p.reshape(6, 2),
    "flatten": lambda p: p.flatten(),
    "squeeze": lambda p: p.reshape(3, 1, 4).squeeze(),
    "row": lambda p: p[1],
    "slice": lambda p: p[:, ::2],
    "new axis": lambda p: p[None],
    "split": lambda p: p.split(parts=2)[1],
    "unstack": lambda p: tg.unstack(p)[2],
    "iteration": lambda p: next(iter(p)),
    "flip": lambda p: tg.flip(p, 0),
    "broadcast": lambda p: tg.broadcast_to(p, (2, 3, 4)),
    "copy.copy": copy.copy,
    "to": lambda p: p.to("cpu").astype("float64"),
    "from_numpy": lambda p: tg.from_numpy(p.numpy()),
    "the array": lambda p: tg.Tensor(p.data),
    "a view of the array": lambda p: tg.from_numpy(p.data[1:].T),
    "strided": lambda p: tg.from_numpy(np.lib.stride_tricks.as_strided(p.data, (2, 2))),
    "a primitive of one's own": tg.primitive(
        "half",
        lambda xp, x: x[::2],
        [lambda g, y, x: ops.broadcast_to(ops.sum(g), x.shape)],
        reads="",
    ),
}


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("way", ["to the view", "from the view"])
@pytest.mark.parametrize("name", VIEWS)
def test_a_view_shares_the_version(name: str, way: str, recorded: bool) -> None:
    base, x = leaf(3, 4), leaf(1)
    base.requires_grad = recorded
    view = VIEWS[name](base)
    assert np.shares_memory(view.data, base.data)
    changed, read = (base, view) if way == "to the view" else (view, base)
    loss = (x * read).sum()
    version = read.version
    changed.mark_changed()
    assert base.version == view.version == version + 1
    with refused:
        loss.backward()
    (x * read).sum().backward()


COPIES: dict[str, Callable[[tg.Tensor], tg.Tensor]] = {
    "copy": lambda p: p.copy(),
    "detached copy": lambda p: p.detach().copy(),
    "a reshape that copies": lambda p: p.T.reshape(-1),
    "an index array": lambda p: p[[0, 1]],
    "tensor": lambda p: tg.tensor(p.numpy()),
    "concat": lambda p: tg.concat([p]),
    "another dtype": lambda p: p.astype("float32"),
    "deepcopy": copy.deepcopy,
    "pickle": lambda p: pickle.loads(pickle.dumps(p)),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_has_a_version_of_its_own(name: str) -> None:
    base, x = leaf(3, 4), leaf(1)
    base.mark_changed()
    copied = COPIES[name](base)
    assert copied.version == 0
    loss = (x * copied).sum()
    base.mark_changed()
    loss.backward()
    loss = (x * base).sum()
    copied.mark_changed()
    loss.backward()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_duplicates_of_what_shares_a_version(duplicate: Callable[[Any], Any]) -> None:
    p, x = leaf(3), leaf(3, seed=1)
    mine = {"p": p, "detached": p.detach(), "again": p}
    theirs = duplicate(mine)
    assert theirs["p"] is theirs["again"]
    loss = (x * mine["detached"]).sum()
    overwrite(theirs["p"])
    loss.backward()
    loss = (x * theirs["p"]).sum()
    overwrite(p)
    loss.backward()
    loss = (x * theirs["again"]).sum()
    overwrite(theirs["p"])
    with refused:
        loss.backward()
    layer = rnn.LSTM(2, 3)
    other = duplicate(layer)
    loss = other(tg.ones((4, 1, 2)))[0].sum()
    for q in layer.parameters():
        q.data += 1
    loss.backward()


def test_views_of_the_memory_of_a_device() -> None:
    x = tg.ones(3, requires_grad=True).to("strict").detach()
    x.requires_grad = True
    w = tg.ones(4).to("strict")
    loss = (x * w[1:]).sum()
    w.reshape(2, 2).mark_changed()
    assert w.version == 1
    with refused:
        loss.backward()


# What is read, and what is not


def test_an_overwritten_array_that_no_rule_reads() -> None:
    p, x = leaf(3), leaf(3, seed=1).detach()
    for build in (lambda: x * p, lambda: (x + p) * 1.0, lambda: x @ p, lambda: tg.stack([x, p])):
        p.grad = None
        value = build()
        seed = np.ones(value.shape)
        value.backward(seed, retain_graph=True)
        expected = p.grad.numpy()
        p.grad = None
        overwrite(p)
        value.backward(seed)
        np.testing.assert_array_equal(p.grad.numpy(), expected)
    for value in (x * p, x @ p):
        overwrite(x)
        with refused:
            value.sum().backward()


def test_only_the_rules_that_are_needed_count() -> None:
    p, q = leaf(3), leaf(3, seed=1)
    y = p * q
    overwrite(p)
    with refused:
        y.sum().backward()
    assert tg.jacobian(y.sum(), p).tolist() == q.tolist()
    with refused:
        tg.jacobian(y.sum(), q)


def test_nothing_arrives_behind_a_step_function() -> None:
    p, q = leaf(3), leaf(3, seed=1)
    y = (tg.sign(p * p) * q).sum()
    overwrite(p)
    y.backward()
    assert q.grad.tolist() == [1, 1, 1]
    assert p.grad is None


def test_the_gradient_of_a_graph_is_refused_too() -> None:
    x = leaf(3)
    y = tg.tanh(x)
    y.sum().backward(create_graph=True)
    second = (x.grad * 1.0).sum()
    overwrite(y)
    with refused:
        second.backward()


def test_running_means_may_be_followed_between_two_calls() -> None:
    net = nn.BatchNorm1d(3)
    x = leaf(4, 3).astype("float32").detach()
    x.requires_grad = True
    (net(x) + net(x * 2.0)).sum().backward()
    assert x.grad is not None


def test_a_checkpointed_function_reads_its_constants_again() -> None:
    x, mask = leaf(3), tg.ones(3, dtype="float64")
    y = tg.checkpoint(lambda v: tg.tanh(v) * mask * (v > 0))(x).sum()
    mask.name = "mask"
    mask.data = [0, 1, 2]
    message = "the Tensor 'mask' that the checkpointed function <lambda> reads has been overwritten"
    with pytest.raises(RuntimeError, match=message):
        y.backward()
    assert x.grad is None


def test_an_overwritten_result_of_a_checkpoint_is_computed_again() -> None:
    x = leaf(3)
    y = tg.checkpoint(tg.tanh)(x)
    loss = (y * 1.0).sum()
    overwrite(y)
    loss.backward()
    np.testing.assert_allclose(x.grad.numpy(), 1 - np.tanh(x.numpy()) ** 2)


def test_indices_and_labels() -> None:
    x, i = leaf(4, 3), tg.tensor([0, 2])
    labels = tg.tensor([0, 1, 2, 0])
    for loss, changed in (
        (x[i].sum(), i),
        (tg.take(x, i, axis=0).sum(), i),
        (x.at[i].set(1.0).sum(), i),
        (ops.cross_entropy(x, labels).sum(), labels),
    ):
        changed.data = changed.detach()
        with refused:
            loss.backward()
    values = leaf(2, 3, seed=1)
    loss = x.at[i].set(values).sum()
    overwrite(values)
    overwrite(x)
    loss.backward()
    assert values.grad.numpy().sum() == 6


# Freed parts (fault 30)


def test_fault_30_a_freed_part_that_is_not_needed() -> None:
    w, q = leaf(3), leaf(3, seed=1)
    h = tg.tanh(w)
    h.sum().backward()
    y = (h * q).sum()
    np.testing.assert_array_equal(tg.jacobian(y, q).numpy(), h.numpy())
    np.testing.assert_array_equal(tg.jacobian(y, h).numpy(), q.numpy())
    for value in (w, None):
        with pytest.raises(RuntimeError, match="freed by an earlier backward pass"):
            y.backward() if value is None else tg.jacobian(y, value)
    w.requires_grad = False
    later = (tg.sign(h) * q).sum()
    later.backward()
    assert q.grad.tolist() == np.sign(h.numpy()).tolist()


def test_fault_30_through_parts_that_are_freed_at_different_times() -> None:
    w, q = leaf(4), leaf(2, seed=1)
    first, second = tg.split(w * 2.0, parts=2)
    first.sum().backward()
    y = (second * q).sum()
    np.testing.assert_array_equal(tg.jacobian(y, q).numpy(), second.numpy())
    np.testing.assert_array_equal(tg.jacobian(y, second).numpy(), q.numpy())
    assert tg.jacobian(y, first).tolist() == [0, 0]
    with pytest.raises(RuntimeError, match="freed"):
        tg.jacobian(y, w)


# Switches between forward and backward (fault 18)


@pytest.mark.parametrize("kind", ["eager", "scan", "unrolled"])
def test_fault_18_unfreezing_between_forward_and_backward(kind: str) -> None:
    layer = rnn.GRU(2, 3)
    layer.unroll = kind == "unrolled"
    frozen = layer.weight_hh_l0
    x = tg.randn((4, 1, 2))

    def loss() -> tg.Tensor:
        if kind == "eager":
            return sum(((p * p).sum() for p in layer.parameters()), 0.0)
        return (layer(x)[0] ** 2).sum()

    frozen.requires_grad = False
    value = loss()
    frozen.requires_grad = True
    value.backward()
    assert frozen.grad is None
    expected = [p.grad.numpy() for p in layer.parameters() if p is not frozen]
    layer.zero_grad()
    value = loss()
    frozen.requires_grad = False
    value.backward()
    assert frozen.grad is None
    for p, g in zip([p for p in layer.parameters() if p is not frozen], expected, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g, rtol=1e-5)
    frozen.requires_grad = True
    loss().backward()
    assert frozen.grad is not None


@pytest.mark.parametrize("kind", ["eager", "scan"])
def test_fault_18_frozen_for_one_part_of_the_tape(kind: str) -> None:
    p, x = leaf(3), leaf(3, seed=1)

    def part() -> tg.Tensor:
        if kind == "eager":
            return (x * p * p).sum()
        return tg.scan(lambda v, h: (h, h * p * p), tg.ones(1), x)[1].sum()

    p.requires_grad = False
    first = part()
    p.requires_grad = True
    (first + part()).backward()
    np.testing.assert_allclose(p.grad.numpy(), (2 * x * p).detach().numpy())
    np.testing.assert_allclose(x.grad.numpy(), (2 * p * p).detach().numpy())


def test_a_hook_of_a_leaf_that_was_frozen_is_not_called() -> None:
    x, seen = leaf(2), []
    x.register_hook(lambda g: seen.append(g))
    y = (x * x).sum()
    x.requires_grad = False
    y.backward()
    assert not seen
    assert x.grad is None


# The book of versions


def test_the_book_forgets_memory_that_is_gone() -> None:
    gc.collect()
    before = len(clock._memories)
    x = leaf(3)
    for k in range(3):
        x.mark_changed()
        assert x.version == k + 1
    kept = x.detach()[1:]
    del x
    assert kept.version == 3
    del kept
    gc.collect()
    assert len(clock._memories) == before


def test_another_array_counts_as_overwriting() -> None:
    layer = nn.Linear(2, 2)
    x = tg.ones((1, 2), requires_grad=True)
    layer.weight.mark_changed()
    loss = layer(x).sum()
    layer.to("float64").to("float32")
    assert layer.weight.version > 1
    with refused:
        loss.backward()


def test_versions_in_threads() -> None:
    x = leaf(3)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: x.detach().mark_changed(), range(400)))
    assert x.version == 400
