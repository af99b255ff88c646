"""Tapes as drawings: what is in them, where it lies, and that Graphviz takes the text."""

# Calls that a type checker refuses too are the point of some tests.
# pyright: reportArgumentType=false

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from networks import draw, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn

T, B, I, H = 6, 2, 3, 5
SVG = "{http://www.w3.org/2000/svg}"


class Model(nn.Module):
    """Levels in one or both directions, and a head."""

    def __init__(self, levels: int, both: bool, unroll: bool) -> None:
        self.lstm = rnn.LSTM(I, H, num_layers=levels, bidirectional=both, unroll=unroll)
        self.head = nn.Linear(2 * H if both else H, 4)

    def forward(self, x: Any) -> Any:
        y, _ = self.lstm(x)
        return self.head(y[-1])


def tape_of(levels: int = 1, both: bool = False, unroll: bool = True, steps: int = T) -> tg.Tape:
    model = randomise(Model(levels, both, unroll))
    with lab.look():
        return tg.Tape.of((model(draw(steps, B, I)) ** 2).mean())


def own_loop(steps: int = T) -> tg.Tape:
    """A loop of a user's own over a cell, without layers and steps that are known."""
    cell, head = randomise(rnn.LSTMCell(I, H)), randomise(nn.Linear(H, 2))
    h = c = tg.tensor(np.zeros((B, H)))
    loss = tg.tensor(0.0, np.float64)
    for t in range(steps):
        y, (h, c) = cell.step(draw(B, I, seed=t), (h, c))
        loss = loss + head(y).sum()
    return tg.Tape.of(loss)


def long_name() -> tg.Tape:
    """A tape of little with much to say."""
    x = draw(3, requires_grad=True)
    x.name = "encoder.layers.0.forward_layer.cell.weight"
    y = x
    for _ in range(6):
        y = tg.tanh(y * 2.0)
    return tg.Tape.of((y * x).sum())


class Drawn:
    """A drawing, read from its file."""

    def __init__(self, tape: tg.Tape, folder: Path) -> None:
        self.path = lab.draw(tape, folder / "tape.svg")
        self.root = ElementTree.fromstring(self.path.read_text("utf-8"))

    def texts(self) -> list[str]:
        return [text.text or "" for text in self.root.iter(f"{SVG}text")]

    def boxes(self) -> list[tuple[float, float, float, float]]:
        """Left, top, right, bottom of all boxes."""
        found = []
        for rect in self.root.iter(f"{SVG}rect"):
            if rect.get("class") != "ground":
                x, y, w, h = (float(rect.get(k) or 0) for k in ("x", "y", "width", "height"))
                found.append((x, y, x + w, y + h))
        return found

    def paths(self, kind: str) -> list[str]:
        return [p.get("d") or "" for p in self.root.iter(f"{SVG}path") if p.get("class") == kind]


CASES = {
    "unrolled": lambda: tape_of(),
    "levels": lambda: tape_of(levels=3),
    "both": lambda: tape_of(levels=2, both=True),
    "replayed": lambda: tape_of(levels=2, both=True, unroll=False),
    "own loop": own_loop,
    "a long name": long_name,
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def drawn(request: pytest.FixtureRequest, tmp_path: Path) -> Drawn:
    return Drawn(request.param(), tmp_path)


def test_boxes_lie_within_each_other_or_apart(drawn: Drawn) -> None:
    boxes = drawn.boxes()
    assert len(boxes) > 4
    for a, b in itertools.combinations(boxes, 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart or within(a, b) or within(b, a), (a, b)
    width, height = (float(drawn.root.get(k) or 0) for k in ("width", "height"))
    assert all(within(box, (0, 0, width, height)) for box in boxes)


def within(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]


def test_labels_have_room(drawn: Drawn) -> None:
    """Of text of 13 points no letter is wider than 7.9, and lines are 18 apart."""
    boxes = drawn.boxes()
    places = []
    for text in drawn.root.iter(f"{SVG}text"):
        if (text.text or "").startswith("dashed:"):
            continue
        x, y = float(text.get("x") or 0), float(text.get("y") or 0)
        place = (x, y - 11, x + 7.85 * len(text.text or ""), y + 4)
        assert any(within(place, box) for box in boxes), text.text
        places.append(place)
    for a, b in itertools.combinations(places, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def points(path: str) -> Iterator[tuple[float, float]]:
    numbers = [float(x) for x in re.findall(r"-?[\d.]+", path)]
    return zip(numbers[::2], numbers[1::2], strict=True)


def test_no_edge_crosses_a_label(drawn: Drawn) -> None:
    """The corners of edges lie in no box of text, but where they begin and end."""
    leaves = [a for a in drawn.boxes() if not any(within(b, a) and a != b for b in drawn.boxes())]
    for kind in ("edge", "return"):
        for path in drawn.paths(kind):
            for x, y in [*points(path)][1:-1]:
                for left, top, right, bottom in leaves:
                    inside = left + 1 < x < right - 1 and top + 1 < y < bottom - 1
                    assert not inside, (path, (left, top, right, bottom))


def test_equal_steps_are_drawn_once(tmp_path: Path) -> None:
    few, many = (Drawn(tape_of(steps=steps), tmp_path) for steps in (6, 60))
    assert "t = 0 ... 5 (x 6)" in few.texts()
    assert "t = 0 ... 59 (x 60)" in many.texts()
    assert len(few.boxes()) == len(many.boxes())
    assert len(many.paths("return")) == 2  # h and c
    assert many.texts().count("tanh") == 2
    assert many.texts().count("lstm.weight_hh_l0") == 1


def test_a_replayed_loop_is_drawn_as_its_step(tmp_path: Path) -> None:
    replayed = Drawn(tape_of(unroll=False), tmp_path)
    unrolled = Drawn(tape_of(), tmp_path)
    assert any(text.startswith("replayed loop x 6 steps") for text in replayed.texts())
    for name in ("linear", "sigmoid", "tanh", "split", "lstm.bias_hh_l0"):
        assert replayed.texts().count(name) == unrolled.texts().count(name)
    assert len(replayed.paths("return")) == 2


def test_a_loop_of_ones_own(tmp_path: Path) -> None:
    drawn = Drawn(own_loop(), tmp_path)
    assert any(re.fullmatch(r"x [56]", text) for text in drawn.texts())
    assert len(drawn.paths("return")) == 3  # h, c, and the sum


def test_a_large_tape_stays_small(tmp_path: Path) -> None:
    x = draw(3, requires_grad=True)
    y = x
    for k in np.random.default_rng(0).integers(4, size=2000):
        y = (tg.tanh, tg.sin, tg.exp, tg.cos)[k](y) * 0.5
    assert len(Drawn(tg.Tape.of(y.sum()), tmp_path).boxes()) <= 81


NAME = 'a"b\\c<script>&'


def test_names_are_text(tmp_path: Path) -> None:
    x = draw(3, requires_grad=True)
    x.name = NAME
    tape = tg.Tape.of(tg.tanh(x).sum())
    assert NAME in Drawn(tape, tmp_path).texts()
    text = lab.draw(tape, tmp_path / "tape.dot").read_text("utf-8")
    assert r"a\"b\\c<script>&\l" in text


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())
def test_graphviz_draws_the_text(make: Any, tmp_path: Path) -> None:
    path = lab.draw(make(), tmp_path / "tape.dot")
    found = subprocess.run(["dot", "-Tsvg", str(path)], capture_output=True, check=True)
    assert found.stderr == b""
    drawn = ElementTree.fromstring(found.stdout)
    texts = [text.text or "" for text in drawn.iter(f"{SVG}text")]
    ours = Drawn(make(), tmp_path).texts()
    assert sorted(texts) == sorted(t for t in ours if not t.startswith("dashed:"))


BAD = {
    "no records": (lambda: tg.Tape.of(draw(3)), "x.svg", ValueError, "the tape has no records"),
    "a Tensor": (lambda: draw(3), "x.svg", TypeError, "expected a Tape"),
    "a suffix": (tape_of, "x.png", ValueError, "expected a path that ends in .svg or .dot"),
    "no folder": (
        tape_of, f"{__file__}/x.svg", NotADirectoryError,
        f"draw: cannot write '{__file__}/x.svg': Not a directory",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "path", "kind", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input(
    make: Any, path: str, kind: type, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as caught:
        lab.draw(make(), path)
    assert message in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_freed_tape_can_still_be_drawn(tmp_path: Path) -> None:
    loss = (draw(3, requires_grad=True) * 2.0).sum()
    tape = tg.Tape.of(loss)
    loss.backward()
    assert "freed" in Drawn(tape, tmp_path).texts()


def test_names_that_no_xml_holds_are_written_as_python_writes_them(tmp_path: Path) -> None:
    x = draw(3, requires_grad=True)
    x.name = 'a\x00\x1b\n"\ud800<'
    tape = tg.Tape.of((x * 2.0).sum())
    assert r'a\x00\x1b\n"\ud800<' in Drawn(tape, tmp_path).texts()
    text = lab.draw(tape, tmp_path / "tape.dot").read_text("utf-8")
    assert r"a\\x00\\x1b\\n\"\\ud800<" in text
