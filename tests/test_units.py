"""What units do over a sequence: lab/activations."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import data, lab, nn, rnn

RNG = np.random.default_rng(3)


class Own(rnn.Cell):
    """A user's cell that names nothing."""

    def __init__(self, inputs: int, units: int) -> None:
        self.input_size, self.hidden_size = inputs, units
        self.new = nn.Linear(inputs, units)

    def initial_state(self, batch_size: int) -> Any:
        return self.zeros(batch_size, self.hidden_size)

    def step(self, x: tg.Tensor, state: Any) -> tuple[tg.Tensor, Any]:
        h = tg.tanh(self.new(x) + 0.5 * state)
        return h, h


class Model(nn.Module):
    """Three LSTM layers both ways; a user's cell, unrolled; a loop of the user's over a stream."""

    def __init__(self, characters: int = 9) -> None:
        self.embedding = nn.Embedding(characters, 3)
        self.lstm = rnn.LSTM(3, 5, 3, bidirectional=True, dropout=0.5)
        self.own = rnn.Recurrent(Own(10, 4), unroll=True)
        self.stream = rnn.GRU(4, 6)

    def forward(self, x: Any, lengths: Any = None) -> tg.Tensor:
        y, _ = self.lstm(self.embedding(x), lengths=lengths)
        y, _ = self.own(y)
        h, outputs = None, []
        for t in range(len(y)):
            output, h = self.stream.step(y[t], h)
            outputs.append(output)
        return tg.stack(outputs)


def a_model() -> Model:
    tg.manual_seed(2)
    return Model()


def test_inner_values_are_those_that_record_gives() -> None:
    """In all layers and directions, of a model in training mode, whose dropout stays out of it."""
    model, x = a_model(), RNG.integers(0, 9, (50, 2))
    state = tg.ops.generator_state()
    found = lab.units(model, x)
    assert model.training
    assert model.lstm.training
    assert tg.ops.generator_state() == state
    assert {*found.layers} == {
        *(f"lstm.l{k}{way}" for k in range(3) for way in ("", "_reverse")), "own.cell", "stream.l0",
    }  # fmt: skip
    model.eval()
    with tg.no_grad():
        _, _, inner = model.lstm(model.embedding(x), record=["i", "f", "g", "o", "c", "h"])
        y, _ = model.lstm(model.embedding(x))
        own, _ = model.own(y)
        _, _, of_stream = model.stream(own, record=["z", "h"])
    for name, values in inner.items():  # (2 layers' ways, T, B, H), those of all layers
        for k, layer in enumerate(name for name in found.layers if name.startswith("lstm")):
            expected = values.numpy()
            expected = expected.reshape(6, 50, 2, 5)[k]
            np.testing.assert_allclose(found.array(name, layer), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.array("h", "own.cell"), own.numpy(), rtol=1e-4, atol=1e-6)
    for name, values in of_stream.items():
        expected = values.numpy().reshape(50, 2, 6)
        np.testing.assert_allclose(found.array(name), expected, rtol=1e-4, atol=1e-6)
    assert found.layers["lstm.l1_reverse"].reverse
    text = str(found)
    assert "lstm.l2_reverse" in text
    assert len(text.splitlines()) == 1 + 6 * 6 + 1 + 4


def test_what_comes_out_of_the_model_is_the_same() -> None:
    """While its inner values are looked at, lengths and all."""
    model, x = a_model().eval(), RNG.integers(0, 9, (7, 2))
    seen: list[Any] = []
    lab.units(model, lambda: seen.append(model(x, lengths=[3, 7]).numpy()))
    with tg.no_grad():
        expected = model(x, lengths=[3, 7]).numpy()
    np.testing.assert_allclose(seen[0], expected, rtol=1e-5, atol=1e-6)


def planted(steps: int = 12, batch: int = 40) -> tuple[lab.Units, np.ndarray]:
    """A layer whose state 3 holds a label, turned round, with noise in all others."""
    labels = RNG.integers(0, 5, batch) == 0
    h = RNG.standard_normal((steps, batch, 6))
    h[:, :, 3] = np.where(labels, -1.0, 0.5) + 0.1 * RNG.standard_normal((steps, batch))
    h[:4, :, 3] = RNG.standard_normal((4, batch))  # the label is not known before step 4
    inner = lab.Inner("layer", False, {"f": 1 / (1 + np.exp(-h[..., :2])), "h": h})
    tokens = tuple(tuple("abcdefghijkl") for _ in range(batch))
    return lab.Units({"layer": inner}, tokens), labels


def test_the_unit_that_tells_a_label_is_found() -> None:
    found, labels = planted()
    best = found.telling(labels, steps=slice(4, None), count=3)
    assert best[0][:3] == ("layer", "h", 3)
    assert best[0].accuracy > 0.99
    assert not best[0].above
    assert -0.8 < best[0].threshold < 0.3
    assert best[1].accuracy < 0.7
    assert len(best) == 3
    assert "h[3] of layer" in str(best)
    assert "the best of 8 units" in str(best)
    assert found.telling(labels)[0].accuracy < 0.95  # with the steps before it is known


def test_accuracy_is_that_of_the_best_threshold_on_other_data() -> None:
    """Against a search over all thresholds, one unit at a time; ties, and labels over time."""
    found, _ = planted(steps=9, batch=6)
    values = np.round(found.array("h"), 1)
    inner = lab.Inner("layer", False, {"h": values})
    units = lab.Units({"layer": inner}, found.tokens)
    labels = values[:, :, 0] + RNG.standard_normal((9, 6)) > 0
    for unit in units.telling(labels, count=6):
        x, best = values[:, :, unit.unit], 0.0
        halves = (x[:, ::2], labels[:, ::2]), (x[:, 1::2], labels[:, 1::2])

        def score(part: Any, threshold: float, above: bool) -> float:
            said = (part[0] > threshold) == above
            return (said[part[1]].mean() + (~said)[~part[1]].mean()) / 2

        grid = np.unique(halves[0][0])
        best = max(score(halves[0], t, above) for t in grid for above in (True, False))
        np.testing.assert_allclose(score(halves[0], unit.threshold, unit.above), best)
        other = score(halves[1], unit.threshold, unit.above)
        np.testing.assert_allclose(unit.accuracy, other)


def test_one_sequence_is_judged_on_its_later_half() -> None:
    h = RNG.standard_normal((40, 1, 2))
    labels = h[:, :, 1] > 0.3
    found = lab.Units({"l": lab.Inner("l", False, {"h": h})}, (tuple("x" * 40),))
    assert found.telling(labels)[0][:3] == ("l", "h", 1)
    assert found.telling(labels)[0].accuracy > 0.9


def strip(values: Any, tokens: Any, gate: bool = False) -> lab.Strip:
    return lab.Strip("c[2] of <layer>", np.array(values), tuple(tokens), gate, 2.0)


def test_text_can_be_read_without_colours() -> None:
    letters = strip([-2, -1, 0, 1, 2, np.nan], "ab c\n<")
    assert str(letters).splitlines() == ["c[2] of <layer>", "ab\N{OPEN BOX}c\u21b5<", "=-.+#!"]
    gate = strip([0, 0.05, 0.55, 0.999, 1.0], "abcde", gate=True)
    assert str(gate).splitlines()[2] == "00599"
    words = strip([-1.5, 0.25, 2], ["the", "cat", "is"])
    assert str(words).splitlines()[1:] == ["the   cat   is", "-1.50 +0.25 +2.00"]
    long = strip([0.0] * 100, "x" * 100).text(width=40)
    assert [len(line) for line in long.splitlines()[1:]] == [40, 40, 40, 40, 20, 20]
    coloured = words.text(colour=True)
    assert coloured.count("\x1b[30;48;2;") == 3
    plain = re.sub("\x1b\\[[0-9;]*m", "", coloured)
    assert [line.rstrip() for line in plain.splitlines()] == str(words).splitlines()


def test_html_is_escaped_and_underlined(tmp_path: Path) -> None:
    words = strip([-2, 0, 1.0, np.nan], ["<b>", "&", "\n", "d"])
    path = words.to_html(tmp_path / "it.html")
    text = path.read_text("utf-8")
    assert words._repr_html_() in text
    assert "<b>&" not in text
    assert "&lt;b&gt;" in text
    assert "c[2] of &lt;layer&gt;" in text
    assert "underline dotted 4px" in text
    assert "underline solid 2px" in text
    assert not re.search(r"https?://|src=|url\(", text)
    with pytest.raises(OSError, match=r"^Strip.to_html: cannot write '.*it.html': "):
        words.to_html(f"{__file__}/it.html")


def test_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = a_model()
    vocabulary = data.Vocabulary.of("abcdefgh")
    text = "abc$\\frac" * 20
    found = lab.units(model, text, vocabulary=vocabulary)
    assert "".join(found.tokens[0]) == text
    found.strip("c", 2, "lstm.l0").picture("A statement").save(tmp_path / "cells.png")
    short = lab.units(model, "$abc_$", vocabulary=vocabulary)
    short.strip("z", 1).picture().save(tmp_path / "bars.png")
    assert [p.name for p in short.over_time(3).panels] == ["gates", "states"]
    short.over_time(3, "lstm.l1").save(tmp_path / "lines.png")
    assert all((tmp_path / f"{name}.png").exists() for name in ("cells", "bars", "lines"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install"):
        short.strip("z", 1).picture().save(tmp_path / "no.png")


def test_tokens() -> None:
    """A text, words of several sequences, what a vocabulary says of integers, numbers of steps."""
    model, vocabulary = a_model(), data.Vocabulary.of("abcdefgh")
    x = np.array([[1, 2], [3, 0], [4, 4]])
    assert lab.units(model, x).tokens == (("0", "1", "2"),) * 2
    assert lab.units(model, x, tokens="the").tokens == (("t", "h", "e"),) * 2
    assert lab.units(model, x, tokens=["one", "two"]).tokens == (tuple("one"), tuple("two"))
    decoded = lab.units(model, tg.tensor(x), vocabulary=vocabulary).tokens
    assert decoded == (("a", "c", "d"), ("b", "\N{REPLACEMENT CHARACTER}", "d"))


def test_what_is_refused(tmp_path: Path) -> None:
    model, x = a_model(), np.zeros((3, 2), int)
    found, labels = planted()
    cases: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (TypeError, "units: expected a model, got ndarray", lambda: lab.units(x, x)),
        (ValueError, "units: a text needs the vocabulary", lambda: lab.units(model, "abc")),
        (ValueError, "units: no recurrent layer of Linear was called",
         lambda: lab.units(nn.Linear(3, 2), tg.ones((2, 3)))),
        (ValueError, "units: expected 3 tokens, or 2 times 3", lambda: lab.units(model, x, "four")),
        (KeyError, "Units: no 'q' of the layer None", lambda: found.strip("q")),
        (KeyError, "Units: no 'h' of the layer 'm'", lambda: found.array("h", "m")),
        (IndexError, "Units.strip: unit 6 is out of range for 6", lambda: found.strip("h", 6)),
        (IndexError, "Units.strip: row 40 is out of range for 40",
         lambda: found.strip("h", row=40)),
        (ValueError, "Units.telling: labels must be booleans", lambda: found.telling(labels[:3])),
        (ValueError, "Units.telling: labels must be booleans", lambda: found.telling(1 * labels)),
        (ValueError, "Units.telling: expected both labels in both halves",
         lambda: found.telling(np.ones(40, bool))),
    ]  # fmt: skip
    for kind, said, call in cases:
        with pytest.raises(kind, match=f"^['\"]?{said}"):
            call()
    with pytest.raises(OSError, match=r"^Telling.to_csv: cannot write "):
        found.telling(labels).to_csv(f"{__file__}/it.csv")
    path = found.telling(labels, count=2).to_csv(tmp_path / "it.csv")
    assert path.read_text().splitlines()[0] == "layer,value,unit,accuracy,threshold,above"
