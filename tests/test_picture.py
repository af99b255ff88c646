"""Pictures: lab/picture.py."""

from __future__ import annotations

import argparse
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import draw, randomise, total

from tinygrad_rnn import lab, rnn


def lines(*slopes: float) -> Callable[[Any], None]:
    """A function that draws a line for each slope into axes."""

    def draw(axes: Any) -> None:
        for k, slope in enumerate(slopes):
            axes.plot(slope * np.arange(5), label=f"layers.{k}.$w$")
        axes.legend()
        axes.set(xlabel="updates", ylabel="cost, $")

    return draw


def picture(note: str = "", columns: int | None = None) -> lab.Picture:
    panels = [
        lab.Panel("up", "It rises by 2", lines(2)),
        lab.Panel("down", r"It falls, whatever $\frac$ costs & <b>", lines(-1, -2)),
        lab.Panel("flat", "It stays", lines(0)),
    ]
    return lab.Picture(panels, columns, note)


def size(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG, in pixels."""
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def shown(path: Path) -> str:
    """An SVG without its comments, which repeat every text."""
    return re.sub(r"<!--.*?-->", "", path.read_text("utf-8"))


@pytest.mark.parametrize("columns", [None, 1, 3, 9])
def test_all_panels_in_one_file(tmp_path: Path, columns: int | None) -> None:
    path = tmp_path / "new" / "folder" / "all.png"
    assert picture(columns=columns).save(path) == [path]
    assert size(path.read_bytes()) == (1920, 1080)
    assert [*path.parent.iterdir()] == [path]


def test_each_panel_by_itself(tmp_path: Path) -> None:
    """As many pixels, with text 1.5 times as large."""
    found = picture().save(tmp_path / "one.png", panels=True)
    assert [path.name for path in found] == ["one-up.png", "one-down.png", "one-flat.png"]
    for path in found:
        assert size(path.read_bytes()) == (1920, 1080)


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_formats(tmp_path: Path, kind: str, start: bytes) -> None:
    (path,) = picture().save(tmp_path / f"all.{kind}")
    assert path.read_bytes().startswith(start)


def test_text_is_literal_and_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dollars are dollars, names are escaped, and no text has fewer than 12 points."""
    monkeypatch.setitem(lab.picture.STYLE, "svg.fonttype", "none")
    (path,) = picture("only a test").save(tmp_path / "all.svg")
    said = shown(path)
    for text in (
        "It rises by 2",
        "costs &amp; &lt;b&gt;",
        "layers.1.$w$",
        "cost, $",
        "only a test",
    ):
        assert text in said
    sizes = [float(found) for found in re.findall(r"font(?:-size)?: ([\d.]+)px", said)]
    assert len(sizes) > 20
    assert min(sizes) >= 12


def test_a_long_title_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lab.picture.STYLE, "svg.fonttype", "none")
    title = "a statement of b = 5, 90 %, " * 12
    lab.Picture([lab.Panel("long", title, lines(1))]).save(tmp_path / "long.svg")
    said = shown(tmp_path / "long.svg")
    assert title.strip() not in said
    assert said.count("b = 5") == said.count("90 %") == 12


def test_in_a_notebook() -> None:
    found = picture()._repr_png_()
    assert found is not None
    assert size(found) == (1920, 1080)


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ImportError, match=r'^a picture needs .*; pip install "tinygrad_rnn\[lab\]"'
    ):
        picture().save(tmp_path / "all.png")
    assert picture()._repr_png_() is None
    assert str(picture()).splitlines()[0] == "up    It rises by 2"
    assert not [*tmp_path.iterdir()]


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    for name in ("all.jpeg", "all"):
        with pytest.raises(
            ValueError, match=r"^Picture.save: the suffix of '.*' must be one of .p"
        ):
            picture().save(tmp_path / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"^cannot write the picture '.*all.png': "):
        picture().save(tmp_path / "file" / "all.png")
    for panels in ([], [lab.Panel("a", "", lines(1)), lab.Panel("a", "", lines(2))]):
        with pytest.raises(ValueError, match=r"^Picture: panels must be one or more"):
            lab.Picture(panels)
    for name in ("", "layers/0", "layers\\0"):
        with pytest.raises(ValueError, match=r"^Picture: a panel's name ends that of a file, got "):
            lab.Picture([lab.Panel(name, "", lines(1))])
    with pytest.raises(ValueError, match=r"^Picture: columns must be at least 1, got 0$"):
        picture(columns=0)


def test_the_options_of_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--panels and --format; a quick run is no finding, and each panel says so."""
    monkeypatch.setitem(lab.picture.STYLE, "svg.fonttype", "none")
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    lab.add_picture_options(parser)
    said = lab.draw_picture(picture(), tmp_path / "it", parser.parse_args([]))
    assert said == str(tmp_path / "it.png")
    options = parser.parse_args(["--quick", "--panels", "--format", "svg"])
    said = lab.draw_picture(picture(), tmp_path / "it", options)
    assert said == f"{tmp_path / 'it'}-*.svg, 3 panels"
    for name in ("up", "down", "flat"):
        drawn = shown(tmp_path / f"it-{name}.svg")
        assert "--quick: a run cut short" in drawn
        assert 'width="921.6pt"' in drawn  # the pixels of 1382.4, so all is 1.5 times as large
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert lab.draw_picture(picture(), tmp_path / "no", options).startswith("not drawn: a picture")


def test_titles_are_sentences_for_any_number_of_steps() -> None:
    """The last output depends on one step of a backward direction: nothing is said of that."""
    x, near = draw(8, 2, 3), randomise(rnn.RNN(3, 4))
    near.weight_hh_l0.data = near.weight_hh_l0.detach() * 1e-3
    both = randomise(rnn.LSTM(3, 4, bidirectional=True))

    def titles(layer: Any, inputs: Any) -> list[str]:
        flow = lab.gradient_flow(layer, lambda: total(layer(inputs)[0][-1]))
        return [panel.title for panel in flow.picture().panels]

    _, weights, products, _ = titles(near, x)
    assert weights.startswith("The nearest step alone gives ")
    assert weights.endswith(" % of the gradient of weight_hh_l0")
    assert re.fullmatch(
        r"After 8 steps at most \S+ of a small change of the state is left", products
    )
    _, weights, products, _ = titles(both, x)
    assert weights.endswith(" % of the gradient of weight_hh_l0")
    assert "8 steps" in products
    assert not any("1 steps" in title for title in titles(near, x[:1]))
