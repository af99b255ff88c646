"""Where gradients go in time: ``lab.gradient_flow`` and ``lab.contributions``."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from networks import draw, randomise, total

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn
from tinygrad_rnn.ops import generator_state, identity
from tinygrad_rnn.rnn.known_calls import memory_of
from tinygrad_rnn.tape import leaves, rebuild

T, B, I, H = 6, 2, 3, 4


class ByHand(NamedTuple):
    """What a loop that is written out says of every state and of every use of a weight."""

    states: list[list[np.ndarray]]
    parts: list[np.ndarray]
    alone: list[np.ndarray]


def by_hand(cell: Any, x: Any, weight: Any, held: int | None = None) -> ByHand:
    """The loss sum(weight * y) + the squares of the last state, with a copy of W at each step.

    ``held``: the field of the state that is a constant where it is read.
    """
    shared, copies, states, loss = cell.weight_hh, [], [], 0.0
    state = cell.initial_state(x.shape[1])
    for t in range(len(x)):
        cell.weight_hh = nn.Parameter(shared.detach())
        copies.append(cell.weight_hh)
        read = [s.detach() if k == held else s for k, s in enumerate(leaves(state))]
        y, state = cell.step(x[t], rebuild(state, read))
        states.append(leaves(state))
        for s in states[-1]:
            s.retain_grad()
        loss = loss + tg.sum(y * weight[t])
    cell.weight_hh = shared
    (loss + total(state)).backward()
    grads = [[s.grad.numpy() for s in of_step] for of_step in states]
    return ByHand(grads, [copy.grad.numpy() for copy in copies], [g[-1] for g in grads])


class Loop(nn.Module):
    """A cell in a loop of the user's, or in that of a layer."""

    def __init__(self, cell: Any, way: str) -> None:
        self.way = way
        self.layer = rnn.Recurrent(cell, unroll=way == "unrolled")

    def forward(self, x: Any) -> Any:
        if self.way in ("replayed", "unrolled"):
            return self.layer(x)
        step = self.layer.step if self.way == "stream" else self.layer.cell
        outputs, state = [], None
        for t in range(len(x)):
            y, state = step(x[t], state)
            outputs.append(y)
        return tg.stack(outputs), state


WAYS = ["replayed", "unrolled", "stream", "called"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [rnn.RNNCell, rnn.GRUCell, rnn.LSTMCell])
def test_a_cell_against_the_loop_by_hand(make: Any, way: str) -> None:
    """States, each field alone, contributions and Jacobians, to 1e-10."""
    model = randomise(Loop(make(I, H), way))
    x, weight = draw(T, B, I), draw(T, B, H, seed=2)
    cell = model.layer.cell

    def loss() -> Any:
        y, state = model(x)
        return tg.sum(y * weight) + total(state)

    flow = lab.gradient_flow(model, loss, row=1)
    assert flow.loss == pytest.approx(loss().item(), rel=1e-12)
    assert list(flow.layers) == ["layer.cell"]
    found = flow["layer.cell"]
    hand = by_hand(cell, x, weight)
    for k, name in enumerate(found.fields):
        states = np.stack([step[k] for step in hand.states])
        np.testing.assert_allclose(found.gradients[name], states, rtol=1e-10, atol=1e-14)
        norms = [np.linalg.norm(g) for g in states]
        np.testing.assert_allclose(found.norms[name], norms, rtol=1e-10)
    if make is rnn.LSTMCell:
        for k, name in enumerate("hc"):
            alone = np.stack([g[k] for g in by_hand(cell, x, weight, held=1 - k).states])
            np.testing.assert_allclose(found.alone[name], alone, rtol=1e-10, atol=1e-14)
            assert not np.allclose(alone, found.gradients[name])
    else:
        assert found.alone == {}

    parts = lab.contributions(model, loss, "layer.cell.weight_hh")
    np.testing.assert_allclose(parts.values, hand.parts, rtol=1e-10, atol=1e-14)
    norms = found.contributions["layer.cell.weight_hh"]
    np.testing.assert_allclose(norms, [np.linalg.norm(p) for p in hand.parts], rtol=1e-10)
    assert set(found.contributions) == {name for name, _ in model.named_parameters()}

    state = cell.initial_state(B)
    for t in range(T):
        before = leaves(state)

        def new(*given: Any, t: int = t, form: Any = state) -> Any:
            return tg.concat(leaves(cell.step(x[t], rebuild(form, given))[1]), -1)[1]

        wide = [_jacobian(new, before, k) for k in range(len(before))]
        expected = np.concatenate(wide, axis=1)
        np.testing.assert_allclose(found.jacobians[t], expected, rtol=1e-10, atol=1e-14)
        _, state = cell.step(x[t], state)
    product = found.jacobians[5] @ found.jacobians[4] @ found.jacobians[3]
    values = found.products(5, 3)
    assert values.shape == (2, len(product))
    np.testing.assert_allclose(values[1], np.linalg.svd(product)[1], rtol=1e-10)
    np.testing.assert_allclose(found.singular_values[2], np.linalg.svd(found.jacobians[2])[1])
    assert found.eigenvalues.shape == (T, len(product))


def _jacobian(new: Any, before: list[Any], k: int) -> np.ndarray:
    """D new / d the row 1 of the k-th field."""
    given = [s.detach() for s in before]
    given[k].requires_grad = True
    return tg.jacobian(new(*given), given[k]).numpy()[:, 1]


class Model(nn.Module):
    """Three layers both ways over each other, a user's cell, a product."""

    def __init__(self, unroll: bool = False) -> None:
        self.lstm = rnn.LSTM(I, H, num_layers=3, bidirectional=True, unroll=unroll)
        self.top = rnn.Recurrent(Leaky(2 * H, H), unroll=unroll)
        self.head = nn.Linear(H, 2)

    def forward(self, x: Any, lengths: Any = None) -> Any:
        y, _ = self.lstm(x, lengths=lengths)
        _, h = self.top(y, lengths=lengths)
        return self.head(h)


class Leaky(rnn.Cell):
    """A cell that notes nothing and uses a weight twice: h = 0.5 h + tanh(W x + V h - V h^2)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.w = nn.Parameter(tg.zeros((hidden_size, input_size)))
        self.v = nn.Parameter(tg.zeros((hidden_size, hidden_size)))

    def step(self, x: Any, h: Any) -> Any:
        twice = tg.linear(h, self.v) - tg.linear(tg.square(h), self.v)
        h = 0.5 * h + tg.tanh(tg.linear(x, self.w) + twice)
        return h, h


NAMES = [*(f"lstm.l{k}{way}" for k in range(3) for way in ("", "_reverse")), "top.cell"]


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("lengths", [None, [T, 3]])
def test_a_stack_in_both_directions(unroll: bool, lengths: Any) -> None:
    """Against ``probe=``, and the gradients of all parameters."""
    model = randomise(Model(unroll))
    x = draw(T, B, I)

    def loss() -> Any:
        return total(model(x, lengths))

    flow = lab.gradient_flow(model, loss)
    assert list(flow.layers) == NAMES
    assert [each.reverse for each in flow.layers.values()] == [False, True] * 3 + [False]

    h, c = (tg.zeros((T, 6, B, H), "float64", requires_grad=True) for _ in "hc")
    y, _ = model.lstm(x, lengths=lengths, probe=(h, c))
    total(model.head(model.top(y, lengths=lengths)[1])).backward()
    for k, name in enumerate(NAMES[:-1]):
        close = {"rtol": 1e-10, "atol": 1e-15}
        np.testing.assert_allclose(flow[name].gradients["h"], h.grad.numpy()[:, k], **close)
        assert flow[name].jacobians.shape == (T, 2 * H, 2 * H)

    for parameter in model.parameters():
        parameter.grad = None
    loss().backward()
    for name, parameter in model.named_parameters():
        found = lab.contributions(model, loss, name if unroll else parameter)
        whole = sum(part.sum(0) for part in found.parts.values())
        scale = np.abs(parameter.grad.numpy()).max()
        np.testing.assert_allclose(whole, parameter.grad.numpy(), rtol=0, atol=1e-10 * scale)
        np.testing.assert_allclose(found.gradient, whole, rtol=0, atol=1e-12 * scale)
        assert len(found.parts) == 1
        assert len(found.values) == (1 if name.startswith("head") else T)
        for label, norms in found.norms.items():
            sizes = np.linalg.norm(found.parts[label].reshape(len(norms), -1), axis=1)
            np.testing.assert_allclose(norms, sizes)
            if label in NAMES:
                np.testing.assert_allclose(flow[label].contributions[name], norms, rtol=1e-10)
    if lengths is not None:  # past the end of a sequence nothing flows, and the state stays
        assert not flow["lstm.l1"].gradients["h"][3:, 1].any()
        one = lab.gradient_flow(model, loss, row=1)["lstm.l1"].jacobians
        np.testing.assert_array_equal(one[3:], [np.eye(2 * H)] * 3)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("wrap", [rnn.Zoneout, rnn.VariationalDropout])
def test_jacobians_are_those_of_the_masks_that_were_drawn(wrap: Any, training: bool) -> None:
    """With the loss at the end, dL/dh_{t-1} = J_t^T dL/dh_t, in each sequence."""
    options = {"state": 0.4} if wrap is rnn.VariationalDropout else {"rate": 0.4}
    layer = randomise(rnn.Recurrent(wrap(rnn.GRUCell(I, H), **options)).train(training))
    x = draw(T, B, I)
    for row in range(B):
        flow = lab.gradient_flow(layer, lambda: total(layer(x)[1]), row=row)["cell"]
        g = flow.gradients["h"][:, row]
        for t in range(1, T):
            np.testing.assert_allclose(g[t - 1], flow.jacobians[t].T @ g[t], atol=1e-12)


CELLS = [
    lambda: rnn.JordanCell(I, H, 2),
    lambda: rnn.ClockworkRNNCell(I, H, (1, 2)),
    lambda: rnn.CoupledLSTMCell(I, H),
    lambda: rnn.LSTMCell(I, H, proj_size=2),
    lambda: rnn.PeepholeLSTMCell(I, H, full=True),
    lambda: rnn.SCRNCell(I, H, 2),
    lambda: rnn.LayerNormLSTMCell(I, H),
    lambda: Counting(I, H),
    lambda: Nested(I, H),
]


class Counting(rnn.Cell):
    """A cell with a plain dict for a state, in which an integer counts."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.w = nn.Parameter(tg.zeros((hidden_size, input_size)))

    def initial_state(self, batch_size: int) -> Any:
        steps = tg.tensor(np.zeros((batch_size, 1), np.int64))
        return {"steps": steps, "a": self.zeros(batch_size, 3, 2), "b": self.zeros(batch_size, H)}

    def step(self, x: Any, state: Any) -> Any:
        b = tg.tanh(tg.linear(x, self.w) + state["b"] * 0.5 + tg.sum(state["a"], (1, 2))[:, None])
        a = state["a"] * 0.9 + tg.reshape(tg.concat([b, b[:, :2]], -1), (-1, 3, 2))
        return b, {"a": a, "b": b, "steps": state["steps"] + 1}


class Nested(rnn.Cell):
    """A cell that calls another."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.inner = rnn.GRUCell(input_size, hidden_size)

    def step(self, x: Any, h: Any) -> Any:
        _, new = self.inner(x, h)
        return new, 0.5 * h + new


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("make", CELLS)
def test_jacobians_carry_the_gradient_of_the_last_state(make: Any, reverse: bool) -> None:
    """What ``probe=`` gives at step t is what the Jacobians after t make of the last gradient."""
    layer = randomise(rnn.Recurrent(make(), reverse=reverse))
    x, state = draw(T, B, I), layer.initial_state(B)
    floats = [s for s in leaves(state) if s.dtype.kind == "f"]
    weights = [draw(*s.shape, seed=k) for k, s in enumerate(floats)]

    def loss(**options: Any) -> Any:
        last = [s for s in leaves(layer(x, **options)[1]) if s.dtype.kind == "f"]
        return sum(tg.sum(s * w) for s, w in zip(last, weights, strict=True))

    flow = lab.gradient_flow(layer, loss, row=1)["cell" + " reversed" * reverse]
    zeros = [tg.zeros((T, *s.shape), s.dtype) for s in leaves(state)]
    for zero in zeros:
        zero.requires_grad = zero.dtype.kind == "f"
    loss(probe=rebuild(state, zeros)).backward()
    probed = [zero.grad.numpy()[:, 1].reshape(T, -1) for zero in zeros if zero.requires_grad]
    expected = np.concatenate(probed, axis=1)
    g = np.concatenate([w.numpy()[1].ravel() for w in weights])
    for t in range(T) if reverse else reversed(range(T)):
        np.testing.assert_allclose(g, expected[t], rtol=1e-10, atol=1e-14)
        g = flow.jacobians[t].T @ g
    assert all(np.isfinite(n).all() for n in flow.norms.values())
    assert str(lab.gradient_flow(layer, loss))


def test_what_is_seen_and_what_is_not() -> None:
    layer = randomise(rnn.GRU(I, H, batch_first=True))
    x = draw(B, T, I)
    whole = lab.gradient_flow(layer, lambda: total(layer(x)[0]))["l0"]
    assert whole.gradients["h"].shape == (T, B, H)
    alone = lab.gradient_flow(layer, lambda: total(layer(x[1])[0]))["l0"]
    np.testing.assert_allclose(alone.gradients["h"][:, 0], whole.gradients["h"][:, 1], rtol=1e-10)

    cell = rnn.GRUCell(I, H)

    def by_steps() -> Any:
        h = cell.initial_state(B)
        for t in range(T):
            _, h = cell.step(X[t], h)
        return total(h)

    with pytest.raises(ValueError, match=r"cell\(x, state\) are, cell\.step\(x, state\) is not"):
        lab.gradient_flow(cell, by_steps)
    assert lab.contributions(cell, by_steps, "weight_hh").values.shape == (T, 3 * H, H)

    def again() -> Any:
        return total(tg.checkpoint(layer)(x)[0])

    with pytest.raises(ValueError, match="runs no recurrent layer that can be seen"):
        lab.gradient_flow(layer, again)
    found = lab.contributions(layer, again, "weight_hh_l0")
    expected = lab.contributions(layer, lambda: total(layer(x)[0]), "weight_hh_l0")
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.values.sum(0), found.gradient, rtol=1e-10)


class Normed(rnn.Cell):
    """A cell whose rows meet, and that says it is pure."""

    pure = True

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.w = nn.Parameter(tg.zeros((hidden_size, input_size)))

    def step(self, x: Any, h: Any) -> Any:
        h = tg.sigmoid(tg.linear(x, self.w) + h - tg.mean(h, 0))
        return h, h


def test_rows_that_meet() -> None:
    cell = randomise(Normed(I, H))
    x = draw(T, B, I)
    layer = rnn.Recurrent(cell)
    found = lab.gradient_flow(layer, lambda: total(layer(x)[1]))["cell"]
    _, h = layer(x[:3])
    s = tg.linear(x[3], cell.w).detach() + h - tg.mean(h, 0)
    slope = (tg.sigmoid(s) * (1 - tg.sigmoid(s))).numpy()[0]
    np.testing.assert_allclose(found.jacobians[3], np.diag(slope) * 0.5, atol=1e-14)
    (name,) = found.saturation
    assert name.startswith("sigmoid at test_flow.py:")


def test_saturation() -> None:
    layer = randomise(rnn.LSTM(I, H), scale=3.0)
    x = draw(T, B, I)
    lengths = [T, 2]
    flow = lab.gradient_flow(layer, lambda: total(layer(x, lengths=lengths)[0]))["l0"]
    assert list(flow.saturation) == ["i", "f", "g", "o"]
    _, _, inner = layer(x, record=["f", "g"])
    for name, low, high in (("f", 0.1, 0.9), ("g", -0.8, 0.8)):
        gate = flow.saturation[name]
        values = inner[name].numpy()[0]
        np.testing.assert_allclose(gate.low[:2], np.mean(values[:2] < low, axis=(1, 2)))
        np.testing.assert_allclose(gate.high[2:], np.mean(values[2:, 0] > high, axis=1))
    assert flow.saturation["f"].high.any()


def test_a_loss_of_inner_values() -> None:
    """What ``record=`` gives belongs to the tape as ever."""
    layer = randomise(rnn.LSTM(I, H))
    x = draw(T, B, I)

    def loss() -> Any:
        _, _, inner = layer(x, record=["f", "c"])
        return total(inner["f"], inner["c"])

    found = lab.contributions(layer, loss, "weight_hh_l0")
    loss().backward()
    np.testing.assert_allclose(found.values.sum(0), layer.weight_hh_l0.grad.numpy(), rtol=1e-10)
    last = layer(x, record=["c"])[2]["c"].numpy()[0, -1]
    flow = lab.gradient_flow(layer, loss)["l0"]
    np.testing.assert_allclose(flow.gradients["c"][-1], 2 * last, rtol=1e-10)


def test_a_weight_that_is_made_of_another() -> None:
    """What a parameter adds through a value made of it, outside the loop, is one use of that."""
    cell = randomise(rnn.RNNCell(I, H))
    scale = nn.Parameter(np.ones((H, H)))

    class Scaled(nn.Module):
        def __init__(self) -> None:
            self.scale = scale

        def forward(self, x: Any) -> Any:
            w = identity(self.scale)
            return tg.scan(lambda x, h: ((h := tg.tanh(x + h @ w)), h), x, cell.zeros(B, H))[0]

    model, x = Scaled(), draw(T, B, H)
    found = lab.contributions(model, lambda: total(model(x)), scale)
    assert {name: len(part) for name, part in found.parts.items()} == {"model": 1}
    np.testing.assert_allclose(found.values[0], found.gradient)


def test_weights_that_are_shared() -> None:
    """A part for each direction of one layer, and for each use outside of loops."""
    layer = randomise(rnn.Recurrent(rnn.GRUCell(I, H)))
    both = rnn.Bidirectional(layer, layer)
    x = draw(T, B, I)

    def loss() -> Any:
        first = both(x)[0]
        return total(first) + total(layer.cell.step(x[0], layer.initial_state(B))[0])

    found = lab.contributions(both, loss, layer.cell.weight_ih)
    assert {name: len(part) for name, part in found.parts.items()} == {
        "forward_layer.cell": T,
        "forward_layer.cell reversed": T,
        "model": 1,
    }
    loss().backward()
    whole = sum(part.sum(0) for part in found.parts.values())
    np.testing.assert_allclose(whole, layer.cell.weight_ih.grad.numpy(), rtol=1e-10)
    assert sum(share.sum() for share in found.shares().values()) == pytest.approx(1)
    with pytest.raises(
        ValueError, match=r"is used by forward_layer\.cell, forward_layer\.cell rev"
    ):
        _ = found.values


def test_contributions_in_a_scan_of_the_users() -> None:
    """It is replayed, and run once more step by step."""

    class Own(nn.Module):
        def __init__(self) -> None:
            self.v = nn.Parameter(draw(H, H).numpy())

        def forward(self, x: Any) -> Any:
            def step(x: Any, h: Any) -> Any:
                h = tg.tanh(x + h @ self.v)
                return h, h

            return tg.scan(step, x, tg.zeros((B, H), "float64"))[0]

    model, x = Own(), draw(T, B, H)
    found = lab.contributions(model, lambda: total(model(x)[:4]), model.v)
    total(model(x)[:4]).backward()
    assert found.values.shape == (T, H, H)
    assert not found.values[4:].any()
    np.testing.assert_allclose(found.values.sum(0), model.v.grad.numpy(), rtol=1e-10)


def test_everything_is_as_it_was() -> None:
    model = Model()
    model.norm = nn.BatchNorm1d(2)
    drop = nn.Dropout(0.5)
    x = draw(T, B, I).astype("float32")

    def loss() -> Any:
        return total(drop(model.norm(model(x))))

    loss().backward()
    grads = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    state, generator = model.state_dict(), generator_state()
    memory = memory_of(model.lstm)
    known = len(memory.calls)
    lab.gradient_flow(model, loss)
    lab.contributions(model, loss, "head.weight")
    assert memory_of(model.lstm) is memory
    assert len(memory.calls) == known > 0
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(p.grad.numpy(), grads[name])
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    assert str(generator_state()) == str(generator)


def test_what_runs_again_is_another_layer_and_what_goes_on_is_not() -> None:
    layer = randomise(rnn.LSTM(I, H))
    x = draw(T, B, I)

    def loss() -> Any:
        first, state = layer(x[:2])
        second, _ = layer(x[2:], state)
        third, _ = layer(x[:3])
        return total(first) + total(second) + total(third)

    flow = lab.gradient_flow(layer, loss)
    assert {name: each.steps for name, each in flow.layers.items()} == {"l0": T, "l0 (2)": 3}
    whole = lab.gradient_flow(layer, lambda: total(layer(x)[0]))
    np.testing.assert_allclose(flow["l0"].gradients["c"], whole["l0"].gradients["c"], rtol=1e-10)


def test_a_loss_that_sees_some_steps(tmp_path: Path) -> None:
    """Steps back are counted from the last one that it sees; what is told, written and drawn."""
    model = randomise(rnn.LSTM(I, H, bidirectional=True))
    x = draw(T, B, I)
    flow = lab.gradient_flow(model, lambda: total(model(x)[0][3]))
    forward, backward = flow["l0"], flow["l0_reverse"]
    np.testing.assert_array_equal(forward.back, [3, 2, 1, 0, -1, -2])
    np.testing.assert_array_equal(backward.back, [-3, -2, -1, 0, 1, 2])
    assert forward.cosines["h"][3] == pytest.approx(1)
    assert np.isnan(forward.cosines["h"][4])
    assert forward.shares["weight_hh_l0"].sum() == pytest.approx(1)
    with pytest.raises(
        ValueError, match=r"products: expected numbers of steps from 1 to 4, got \(5,\)"
    ):
        forward.products(5)

    lines = str(flow).splitlines()
    assert max(map(len, lines)) < 100
    assert [line.split()[:3] for line in lines[2:]] == [
        ["l0", "h", "6"], ["l0", "c", "6"], ["l0_reverse", "h", "6"], ["l0_reverse", "c", "6"],
    ]  # fmt: skip
    with flow.to_csv(tmp_path / "flow.csv").open(newline="") as file:
        head, *written = csv.reader(file)
    assert head == ["layer", "step", "back", "quantity", "value"]
    found = [float(v) for *row, v in written if row == ["l0", "2", "1", "|dL/dh|"]]
    assert found == [forward.norms["h"][2]]
    norms = lab.contributions(model, lambda: total(model(x)[0][3]), "weight_hh_l0", norms=True)
    assert norms.parts is None
    with pytest.raises(ValueError, match="norms=True was given"):
        _ = norms.values
    np.testing.assert_allclose(norms.norms["l0"], forward.contributions["weight_hh_l0"])
    assert "weight_hh_l0" in str(norms)
    assert norms.to_csv(tmp_path / "norms.csv").read_text().count("\n") == T + 1
    named = dataclasses.replace(norms, norms={'words, "both" ways': np.array([0.1, 0.2])})
    with named.to_csv(tmp_path / "named.csv").open(newline="") as file:
        assert [*csv.reader(file)][2] == ['words, "both" ways', "1", "0.2"]

    pytest.importorskip("matplotlib")
    for picture in (flow.picture(), flow.picture("l0")):
        assert [panel.name for panel in picture.panels] == [
            "states",
            "weights",
            "products",
            "gates",
        ]
        picture.save(tmp_path / "flow.png")
    lab.gradient_flow(rnn.LSTM(I, H), lambda: total(model(x)[0]), row=None).picture()


LAYER = rnn.LSTM(I, H)
X = tg.ones((T, B, I))


@pytest.mark.parametrize(
    ("model", "loss", "options", "message"),
    [
        (LAYER, LAYER(X)[0].sum(), {}, "expected a function that returns the loss"),
        (LAYER(X)[0], lambda: 0, {}, "expected a model, a Module, got Tensor"),
        (LAYER, lambda: LAYER(X)[0], {}, r"the loss must be a Tensor of one element, got shape \("),
        (LAYER, lambda: 1.0, {}, "the loss must be a Tensor of one element, got float"),
        (LAYER, lambda: tg.ones(()), {}, "the loss depends on nothing that wants a gradient"),
        (LAYER, lambda: LAYER.weight_hh_l0.sum(), {}, "the loss runs no recurrent layer that can"),
        (LAYER, lambda: LAYER(X)[0].sum(), {"row": 2}, "row must be a sequence of the batch, 0 to"),
    ],
)
def test_what_is_refused(model: Any, loss: Any, options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^gradient_flow: {message}"):
        lab.gradient_flow(model, loss, **options)


def test_contributions_that_are_refused(tmp_path: Path) -> None:
    def loss() -> Any:
        return LAYER(X)[0].sum()

    with pytest.raises(ValueError, match=r"^contributions: expected a parameter .* got 'weight'"):
        lab.contributions(LAYER, loss, "weight")
    with pytest.raises(MemoryError, match=r"take more than 1000 B, 256 B each; give norms=True"):
        lab.contributions(LAYER, loss, "weight_hh_l0", limit=1000)
    with pytest.raises(KeyError, match=r"no layer 'l1', only \['l0'\]"):
        _ = lab.gradient_flow(LAYER, loss)["l1"]
    with pytest.raises(OSError, match=r"^contributions: cannot write"):
        lab.contributions(LAYER, loss, "weight_hh_l0").to_csv(f"{__file__}/x.csv")


def test_jacobians_that_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinygrad_rnn.lab.flow.gradient_flow.LIMIT", 1000)
    with pytest.raises(MemoryError, match=r"the Jacobians of l0 take 1\.5 KiB, more than 1000 B"):
        lab.gradient_flow(LAYER, lambda: LAYER(X)[0].sum())


def test_on_a_device(device: str) -> None:
    """All that comes back is on the host."""
    layer = randomise(rnn.LSTM(I, H, bidirectional=True)).to(device)
    x = draw(T, B, I, device=device)

    def loss() -> Any:
        return total(layer(x, lengths=[T, 3])[0])

    flow = lab.gradient_flow(layer, loss)
    found = lab.contributions(layer, loss, "weight_hh_l0_reverse")
    layer.to("cpu")
    expected = lab.gradient_flow(layer, lambda: total(layer(x.to("cpu"), lengths=[T, 3])[0]))
    for name, there in flow.layers.items():
        here = expected[name]
        np.testing.assert_allclose(there.gradients["c"], here.gradients["c"], rtol=1e-10)
        np.testing.assert_allclose(there.jacobians, here.jacobians, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(there.saturation["f"].low, here.saturation["f"].low)
    np.testing.assert_allclose(found.values.sum(0), found.gradient, rtol=1e-10)
