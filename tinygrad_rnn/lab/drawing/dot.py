"""The boxes as DOT, the language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator

from tinygrad_rnn.lab.drawing.graph import Box
from tinygrad_rnn.tape import printable


def dot_text(box: Box) -> str:
    """The boxes as a program for ``dot``."""
    names = {id(below): f"n{k}" for k, below in enumerate(box.walk())}
    body = [
        "digraph tape {",
        '  graph [compound=true, fontname="DejaVu Sans Mono", fontsize=12, style=rounded];',
        '  node [shape=box, style=rounded, fontname="DejaVu Sans Mono", fontsize=12];',
        *_part(box, names, "  "),
        *_edges(box, names),
        "}",
    ]
    return "\n".join([*body, ""])


def _part(box: Box, names: dict[int, str], indent: str) -> Iterator[str]:
    name = names[id(box)]
    if not box.below:
        label = "".join(f"{_quoted(text)}\\l" for text in (box.title, *box.lines))
        yield f'{indent}{name} [label="{label}"];'
        return
    yield f"{indent}subgraph cluster_{name} {{"
    yield f'{indent}  label="{_quoted(box.title)}"; labeljust=l;'
    for below in box.below:
        yield from _part(below, names, f"{indent}  ")
    yield f"{indent}}}"


def _edges(box: Box, names: dict[int, str]) -> Iterator[str]:
    for around in box.walk():
        pairs = [(edge, False) for edge in around.edges] + [(edge, True) for edge in around.returns]
        for (source, target), returning in pairs:
            a, b = around.below[source], around.below[target]
            options = ["style=dashed", "constraint=false"] if returning else []
            if a.below:
                options.append(f"ltail=cluster_{names[id(a)]}")
            if b.below:
                options.append(f"lhead=cluster_{names[id(b)]}")
            last, first = _end(a, -1), _end(b, 0)
            yield f"  {names[id(last)]} -> {names[id(first)]} [{', '.join(options)}];"


def _end(box: Box, which: int) -> Box:
    """The first or the last box in one that is opened."""
    while box.below:
        box = box.below[which]
    return box


def _quoted(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace('"', '\\"')
