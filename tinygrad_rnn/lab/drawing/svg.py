"""The placed boxes as SVG: text that can be selected, light or dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from tinygrad_rnn.lab.drawing.layout import LINE, PAD, Placed, Point
from tinygrad_rnn.tape import printable

_MARGIN = 16.0

_STYLE = """
  .ground { fill: #ffffff } .box { fill: #ffffff; stroke: #5b6470 }
  .around { fill: #f3f5f7; stroke: #5b6470 } .loop { fill: #e6f0f8; stroke: #0067a5; stroke-width: 1.5 }
  text { font: 13px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #16191d }
  .title { font-weight: 700 } .more { fill: #5b6470 }
  .edge { fill: none; stroke: #5b6470; stroke-width: 1.4 } .head { fill: #5b6470 }
  .return { fill: none; stroke: #b04a00; stroke-width: 1.6; stroke-dasharray: 6 4 } .back { fill: #b04a00 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #14171b } .box { fill: #14171b; stroke: #a2abb7 }
    .around { fill: #1d2126; stroke: #a2abb7 } .loop { fill: #1c2c3a; stroke: #62b8f0 }
    text { fill: #e9ecf0 } .more { fill: #a2abb7 } .edge { stroke: #a2abb7 } .head { fill: #a2abb7 }
    .return { stroke: #f0a050 } .back { fill: #f0a050 }
  }
"""  # noqa: E501

_KINDS: dict[str, str] = {"steps": "loop", "repeat": "loop", "record": "loop"}
"""How boxes that are opened are filled, a replayed loop, which is a record, among them."""

_LEGEND = "dashed: what the next time step, or the next repetition, reads"


def svg(placed: Placed) -> str:
    """The picture."""
    legend = any(box.returns for box in placed.box.walk())
    width = max(placed.width, len(_LEGEND) * 7.9 if legend else 0) + 2 * _MARGIN
    height = placed.height + 2 * _MARGIN + LINE * legend
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        f"<title>{escape(printable(placed.box.title))}</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path class="head" d="M0 0 8 4 0 8z"/></marker>'
        '<marker id="back" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path class="back" d="M0 0 8 4 0 8z"/></marker></defs>',
        '<rect class="ground" width="100%" height="100%"/>',
        *_box(placed, _MARGIN, _MARGIN),
    ]
    if legend:
        parts.append(_text(_MARGIN, height - _MARGIN + 4, _LEGEND, "more"))
    return "\n".join([*parts, "</svg>", ""])


def _box(placed: Placed, x: float, y: float) -> Iterator[str]:
    box = placed.box
    kind = _KINDS.get(box.kind, "around") if box.below else "box"
    yield (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" '
        f'width="{placed.width:.1f}" height="{placed.height:.1f}" rx="6"/>'
    )
    yield _text(x + PAD, y + LINE, box.title, "title")
    if not box.below:
        for k, line in enumerate(box.lines):
            yield _text(x + PAD, y + LINE * (k + 2), line, "more")
        return
    for points, count in placed.edges:
        yield _path(_curve(points, x, y), "edge", "head", count)
    for points, count in placed.returns:
        yield _path(_corners(points, x, y), "return", "back", count)
    for below in placed.below:
        yield from _box(below, x + below.x, y + below.y)


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(printable(text))}</text>'


def _path(d: str, kind: str, head: str, count: int) -> str:
    values = "1 value" if count == 1 else f"{count} values"
    return f'<path class="{kind}" marker-end="url(#{head})" d="{d}"><title>{values}</title></path>'


def _curve(points: Sequence[Point], x: float, y: float) -> str:
    """From point to point, leaving and arriving vertically."""
    (x0, y0), *rest = [(x + px, y + py) for px, py in points]
    parts = [f"M{x0:.1f} {y0:.1f}"]
    for x1, y1 in rest:
        middle = (y0 + y1) / 2
        parts.append(f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}")
        x0, y0 = x1, y1
    return "".join(parts)


def _corners(points: Sequence[Point], x: float, y: float) -> str:
    return "M" + "L".join(f"{x + px:.1f} {y + py:.1f}" for px, py in points)
