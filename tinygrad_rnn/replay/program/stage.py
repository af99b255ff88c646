"""What became of a step, as data: the program after each pass, each line with what it was made of.

Text and pages are made of it; ``stages.py`` makes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from textwrap import fill

from tinygrad_rnn.replay.program.lineage import Lineage
from tinygrad_rnn.replay.program.program import Names, Op, Program
from tinygrad_rnn.tape import Origin


@dataclass(frozen=True)
class Row:
    """One line of a stage.

    Attributes
    ----------
    text : the line, of a program or of source.
    numbers : the lines of the first stage of its direction that it was made of.
    equations : the lines of the step as traced that it computes, or, of a backward line, that it
        is part of the gradient of.
    why : where it came from, or why it stands here; may be "".
    """

    text: str
    numbers: tuple[int, ...] = ()
    equations: tuple[int, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Section:
    """Rows of a stage that belong together.

    ``place`` says where they are run, in ``split`` and ``fused``: ``once``, ``before``, ``loop``,
    ``after``, ``step 0`` and so on, ``strides`` for lines that only say where values lie.
    """

    title: str
    rows: tuple[Row, ...]
    place: str = ""


@dataclass(frozen=True)
class Stage:
    """The step after a pass.

    Attributes
    ----------
    name : of the pass: ``traced``, ``differentiated``, ``lowered``, ``simplified``, ``split``,
        ``fused``, ``planned``, ``emitted, Numba`` (or ``CUDA``, or ``NumPy``).
    about : what the pass does and why.
    sections : the program, or what stands in its place.
    moves : what the pass did with lines of the stage before, one row each.
    notes : what is to be said of all of it.
    """

    name: str
    about: str
    sections: tuple[Section, ...]
    moves: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()

    def rows(self) -> Iterator[Row]:
        """Those of all sections."""
        for section in self.sections:
            yield from section.rows

    def __str__(self) -> str:
        """The rows, at the left of each the lines of the traced step that it was made of."""
        parts = [fill(f"{self.name}: {self.about}", 100)]
        wide = max((len(ranges(row.equations)) for row in (*self.moves, *self.rows())), default=0)
        for section in (Section("", self.moves), *self.sections):
            one = {row.why for row in section.rows}
            common = one.pop() if len(one) == 1 and len(section.rows) > 1 else ""
            if section.title or common:
                parts.append(f"  {section.title}{f'   # {common}' * bool(common)}")
            for row in section.rows:
                text = f"{row.text}{f'   # {row.why}' * (row.why != common)}"
                parts.append(f"  {ranges(row.equations):>{wide}} | {text}".rstrip())
        return "\n".join([*parts, *(f"  {note}" for note in self.notes)])


@dataclass(frozen=True)
class Way:
    """The stages of one program: of the forward or of the backward step.

    ``others`` is what the emitters write that do not run it here, the last one of ``stages`` what
    that one does which runs it.
    """

    title: str
    stages: tuple[Stage, ...]
    others: tuple[Stage, ...] = ()

    def stage(self, name: str) -> Stage:
        """The stage of that name; ``emitted`` is that of the emitter which runs it here."""
        return next(stage for stage in self.stages if stage.name.partition(",")[0] == name)

    def places(self, equation: int) -> list[str]:
        """Where what was made of a line of the traced step is run: ``["once", "step 1"]``."""
        found: list[str] = []
        for section in self.stage("split").sections:
            inside = self.stage("fused").sections if section.place == "loop" else [section]
            found += [
                part.place for part in inside if any(equation in row.equations for row in part.rows)
            ]
        return found

    def __str__(self) -> str:
        """All stages."""
        return "\n\n".join([f"== {self.title} ==", *map(str, self.stages)])


@dataclass(frozen=True)
class Stages:
    """A step from its trace to its source: as traced, then forward and backward.

    ``origins`` say where the lines of the traced step come from, as far as somebody looked.
    ``str()`` shows these lines, and where each is run; ``str()`` of a way all of its stages.
    """

    traced: Stage
    ways: tuple[Way, ...]
    origins: tuple[Origin, ...] = ()

    def __str__(self) -> str:
        first, lines, last = self.traced.sections
        table = [["", "the step, as traced", *(way.title.partition(",")[0] for way in self.ways)]]
        for row in lines.rows:
            ran = [", ".join(p for k in row.equations for p in way.places(k)) for way in self.ways]
            table.append([ranges(row.equations), row.text, *ran])
        wide = [max(map(len, column)) for column in zip(*table, strict=True)]
        why = ["", *(row.why for row in lines.rows)]
        why = [new * (new != old) for old, new in zip(["", *why], why, strict=False)]
        shown: list[str] = []
        for cells, said in zip(table, why, strict=True):
            shown += [said] * bool(said)  # the equation, above the lines that compute it
            row = "  ".join(f"{x:<{w}}" for x, w in zip(cells, wide, strict=True))
            shown.append(row.rstrip())
        return "\n".join([row.text for row in first.rows] + shown + [row.text for row in last.rows])


class Rows:
    """Makes the rows of one way, in which a value has one name through all stages.

    Parameters
    ----------
    first : the program of the way's first stage.
    traced : the step as traced.
    """

    def __init__(self, names: Names, first: Program, traced: Program) -> None:
        self.names = names
        self._first, self._traced = Lineage(first), Lineage(traced)

    def row(self, text: str, ops: Iterable[Op], why: str = "") -> Row:
        """A row of what ``ops`` were made of."""
        ops = [*ops]
        return Row(text, self._first.numbers_of(ops), self._traced.numbers_of(ops), why)

    def line(self, op: Op, why: str = "") -> Row:
        """A line of a program."""
        return self.row(self.names.line(op), [op], why)


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in order, in short: ``0-2, 4``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if run[1:] else f"{run[0]}" for run in runs)
