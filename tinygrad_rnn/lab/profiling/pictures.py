"""A profile drawn: time by layer, by operation and inside loops, memory over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from tinygrad_rnn.lab.picture import COLOURS, Panel, Picture
from tinygrad_rnn.lab.profiling.inside import Loops
from tinygrad_rnn.lab.profiling.memory import Change, Peak
from tinygrad_rnn.lab.table import format_seconds, shortened
from tinygrad_rnn.tape import format_bytes

BARS = 10
"""Bars of a panel; the rest is one bar."""

MEMORY = {
    "parameters": "black",
    "inputs": "yellow",
    "results": "blue",
    "kept by replayed loops": "sky",
    "gradients": "vermilion",
    "idle, to be used again": "grey",
}
"""What memory is for, from below, and its colours."""

KINDS = {
    "before": ("all steps, before", "before they begin"),
    "product": ("products", "in products"),
    "kernel": ("kernels", "in kernels"),
    "call": ("other calls", "in calls of operations"),
    "after": ("all steps, after", "after they end"),
}
"""What the parts of a loop are called beside a bar and in a sentence."""


class Timed(Protocol):
    """What a bar is drawn of: a name, seconds forward and backward."""

    @property
    def name(self) -> str: ...
    @property
    def forward(self) -> float: ...
    @property
    def backward(self) -> float: ...


class _Bar(NamedTuple):
    name: str
    forward: float = 0.0
    backward: float = 0.0
    other: float = 0.0


def profile_picture(
    seconds: float,
    tables: Mapping[str, Sequence[Timed]],
    outside: Mapping[str, float],
    changes: Sequence[Change],
    peak: Peak,
    loops: Loops | None,
) -> Picture:
    """The picture of a profile; see :meth:`Profile.picture`."""
    others = [_Bar(name, other=max(value, 0.0)) for name, value in outside.items()]
    panels = [
        Panel(
            f"{what}s", _statement(what, rows[0], seconds), partial(_bars, [*_first(rows), *others])
        )
        for what, rows in tables.items()
        if rows
    ]
    if loops is not None and loops.parts:
        times = _of_loops(loops)
        total = sum(map(sum, times.values()))
        first = next(iter(times))
        share = sum(times[first]) / total if total else 0.0
        title = f"Loops spend {share:.0%} of {format_seconds(total)} {KINDS[first][1]}"
        bars = [_Bar(KINDS[kind][0], *both) for kind, both in times.items()]
        panels.append(Panel("loops", title, partial(_bars, bars)))
    if changes:
        most = f"; most is {next(iter(_by_purpose(peak)))}" if peak.nbytes else ""
        title = f"Memory peaks at {format_bytes(peak.nbytes)}{most}"
        panels.append(Panel("memory", title, partial(_memory, changes, peak)))
    return Picture(panels)


def _statement(what: str, first: Timed, seconds: float) -> str:
    share = (first.forward + first.backward) / seconds if seconds else 0.0
    name = shortened(first.name, 32)
    return f"The {what} {name} takes {share:.0%} of {format_seconds(seconds)}"


def _first(rows: Sequence[Timed]) -> list[_Bar]:
    bars = [_Bar(row.name, row.forward, row.backward) for row in rows]
    shown, rest = bars[:BARS], bars[BARS:]
    if rest:
        times = sum(b.forward for b in rest), sum(b.backward for b in rest)
        shown.append(_Bar(f"{len(rest)} others", *times))
    return shown


def _of_loops(loops: Loops) -> dict[str, tuple[float, float]]:
    """The seconds of each kind of part, forward and backward, the longest first."""
    times = dict.fromkeys(KINDS, (0.0, 0.0))
    for part in loops.parts:
        forward, backward = times[part.kind]
        if part.phase == "forward":
            times[part.kind] = forward + part.seconds, backward
        else:
            times[part.kind] = forward, backward + part.seconds
    found = sorted(times.items(), key=lambda item: -sum(item[1]))
    return {kind: both for kind, both in found if any(both)}


def _by_purpose(peak: Peak) -> dict[str, int]:
    """What was alive at the peak by what it is for, the most first."""
    found: dict[str, int] = {}
    for kind, nbytes in peak.alive.items():
        found[kind.what] = found.get(kind.what, 0) + nbytes
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _bars(bars: Sequence[_Bar], axes: Any) -> None:
    places = range(len(bars))[::-1]
    left = np.zeros(len(bars))
    series = {
        "forward": ("blue", [bar.forward for bar in bars]),
        "backward": ("vermilion", [bar.backward for bar in bars]),
        "no record": ("grey", [bar.other for bar in bars]),
    }
    for label, (colour, seconds) in series.items():
        widths = 1e3 * np.array(seconds)
        if widths.any():
            axes.barh(places, widths, left=left, color=COLOURS[colour], label=label)
        left += widths
    axes.set_yticks(places, [shortened(bar.name, 28) for bar in bars], parse_math=False)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="time (ms)", xlim=(0, 1.5 * max(left)))  # the legend beside the longest bar
    axes.legend(loc="lower right")


def _memory(changes: Sequence[Change], peak: Peak, axes: Any) -> None:
    mebibyte = 2.0**20
    times = 1e3 * np.array([change.seconds for change in changes])
    sizes = np.array([change.nbytes for change in changes]) / mebibyte
    purposes = np.array([change.kind.what for change in changes])
    present = [what for what in MEMORY if (purposes == what).any()]
    alive = [np.cumsum(np.where(purposes == what, sizes, 0.0)) for what in present]
    colours = [COLOURS[MEMORY[what]] for what in present]
    axes.stackplot(times, alive, labels=present, colors=colours, step="post", linewidth=0)
    axes.plot(1e3 * peak.seconds, peak.nbytes / mebibyte, "o", color=COLOURS["purple"])
    axes.set(xlabel="time (ms)", ylabel="alive (MiB)")
    axes.set_ylim(0, 1.05 * peak.nbytes / mebibyte)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), reverse=True)
