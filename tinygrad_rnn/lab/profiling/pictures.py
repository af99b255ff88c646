"""A profile drawn: time by layer and by operation, memory over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from tinygrad_rnn.lab.picture import COLOURS, Panel, Picture
from tinygrad_rnn.lab.profiling.memory import Peak
from tinygrad_rnn.lab.profiling.table import format_seconds, shortened
from tinygrad_rnn.tape import format_bytes

BARS = 10


class Timed(Protocol):
    """A row of a profile."""

    @property
    def name(self) -> str: ...
    @property
    def forward(self) -> float: ...
    @property
    def backward(self) -> float: ...


def profile_picture(
    layers: Sequence[Timed],
    operations: Sequence[Timed],
    outside: Sequence[tuple[str, float]],
    seconds: float,
    times: np.ndarray,
    alive: np.ndarray,
    peak: Peak,
) -> Picture:
    """The picture of a profile; see :meth:`Profile.picture`."""
    panels = [
        Panel(name, _statement(what, rows, seconds), lambda axes, r=rows: _bars(axes, r, outside))
        for name, what, rows in (("layers", "layer", layers), ("operations", "operation", operations))
        if rows
    ]
    if len(times):
        largest = max(peak.alive, key=peak.alive.__getitem__, default=None)
        what = f", most of it {largest.what}" if largest else ""
        title = f"Memory peaks at {format_bytes(peak.nbytes)}{what}"
        panels.append(Panel("memory", title, lambda axes: _memory(axes, times, alive, peak)))
    return Picture(panels)


def _statement(what: str, rows: Sequence[Timed], seconds: float) -> str:
    first = rows[0]
    share = (first.forward + first.backward) / seconds if seconds else 0.0
    return f"{first.name} is the {what} that takes most: {share:.0%} of {format_seconds(seconds)}"


def _bars(axes: Any, rows: Sequence[Timed], outside: Sequence[tuple[str, float]]) -> None:
    shown, rest = rows[:BARS], rows[BARS:]
    bars = [(shortened(r.name, 30), 1e3 * r.forward, 1e3 * r.backward, 0.0) for r in shown]
    if rest:
        sums = [1e3 * sum(times) for times in zip(*((r.forward, r.backward) for r in rest))]  # noqa: B905
        bars.append((f"{len(rest)} others", *sums, 0.0))  # pyright: ignore
    bars += [(shortened(name, 30), 0.0, 0.0, 1e3 * max(s, 0.0)) for name, s in outside]
    places = range(len(bars))[::-1]
    left = np.zeros(len(bars))
    kinds = (("forward", "blue"), ("backward", "vermilion"), ("between records", "grey"))
    for k, (label, colour) in enumerate(kinds, 1):
        widths = np.array([bar[k] for bar in bars], dtype=float)
        axes.barh(places, widths, left=left, color=COLOURS[colour], label=label)
        left += widths
    axes.set_yticks(places, [bar[0] for bar in bars], parse_math=False)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("time (ms)")
    axes.legend(loc="lower right")


def _memory(axes: Any, times: np.ndarray, alive: np.ndarray, peak: Peak) -> None:
    mebibyte = 2.0**20
    axes.step(1e3 * times, alive / mebibyte, where="post", color=COLOURS["blue"])
    axes.plot(1e3 * peak.seconds, peak.nbytes / mebibyte, "o", color=COLOURS["vermilion"])
    axes.set(xlabel="time (ms)", ylabel="alive (MiB)")
    axes.set_ylim(bottom=0)
