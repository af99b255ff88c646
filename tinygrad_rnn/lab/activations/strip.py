"""One unit over a sequence: as coloured text, as a strip, as a picture."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_rnn.lab.picture import COLOURS, Panel, Picture
from tinygrad_rnn.lab.written import write_text

SIGNS = "=-.+#"
"""From a value near -1 to one near 1."""
SHOWN = {
    " ": "\N{OPEN BOX}",
    "\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}",
    "\t": "\N{RIGHTWARDS ARROW}",
}
"""What stands for a character that is not to be seen."""
COMBINING = "\N{DOTTED CIRCLE}"
"""What a mark is put on that belongs to a letter before it."""
BARS = 60
"""Up to so many tokens are bars with their names, more are rows of cells."""
ROW = 64
"""Cells in a row."""
STYLE = """<style>
.unit {font: 1rem/2 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
  color: #000; background: #fff; padding: .5em}
.unit span {text-decoration-skip-ink: none; text-underline-offset: .3em; border-radius: .15em}
</style>"""


@dataclass(frozen=True)
class Strip:
    """The values of one unit over a sequence, with what was read.

    ``print(strip)`` has a sign below every token, or the number below a word; ``strip.to_html`` and
    notebooks colour the tokens, blue below 0 and orange above it, underlined by a line of dots or a
    whole one, the thicker the further from 0, so that it can be read without colours.

    Attributes
    ----------
    name : which unit of which layer it is.
    values : (T,), in the unit of the inner value.
    tokens : T strings.
    gate : whether it is a gate, between 0 and 1: then signs are digits, tenths of it.
    scale : the value at which colours end.
    """

    name: str
    values: np.ndarray
    tokens: tuple[str, ...]
    gate: bool
    scale: float

    def _relative(self) -> np.ndarray:
        """The values between -1 and 1; a gate's from its middle."""
        shift = 0.5 if self.gate else 0.0
        return np.clip((self.values - shift) / ((0.5 if self.gate else self.scale) or 1.0), -1, 1)

    def signs(self) -> list[str]:
        """A sign for every token: a digit for a gate, else one of ``=-.+#``; ``!`` for nan."""
        signs: list[str] = []
        for value, relative in zip(self.values, self._relative(), strict=True):
            if np.isnan(value):
                signs.append("!")
            elif self.gate:
                signs.append(str(int(np.clip(10 * value, 0, 9))))
            else:
                signs.append(SIGNS[int(np.clip(round(2 * float(relative)), -2, 2)) + 2])
        return signs

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = 80, colour: bool = False) -> str:
        """The sequence in lines of so many columns, with the unit below each; ``colour`` for a
        terminal that knows them.
        """
        if all(len(token) == 1 for token in self.tokens):
            shown = map(readable, self.tokens)
            cells = [(t, _padded(s, width_of(t))) for t, s in zip(shown, self.signs(), strict=True)]
            gap = ""
        else:
            form = "{:.2f}" if self.gate else "{:+.2f}"
            shown = map(readable, self.tokens)
            pairs = [(t, form.format(v)) for t, v in zip(shown, self.values, strict=True)]
            cells = [(_padded(t, len(v)), _padded(v, width_of(t))) for t, v in pairs]
            gap = " "
        lines, row, used = [self.name], ([], []), 0
        for (token, sign), relative in zip(cells, self._relative(), strict=True):
            if used and used + width_of(token) > width:
                lines += [gap.join(part).rstrip() for part in row]
                row, used = ([], []), 0
            row[0].append(_ansi(token, float(relative)) if colour else token)
            row[1].append(sign)
            used += width_of(token) + len(gap)
        return "\n".join([*lines, *(gap.join(part).rstrip() for part in row)])

    def _repr_html_(self) -> str:
        words = any(len(token) > 1 for token in self.tokens)
        spans: list[str] = []
        for token, value, relative in zip(self.tokens, self.values, self._relative(), strict=True):
            text = escape(readable(token))
            if token == "\n":
                text += "<br>"
            line = "solid" if relative > 0 else "dotted"
            thick = 0 if np.isnan(value) else round(4 * abs(float(relative)))
            look = f"background:{_colour(float(relative))}"
            look += f";text-decoration:underline {line} {thick}px" * bool(thick)
            spans.append(f'<span style="{look}" title="{value:+.3f}">{text}</span>')
        body = (" " if words else "").join(spans)
        end = "0 to 1" if self.gate else f"-{self.scale:.2g} to {self.scale:.2g}"
        head = f"{escape(self.name)}, {end}: dotted and blue is low, a whole line and orange high"
        return f'{STYLE}<div class="unit"><b>{head}</b>\n{body}</div>'

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the coloured text as a page."""
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>{escape(self.name)}</title>{self._repr_html_()}</html>"
        )
        return write_text(path, page, "Strip.to_html")

    def panel(self, title: str | None = None, name: str = "unit") -> Panel:
        """The strip as a panel: bars over words, rows of cells for a long text."""
        said = title or f"{self.name} between {self.values.min():.2g} and {self.values.max():.2g}"
        return Panel(name, said, self._bars if len(self.tokens) <= BARS else self._cells)

    def picture(self, title: str | None = None) -> Picture:
        """The strip as a picture."""
        return Picture([self.panel(title)])

    def _bars(self, axes: Any) -> None:
        places = np.arange(len(self.tokens))
        colours = [COLOURS["orange"] if v > 0 else COLOURS["blue"] for v in self.values]
        axes.bar(places, np.clip(self.values, -self.scale, self.scale), color=colours, width=0.9)
        axes.axhline(0, color="black", linewidth=1)
        axes.set_axisbelow(True)
        name_ticks(axes, self.tokens)
        axes.set(ylabel=self.name, ylim=(0, 1) if self.gate else (-self.scale, self.scale))
        axes.margins(x=0.01)

    def _cells(self, axes: Any) -> None:
        rows = -(-len(self.values) // ROW)
        grid = np.full((rows, ROW), np.nan)
        grid.flat[: len(self.values)] = self.values
        ends = (0.0, 1.0) if self.gate else (-self.scale, self.scale)
        look = {"cmap": "PuOr_r", "vmin": ends[0], "vmax": ends[1], "alpha": 0.6}
        drawn = axes.imshow(grid, **look, aspect="auto")
        axes.figure.colorbar(drawn, ax=axes, label=self.name)
        for k, (token, sign) in enumerate(zip(self.tokens, self.signs(), strict=True)):
            near = {"ha": "center", "fontfamily": "monospace"}
            axes.text(k % ROW, k // ROW, drawable(token), va="bottom", **near)
            axes.text(k % ROW, k // ROW, sign, va="top", alpha=0.7, **near)
        axes.grid(False)
        axes.set(xlabel=f"in rows of {ROW}; below each character its value as a sign")
        axes.set_yticks([])
        axes.set_xticks([])


def readable(token: str) -> str:
    """A token as it can be printed: signs for what is not to be seen or would move the cursor."""
    if len(token) == 1 and unicodedata.combining(token):
        return COMBINING + token
    if token in SHOWN:
        return SHOWN[token]
    seen = (c if c.isprintable() else SHOWN.get(c, "\N{REPLACEMENT CHARACTER}") for c in token)
    return "".join(seen)


def drawable(token: str) -> str:
    """A token for matplotlib, to which dollars are mathematics."""
    return readable(token).replace("$", r"\$")


def name_ticks(axes: Any, tokens: Sequence[str]) -> None:
    """The tokens along the axis, upright where they are long."""
    rotation = 0 if max(len(readable(t)) for t in tokens) == 1 else 90
    axes.set_xticks(range(len(tokens)), [*map(drawable, tokens)], rotation=rotation)


def width_of(text: str) -> int:
    """How many columns of a terminal a text takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def _padded(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


def _ansi(token: str, relative: float) -> str:
    """A token on a background: orange or blue on white."""
    if np.isnan(relative):
        return token
    red, green, blue = _mixed(relative)
    return f"\x1b[30;48;2;{red};{green};{blue}m{token}\x1b[0m"


def _colour(relative: float) -> str:
    return "none" if np.isnan(relative) else "#{:02x}{:02x}{:02x}".format(*_mixed(relative))


def _mixed(relative: float) -> list[int]:
    """Between white and orange, or white and blue; light enough for black text."""
    end = COLOURS["orange" if relative > 0 else "sky"]
    target = [int(end[k : k + 2], 16) for k in (1, 3, 5)]
    return [round(255 + (c - 255) * abs(relative)) for c in target]
