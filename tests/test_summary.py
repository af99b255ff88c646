"""A model layer by layer: shapes, parameters, multiply-adds and bytes, and nothing changed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import draw

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn
from tinygrad_rnn.ops import generator_state
from tinygrad_rnn.tape import current_modes

T, B, I, H, V = 7, 3, 4, 5, 11


class Elman(rnn.Cell):
    """A user's cell."""

    def __init__(self) -> None:
        self.input_size, self.hidden_size = 2 * H, H
        self.w = nn.Parameter(np.ones((H, 2 * H), np.float32))
        self.v = nn.Parameter(np.ones((H, H), np.float32))

    def step(self, x: Any, state: Any) -> Any:
        h = tg.tanh(tg.linear(x, self.w) + tg.einsum("bi,ij->bj", state, self.v))
        return h, h


class Model(nn.Module):
    """Something of everything: tied, frozen, not called, called twice, a cell over time."""

    def __init__(self, unroll: bool = False) -> None:
        self.embed = nn.Embedding(V, I)
        self.lstm = rnn.LSTM(I, H, bidirectional=True, unroll=unroll)
        self.own = rnn.Recurrent(Elman(), unroll=unroll)
        self.norm = nn.BatchNorm1d(H)
        self.blocks = [nn.Sequential(nn.Linear(H, H), tg.relu, nn.Dropout(0.5))]
        self.spare = nn.Linear(2, 3)
        self.narrow = nn.Linear(H, I)
        self.out = nn.Linear(I, V, bias=False)
        self.out.weight = self.embed.weight
        self.norm.weight.requires_grad = self.norm.bias.requires_grad = False
        self.narrow.bias.requires_grad = False

    def forward(self, x: Any) -> Any:
        y = self.norm(self.own(self.lstm(self.embed(x))[0])[0])
        y = self.blocks[0](self.blocks[0](y))
        return {"logits": self.out(self.narrow(y)), "x": x}


def words() -> Any:
    return tg.tensor(np.random.default_rng(0).integers(0, V, (T, B)))


@pytest.mark.parametrize("unroll", [False, True])
def test_layers_are_counted(unroll: bool) -> None:
    found = lab.summary(Model(unroll), words())
    rows = {row.name: row for row in found.rows}
    assert [*rows] == [
        "", "embed", "lstm", "lstm.l0", "lstm.l0_reverse", "own", "own.cell", "norm", "blocks.0",
        "blocks.0.layers.0", "blocks.0.layers.2", "spare", "narrow", "out",
    ]  # fmt: skip
    work = {row.name: row.multiply_adds for row in found.rows if row.multiply_adds}
    lstm = T * B * 4 * H * (I + H)
    assert work == {
        "lstm.l0": lstm,
        "lstm.l0_reverse": lstm,
        "own.cell": T * B * (2 * H * H + H * H),
        "blocks.0.layers.0": 2 * T * B * H * H,
        "narrow": T * B * H * I,
        "out": T * B * I * V,
    }
    assert found.multiply_adds == sum(work.values())
    parameters = {row.name: row.parameters for row in found.rows if row.parameters}
    assert parameters == {
        "embed": V * I,
        "lstm": 2 * (4 * H * (I + H) + 8 * H),
        "own.cell": 3 * H * H,
        "norm": 2 * H,
        "blocks.0.layers.0": H * H + H,
        "spare": 2 * 3 + 3,
        "narrow": H * I + I,
    }
    model = Model()
    assert found.parameters == sum(p.size for p in model.parameters())
    assert found.trainable == sum(p.size for p in model.parameters() if p.requires_grad)
    notes = {row.name: row.note for row in found.rows}
    assert notes["out"] == "tied to embed"
    assert notes["norm"] == "frozen"
    assert notes["spare"] == "not called, trainable"
    assert notes["narrow"] == f"{H * I} trainable"
    assert notes["blocks.0"] == "2 calls"
    assert rows[""].outputs == ((T, B, V), (T, B))
    assert rows["lstm"].outputs == ((T, B, 2 * H), (2, B, H), (2, B, H))
    assert rows["own"].outputs == ((T, B, H), (B, H))
    kinds = [rows[name].kind for name in ("", "lstm.l0", "own.cell", "blocks.0.layers.2")]
    assert kinds == ["Model", "LSTMCell", "Elman", "Dropout"]


def test_bytes_are_what_the_tape_holds() -> None:
    model, x = nn.Sequential(nn.Linear(I, H), tg.tanh, nn.Linear(H, V), tg.relu), draw(T, B, I)
    x = x.astype(np.float32)
    found = lab.summary(model, x)
    tape = tg.Tape.of(model(x))
    assert found.nbytes == sum(y.nbytes for record in tape for y in record.results)
    assert {row.name: row.nbytes for row in found.rows} == {
        "": 4 * T * B * (H + V),
        "layers.0": 4 * T * B * H,
        "layers.2": 4 * T * B * V,
    }
    for parameter in model.parameters():
        parameter.requires_grad = False
    assert lab.summary(model, x).nbytes == 4 * T * B * V  # the output itself is all that is left


def test_a_replayed_loop_holds_what_its_backward_pass_reads() -> None:
    sizes = {}
    for unroll in (False, True):
        model = rnn.LSTM(64, 128, unroll=unroll)
        found = lab.summary(model, tg.ones((50, 16, 64)))
        sizes[unroll] = found.nbytes
        (row,) = [row for row in found.rows if row.name == "l0"]
        assert row.nbytes > 0.9 * found.nbytes
    step = 4 * 50 * 16 * 128
    assert 5 * step < sizes[False] < 9 * step < 14 * step < sizes[True]


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_as_it_was(training: bool) -> None:
    model = Model().train(training)
    tg.square(model(words())["logits"]).sum().backward()
    state, grads = model.state_dict(), [p.grad for p in model.parameters()]
    hooks = [module.has_hooks for module in model.modules()]
    generator, modes = generator_state(), current_modes.get()
    with tg.no_grad():
        assert lab.summary(model, words()).nbytes > 0
    assert all(np.array_equal(state[name], array) for name, array in model.state_dict().items())
    assert all(a is b for a, b in zip(grads, (p.grad for p in model.parameters()), strict=True))
    assert [module.has_hooks for module in model.modules()] == hooks
    assert generator_state() == generator
    assert all(module.training == training for module in model.modules())
    assert current_modes.get() == modes
    with pytest.raises(ValueError, match="Linear"):
        lab.summary(nn.Linear(2, 3), tg.ones((1, 4)))
    assert current_modes.get() == modes


def test_it_is_printed_and_written(tmp_path: Path) -> None:
    found = lab.summary(Model(), words())
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 110
    assert lines[0].split() == ["layer", "output", "parameters", "multiply-adds", "held"]
    assert lines[1].startswith("(model)  ")
    assert lines[4].startswith("    l0  ")
    assert f"{found.parameters:,} parameters, {found.trainable:,} trainable" in lines[-1]
    with found.to_csv(tmp_path / "model.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["name"] for row in rows] == [row.name for row in found.rows]
    assert sum(int(row["multiply_adds"]) for row in rows) == found.multiply_adds
    with pytest.raises(OSError, match=r"Summary.to_csv: cannot write"):
        found.to_csv(f"{__file__}/model.csv")


def test_names_are_escaped_in_html() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            self.parts = {"<b>": nn.Linear(2, 3)}

        def forward(self, x: Any) -> Any:
            return self.parts["<b>"](x)

    html = lab.summary(Named(), tg.ones((1, 2)))._repr_html_()
    assert "parts.&lt;b&gt;" in html
    assert "<b>" not in html


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match=r"summary: expected a Module and its inputs, got Tensor"):
        lab.summary(tg.ones(3), nn.Linear(3, 4))  # type: ignore[arg-type]
