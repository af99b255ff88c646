"""Line charts as SVG that a page can hold: small, without a library, quick to write."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from tinygrad_rnn.lab.picture import COLOURS

Points = Sequence[tuple[float, float]]
Place = Callable[[float], float]

WIDTH, HEIGHT = 720, 330
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 12, 46
LOOKS = tuple(
    (COLOURS[name], dash)
    for dash in ("", "9 4", "2 4")
    for name in ("blue", "vermilion", "green", "purple", "orange", "sky")
)
"""How lines are told apart, also without colours: by dashes, and by marks on them."""
HUGE = 1e306
"""Where an axis ends: the difference of two larger ones is no float."""
MOST = 200
"""Points of a line that are drawn; of more, every second, third, ..., and the last one."""


def line_chart(series: Mapping[str, Points], x: str, y: str, logarithmic: bool = False) -> str:
    """Lines with a legend below; where a value is inf or nan, a cross at the upper edge.

    ``x`` and ``y`` name the axes. On a logarithmic axis what is 0 or less stands at the lower edge.
    """
    series = {name: _thinned(points) for name, points in series.items()}
    every = [point for points in series.values() for point in points]
    ys = [b for _, b in every if math.isfinite(b) and (b > 0 or not logarithmic)]
    ys = [min(max(b, -HUGE), HUGE) for b in ys]
    xs = [a for a, _ in every]
    low, high = (min(ys), max(ys)) if ys else (0.1, 1.0)
    if logarithmic:
        low, high = math.floor(math.log10(low)), math.ceil(math.log10(high) + 1e-9)
        low, high = (low - 1, high + 1) if low == high else (low, high)
    elif low == high:
        more = max(0.5, abs(low) / 100)  # of a large number half of one is nothing
        low, high = low - more, high + more
    left, right = (min(xs), max(xs)) if xs else (0.0, 1.0)
    right = right if right > left else left + 1

    def across(a: float) -> float:
        return LEFT + (a - left) / (right - left) * (WIDTH - LEFT - RIGHT)

    def up(b: float) -> float:
        if logarithmic:
            b = math.log10(b) if b > 0 else low
        b = min(max(b, low), high)
        return HEIGHT - BOTTOM - (b - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y)}">']
    for tick in _ticks(low, high, whole=logarithmic):
        at = up(10.0**tick if logarithmic else tick)
        shown = f"1e{tick:.0f}" if logarithmic else f"{tick:.4g}"
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 5:.1f}" text-anchor="end">{shown}</text>')
    for tick in _ticks(left, right, whole=True):
        at = across(tick)
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - 26}" text-anchor="middle">{tick:g}</text>')
    middle = (LEFT + WIDTH) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>')
    legend: list[str] = []
    for k, (name, points) in enumerate(series.items()):
        colour, dash = LOOKS[k % len(LOOKS)]
        parts += _line(points, name, colour, dash, across, up)
        swatch = f'<path d="M0 6H28" stroke="{colour}" stroke-dasharray="{dash}"/>'
        last = f"{points[-1][1]:.3g}" if points else ""
        legend.append(
            f'<li><svg class="key" viewBox="0 0 28 12">{swatch}</svg> {escape(name)} '
            f"<b>{last}</b></li>"
        )
    return f"{''.join(parts)}</svg><ul>{''.join(legend)}</ul>"


def _line(points: Points, name: str, colour: str, dash: str, across: Place, up: Place) -> list[str]:
    """A line broken where a value is not finite, and crosses there."""
    parts: list[str] = []
    path, pen = "", "M"
    for a, b in points:
        if math.isfinite(b):
            path, pen = f"{path}{pen}{across(a):.1f} {up(b):.1f}", "L"
        else:
            pen = "M"
            at = across(a)
            parts.append(
                f'<path d="M{at - 5:.1f} {TOP - 5}l10 10m0 -10l-10 10" stroke="{colour}">'
                f"<title>{escape(name)}: {b} at {a:g}</title></path>"
            )
    parts.append(
        f'<path d="{path or "M0 0"}" stroke="{colour}" stroke-dasharray="{dash}">'
        f"<title>{escape(name)}</title></path>"
    )
    if sum(math.isfinite(b) for _, b in points) <= 30:
        parts += [
            f'<circle cx="{across(a):.1f}" cy="{up(b):.1f}" r="3" fill="{colour}"/>'
            for a, b in points
            if math.isfinite(b)
        ]
    return parts


def _thinned(points: Points) -> Points:
    step = -(-len(points) // MOST) or 1
    return [*points[:-1:step], *points[-1:]]


def _ticks(low: float, high: float, whole: bool) -> list[float]:
    """About five round numbers from low to high."""
    size = 10.0 ** math.floor(math.log10((high - low) / 4 or 1))
    step = next(size * k for k in (1, 2, 5, 10) if size * k * 6 >= high - low)
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]
