"""Pictures for a projector: panels that say one thing each, drawn by matplotlib (extra ``lab``)."""

from __future__ import annotations

import argparse
import io
import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinygrad_rnn.nn.disk import write_atomically

COLOURS = {
    "blue": "#0072b2",
    "vermilion": "#d55e00",
    "green": "#009e73",
    "orange": "#e69f00",
    "purple": "#cc79a7",
    "sky": "#56b4e9",
    "yellow": "#f0e442",
    "black": "#000000",
    "grey": "#7f7f7f",
}
"""Colours by name that the colour-blind tell apart (Okabe, Ito 2008), and a grey."""

FORMATS = ("png", "svg", "pdf")
WIDTH, HEIGHT = 19.2, 10.8
"""Inches of a picture, at 100 dots: 1920 by 1080 pixels."""
ALONE = 1.5
"""How many times larger text and lines are in a panel by itself, which has as many pixels."""
TEXT = 14
"""The size of text in points; titles have 2 more."""
STYLE = {
    "font.size": TEXT,
    "axes.titlesize": TEXT + 2,
    "axes.titlelocation": "left",
    "axes.labelsize": TEXT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": f"cycler('color', {[*COLOURS.values()]})",
    "grid.alpha": 0.3,
    "legend.fontsize": TEXT,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "lines.linewidth": 2.5,
    "lines.markersize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 100,
}


@dataclass(frozen=True)
class Panel:
    """One statement, drawn.

    Parameters
    ----------
    name
        A word for the panel, of which the name of its file is made: ``"cell-path"``.
    title
        The statement itself, a finding rather than a heading: ``"An LSTM keeps half of the
        gradient over 100 steps"``. It is broken into lines where it is long.
    draw
        A function of the panel's axes, those of matplotlib, that draws into them. Two colour scales
        are equal only if both are given the same limits.
    projection
        ``"3d"`` for a surface.
    """

    name: str
    title: str
    draw: Callable[[Any], object]
    projection: str | None = None


@dataclass(frozen=True)
class Picture:
    """Some panels, 1920 by 1080 pixels together or each by itself.

    matplotlib is imported when the picture is saved; ``pip install "tinygrad_rnn[lab]"`` brings it.

    Parameters
    ----------
    panels
        From left to right, and row by row.
    columns
        Panels beside each other; None for as many as rows, or one more.
    note
        A line that stands below every panel: what one must know to believe it.

    Examples
    --------
    >>> from tinygrad_rnn.lab import Panel, Picture
    >>> def decay(axes):
    ...     axes.semilogy([0.9**t for t in range(100)])
    ...     axes.set(xlabel="t", ylabel="share kept")
    >>> picture = Picture([Panel("decay", "After 100 steps 0.9 leaves 3e-5", decay)])
    >>> print(picture)
    decay  After 100 steps 0.9 leaves 3e-5
    """

    panels: Sequence[Panel]
    columns: int | None = None
    note: str = ""

    def __post_init__(self) -> None:
        names = [panel.name for panel in self.panels]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"Picture: panels must be one or more, each of its own name, got {names}"
            )
        unfit = [name for name in names if not name or "/" in name or "\\" in name]
        if unfit:
            raise ValueError(f"Picture: a panel's name ends that of a file, got {unfit[0]!r}")
        if self.columns is not None and self.columns < 1:
            raise ValueError(f"Picture: columns must be at least 1, got {self.columns}")

    def save(self, path: str | os.PathLike[str], panels: bool = False) -> list[Path]:
        """Write the picture and say where it lies; folders that are missing are made.

        Parameters
        ----------
        path
            The file. Its suffix is the format: ``.png``, ``.svg`` or ``.pdf``.
        panels
            Whether each panel becomes a file of its own, ``stem-name.suffix``, instead. Its text
            is 1.5 times as large, with the same number of pixels.

        Raises
        ------
        ImportError
            Without matplotlib.
        OSError
            Where the file cannot be written.
        """
        path = Path(path)
        kind = path.suffix.removeprefix(".")
        if kind not in FORMATS:
            wanted = ", ".join(f".{each}" for each in FORMATS)
            raise ValueError(f"Picture.save: the suffix of {str(path)!r} must be one of {wanted}")
        parts = {path: self.panels}
        if panels:
            parts = {
                path.with_name(f"{path.stem}-{panel.name}{path.suffix}"): [panel]
                for panel in self.panels
            }
        for file, chosen in parts.items():
            content = self._drawn(chosen, kind, ALONE if panels else 1.0)
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(file, content)
            except OSError as error:
                reason = error.strerror or error
                raise OSError(f"cannot write the picture {str(file)!r}: {reason}") from error
        return list(parts)

    def _drawn(self, panels: Sequence[Panel], kind: str, scale: float) -> bytes:
        """The bytes of a file with these panels."""
        try:
            from matplotlib import rc_context
            from matplotlib.figure import Figure
        except ImportError:
            advice = 'pip install "tinygrad_rnn[lab]"'
            raise ImportError(f"a picture needs matplotlib, which is missing; {advice}") from None
        columns = self.columns or next(n for n in range(1, 1000) if n * n >= len(panels))
        columns = min(columns, len(panels))
        rows = -(-len(panels) // columns)
        width, height = WIDTH / scale, HEIGHT / scale
        content, drawn = io.BytesIO(), []
        with rc_context(STYLE):  # pyright: ignore[reportArgumentType]
            figure = Figure((width, height), layout="constrained")
            figure.get_layout_engine().set(w_pad=0.15, h_pad=0.12)  # pyright: ignore
            for k, panel in enumerate(panels):
                axes = figure.add_subplot(rows, columns, k + 1, projection=panel.projection)
                panel.draw(axes)
                _take_names_literally(axes)
                drawn.append(axes)
            if self.note:
                figure.supxlabel(self.note, fontsize=TEXT, color=COLOURS["vermilion"])
            figure.draw_without_rendering()  # so that all has a size, which titles are broken to
            for axes, panel in zip(drawn, panels, strict=True):
                title = axes.set_title(panel.title or " ", parse_math=False)
                letter = title.get_window_extent().width / len(title.get_text())
                title.set_text(_broken(panel.title, max(int(axes.bbox.width / letter), 12)))
            figure.savefig(content, format=kind, dpi=100 * scale)
        return content.getvalue()

    def _repr_png_(self) -> bytes | None:
        """The picture for a notebook, which without matplotlib shows the panels' titles."""
        try:
            return self._drawn(self.panels, "png", 1.0)
        except ImportError:
            return None

    def __str__(self) -> str:
        width = max(len(panel.name) for panel in self.panels)
        return "\n".join(f"{panel.name:{width}}  {panel.title}" for panel in self.panels)


def _broken(text: str, letters: int) -> str:
    """Lines of so many letters at most; what "=" joins and what "%" belongs to stay together."""
    joined = text.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    joined = joined.replace(" %", "\N{NO-BREAK SPACE}%")
    return textwrap.fill(joined, letters).replace("\N{NO-BREAK SPACE}", " ")


def _take_names_literally(axes: Any) -> None:
    """No dollar in a name begins mathematics."""
    legend = axes.get_legend()
    texts = [] if legend is None else legend.get_texts()
    for text in (*axes.texts, *texts, axes.xaxis.label, axes.yaxis.label):
        text.set_parse_math(False)


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Let a program take ``--panels`` and ``--format``, which :func:`draw_picture` reads."""
    parser.add_argument(
        "--panels", action="store_true", help="draw every panel of the picture by itself"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="png", help="of the picture (%(default)s)"
    )


def draw_picture(
    picture: Picture, path: str | os.PathLike[str], options: argparse.Namespace
) -> str:
    """Save a program's picture as its options say; where it lies, or what is missing for it.

    ``path`` has no suffix. ``options`` are those of :func:`add_picture_options`; of a program that
    was run with ``--quick`` each panel says so.
    """
    if getattr(options, "quick", False):
        picture = replace(picture, note="--quick: a run cut short, to show how this is drawn")
    try:
        files = picture.save(f"{os.fspath(path)}.{options.format}", panels=options.panels)
    except ImportError as error:
        return f"not drawn: {error}"
    if not options.panels:
        return str(files[0])
    return f"{os.fspath(path)}-*.{options.format}, {len(files)} panels"
