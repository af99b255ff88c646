"""A tape as a program to be read: as text, and as a table for notebooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

from tinygrad_rnn.tape.folding import Group
from tinygrad_rnn.tape.html import html_paragraph, html_table
from tinygrad_rnn.tape.names import span
from tinygrad_rnn.tape.record import Record, Traced
from tinygrad_rnn.tape.rows import Row, Rows, format_bytes
from tinygrad_rnn.tape.statistics import Statistics, together

_SCREEN = 40  # lines up to which a tape is shown value by value
_WIDTH = 100
_LEAST = {"kind": 20, "bytes": 9}  # columns that are so wide, though what is in them is shorter
_OPEN = 100  # rows up to which groups are open in a notebook

COLUMNS = ("kind", "bytes", "values", "gradient", "line")


class Arrived(NamedTuple):
    """What a backward pass brought, in a few numbers: to results of records, and to leaves."""

    at_records: Mapping[Record, Statistics]
    at_leaves: Mapping[Traced, Statistics]


class Listing:
    """What is printed of a tape."""

    def __init__(
        self,
        records: Sequence[Record],
        outputs: Sequence[Traced],
        forward: Mapping[int, str],
        fold: Callable[[], Group],
        unfold: str | bool = False,
        columns: Sequence[str] = ("kind", "bytes"),
        arrived: Arrived | None = None,
    ) -> None:
        self._records = records
        self._columns = columns
        self._arrived = arrived
        rows = Rows(records, outputs, forward, unfold)
        long = len(records) + rows.names.count > _SCREEN
        self.folded = isinstance(unfold, str) or (long and not unfold)
        self.rows = [*(rows.tree(fold()) if self.folded else rows.flat())]
        self._cut = self.folded or not unfold
        self.results = span([rows.names.of(output) for output in outputs])
        total = sum(y.nbytes for record in records for y in record.results)
        self.title = f"tape of {len(records):,} records, {format_bytes(total)} of results"
        freed = sum(record.freed for record in records)
        if freed:
            some = "" if freed == len(records) else f"{freed:,} of them "
            self.title += f"; {some}freed by a backward pass: print it before"

        self._titles, self._cells = self._columns_of(self.rows)

    def _columns_of(self, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
        """The titles of the columns, and what stands in them for each row; none that is empty."""
        titles: list[str] = []
        for column in self._columns:
            if column in ("values", "gradient"):
                sign = "" if column == "values" else "g "
                titles += [f"{sign}{x}" for x in ("min", "mean", "max", "zeros", "odd")]
            elif column != "line":
                titles.append(column)
        cells = [[] if row.head else self._of(row) for row in rows]
        wanted = [any(row and row[k] for row in cells) for k in range(len(titles))]
        kept = [k for k, found in enumerate(wanted) if found]
        return [titles[k] for k in kept], [[row[k] for k in kept] if row else [] for row in cells]

    def _of(self, row: Row) -> list[str]:
        found: list[str] = []
        for column in self._columns:
            if column == "kind":
                found.append(row.kind)
            elif column == "bytes":
                found.append(format_bytes(row.nbytes))
            elif column != "line":
                found += self._statistics(row, column).cells()
        return found

    def _statistics(self, row: Row, column: str) -> Statistics:
        records = [self._records[k] for k in row.numbers]
        value = row.value
        if column == "values":
            arrays = [y for record in records for y in record.results]
            return together(map(Statistics.of, arrays if value is None else [value.array]))
        if self._arrived is None:
            return Statistics()
        if value is not None:
            return self._arrived.at_leaves.get(value, Statistics())
        at = self._arrived.at_records
        return together(at[record] for record in records if record in at)

    def _note(self, row: Row) -> str:
        line = row.line if "line" in self._columns and self.folded else ""
        return ", ".join(filter(None, (row.note, line)))

    def text(self) -> str:
        """As lines."""
        lefts = ["  " * row.depth + (row.head or f"{row.names}:") for row in self.rows]
        values = [text for row, text in zip(self.rows, lefts, strict=True) if not row.head]
        left = max(map(len, values), default=0)
        least = {} if self.folded else _LEAST
        widths = [
            max(len(title), least.get(title, 0), *(len(row[k]) for row in self._cells if row))
            for k, title in enumerate(self._titles)
        ]

        def in_columns(start: str, cells: Sequence[str]) -> str:
            found = zip(self._titles, cells, widths, strict=True)
            texts = [f"{x:{'<' if title == 'kind' else '>'}{width}}" for title, x, width in found]
            return " ".join((f"{start:<{left}}", *texts))

        lines = [self.title]
        if self._titles and ("values" in self._columns or "gradient" in self._columns):
            lines.append(in_columns("", self._titles).rstrip())
        for row, start, cells in zip(self.rows, lefts, self._cells, strict=True):
            if row.head:
                lines.append(start)
                continue
            note = self._note(row)
            end = f"   # {note}" if note else ""
            start = f"{in_columns(start, cells)}   "
            room = max(20 if self.folded else 47, _WIDTH - len(start) - len(end))
            call = row.call
            if self._cut and len(call) > room:
                call = f"{call[: room - 3]}..."
            lines.append(f"{start}{call}{end}")
            lines += [f"{'  ' * row.depth}    {line}" for line in row.program.splitlines()]
        return "\n".join([*lines, f"result: {self.results}"])

    def html(self) -> str:
        """As tables for notebooks, those of groups to be opened and closed."""
        titles = ("name", *self._titles, "operation")
        found: list[str] = []
        within = 0  # so many groups
        state = "" if len(self.rows) > _OPEN else " open"
        pairs = zip(self.rows, self._cells, strict=True)
        for (depth, head), run in groupby(pairs, lambda pair: (pair[0].depth, pair[0].head)):
            found += ["</details>"] * (within - depth + 1)
            within = depth - 1
            lines: list[tuple[str, ...]] = []
            for row, cells in run:
                note = self._note(row)
                call = row.call + (f"   # {note}" if note else "")
                lines.append((row.names, *cells, "\n".join(filter(None, (call, row.program)))))
            if head:
                found.append(f"<details{state}><summary>{escape(head)}</summary>")
                within = depth
            else:
                found.append(html_table(titles, lines, code=len(titles) - 1))
        found += ["</details>"] * within
        title = html_paragraph(self.title) if self.folded else ""
        return title + "".join(found) + html_paragraph(f"result: {self.results}")
