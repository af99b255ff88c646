"""The report of a monitor: one page, written anew at each look, that a browser loads again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from tinygrad_rnn.lab.monitoring.line_chart import Points, line_chart
from tinygrad_rnn.tape import html_table

Row = tuple[int, str, str, float]
"""Update, quantity, name, value."""

REFRESH = 15
"""Seconds after which a browser loads the page again, while the run goes on."""
LINES = 12
"""Lines in a chart; of more, those whose last value is furthest from their median."""


class Chart(NamedTuple):
    """A chart of a quantity: what it says, its unit, and its axis."""

    title: str
    y: str
    logarithmic: bool = False


CHARTS = {
    "training": Chart("What training reports", "as in metrics.csv"),
    "gradient norm": Chart("Norms of gradients, before clipping", "loss per parameter", True),
    "update / weight": Chart("How far an update moves a weight", "|change| / |weight|", True),
    "weight norm": Chart("Norms of weights", "norm", True),
    "share of updates": Chart("Clipped and skipped, of the updates since the look before", "share"),
    "saturation": Chart("Saturated gates and candidates", "share of (T, B, H)"),
    "range": Chart("Ranges of activations", "value"),
    "flow": Chart("Gradients over distance, |dL/dh|, so many steps before the end", "norm", True),
}
"""By quantity, in the order of the page."""

STYLE = """
:root {color-scheme: light dark; --line: #8884}
body {font: 1rem/1.45 system-ui, sans-serif; max-width: 100rem; margin: 1rem auto; padding: 0 1rem}
main {display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr))}
h1 {font-size: 1.4rem} h2 {font-size: 1.1rem; margin: 0 0 .4rem}
svg {width: 100%; font-size: 15px; fill: currentColor} svg path {fill: none; stroke-width: 2.2}
svg .grid {stroke: var(--line); stroke-width: 1} .key {width: 28px; height: 12px}
ul {list-style: none; margin: .3rem 0; padding: 0; columns: 17rem 2; font-size: .9rem}
li {overflow-wrap: anywhere; break-inside: avoid}
.stands ul {columns: 1; font-size: 1rem; list-style: disc inside}
div.wide {overflow-x: auto} table {border-collapse: collapse; font-variant-numeric: tabular-nums}
td, th {padding: .15rem .7rem; text-align: right; border-bottom: 1px solid var(--line)}
td:first-child, th:first-child {text-align: left}
"""


def page(
    title: str, said: Sequence[str], rows: Sequence[Row], going_on: bool, distances: str = "flow"
) -> str:
    """The page: what is said of the run, what stands out, charts, and a table of the parameters."""
    by: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for update, quantity, name, value in rows:
        by.setdefault(quantity, {}).setdefault(name, []).append((update, value))
    found = remarks(by)
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="refresh" content="{REFRESH}">' * going_on,
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in said),
        '<section class="stands"><h2>What stands out</h2><ul>',
        *(f"<li>{escape(line)}</li>" for line in found or ["Nothing."]),
        "</ul></section><main>",
    ]
    for quantity, chart in CHARTS.items():
        series = by.get(quantity)
        if not series:
            continue
        parts.append(f"<section><h2>{escape(chart.title + _largest(series))}</h2>")
        if quantity == distances:
            parts.append(line_chart(_by_distance(series), "steps", chart.y, True))
        else:
            shown = _chosen(series)
            parts.append(line_chart(shown, "update", chart.y, chart.logarithmic))
            if len(shown) < len(series):
                parts.append(
                    f"<p>{len(shown)} of {len(series)}, those that have changed most; all are in "
                    "the CSV file.</p>"
                )
        parts.append("</section>")
    return "".join([*parts, "</main>", _table(by), "</html>"])


def remarks(by: Mapping[str, Mapping[str, Points]]) -> list[str]:
    """What somebody who trains should look at, by the last look."""
    found: list[str] = []
    for quantity, series in by.items():
        bad = [name for name, points in series.items() if not math.isfinite(points[-1][1])]
        if bad:
            more = f" and {len(bad) - 3} more" * (len(bad) > 3)
            found.append(f"{quantity} is not finite: {', '.join(bad[:3])}{more}")
    for name, points in by.get("update / weight", {}).items():
        if points[-1][1] > 0.1:
            found.append(f"an update moves {name} by {points[-1][1]:.0%} of its norm")
    for name, points in by.get("gradient norm", {}).items():
        if points[-1][1] == 0:
            found.append(f"the gradient of {name} is 0")
    for name, points in by.get("saturation", {}).items():
        if points[-1][1] > 0.9:
            found.append(f"saturated: {name} in {points[-1][1]:.0%} of its elements")
    for name, points in by.get("share of updates", {}).items():
        if points[-1][1] > (0.9 if name == "clipped" else 0):
            found.append(f"{points[-1][1]:.0%} of the updates since the look before were {name}")
    return found


def _largest(series: Mapping[str, Points]) -> str:
    """Which value is now the furthest from 0."""
    last = {name: points[-1][1] for name, points in series.items()}
    name = max(last, key=lambda name: (not math.isfinite(last[name]), abs(last[name])))
    return f": furthest from 0 is {name}, {last[name]:.3g}" if len(last) > 1 else ""


def _chosen(series: Mapping[str, Points]) -> dict[str, Points]:
    """At most LINES of them: those that have moved furthest from where they were in the middle."""
    if len(series) <= LINES:
        return dict(series)

    def moved(name: str) -> float:
        values = sorted(v for _, v in series[name] if math.isfinite(v))
        last = series[name][-1][1]
        if not math.isfinite(last):
            return math.inf
        middle = values[len(values) // 2]
        return abs(last - middle) / (abs(middle) + 1e-300)

    kept = set(sorted(series, key=moved, reverse=True)[:LINES])
    return {name: points for name, points in series.items() if name in kept}


def _by_distance(series: Mapping[str, Points]) -> dict[str, Points]:
    """Of the last look a line over the distance for every state; of few, of the first look, too.

    Names are ``layer state @ distance``.
    """
    looks = sorted({update for points in series.values() for update, _ in points})
    states = {name.rpartition(" @ ")[0] for name in series}
    found: dict[str, list[tuple[float, float]]] = {}
    chosen = {looks[-1], looks[0]} if 2 * len(states) <= LINES else {looks[-1]}
    for update in sorted(chosen, reverse=True):
        for name, points in series.items():
            layer, _, distance = name.rpartition(" @ ")
            for at, value in points:
                if at == update:
                    line = found.setdefault(f"{layer}, update {update:,.0f}", [])
                    line.append((float(distance), value))
    return {name: sorted(points) for name, points in found.items()}


def _table(by: Mapping[str, Mapping[str, Points]]) -> str:
    """The last values of every parameter."""
    columns = ("gradient norm", "weight norm", "update / weight")
    names = by.get("weight norm", {})
    if not names:
        return ""
    rows: list[list[str]] = []
    for name in names:
        found = (by.get(column, {}).get(name) for column in columns)
        rows.append([name, *(f"{points[-1][1]:.3g}" if points else "" for points in found)])
    table = html_table(("name", *columns), rows)
    return f"<h2>Parameters</h2><div class=wide>{table}</div>"
