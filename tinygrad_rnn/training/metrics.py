"""The file of metrics: a row per update, for any spreadsheet, whole at any moment."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from tinygrad_rnn.nn.disk import open_appending, open_regular, write_atomically


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, float]]:
    """The rows of a metrics file; each lacks what was not measured at its update.

    A last line that was cut off, by a full disk or a kill, is left out.

    Raises
    ------
    OSError
        where there is no such file, or it cannot be read.
    ValueError
        where it is damaged: file and line are named.
    """
    found: list[dict[str, float]] = []
    for line, row in _rows(Path(path)):
        try:
            found.append({name: float(cell) for name, cell in row.items() if cell})
        except ValueError as error:
            raise _damaged(Path(path), line, str(error)) from None
    return found


class MetricsFile:
    """Rows appended to a CSV file, each written out at once.

    Parameters
    ----------
    path : the file.
    updates : where the run stands: of a file that is there already, the rows up to this update
        are kept, and those of a future that is to be computed again are dropped.

    Raises
    ------
    OSError
        where a file cannot be read or written.
    ValueError
        where the file that is there is damaged: file and line are named.
    """

    def __init__(self, path: Path, updates: int) -> None:
        self.path = path
        rows = _rows_until(path, updates) if updates and path.exists() else iter(())
        first = next(rows, {})
        self._start(list(first), chain([first], rows))

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row. A column that is new makes the file be written anew, with that column."""
        if not row.keys() <= set(self._columns):
            self._file.close()
            rows = (kept for _, kept in _rows(self.path))
            self._start(list(dict.fromkeys([*self._columns, *row])), chain(rows, [row]))
            return
        try:
            csv.DictWriter(self._file, self._columns, lineterminator="\n").writerow(row)
            self._file.flush()
        except OSError as error:
            raise self._unwritten(error) from error

    def _start(self, columns: list[str], rows: Iterable[Mapping[str, Any]]) -> None:
        self._columns = columns
        content = io.BytesIO()
        text = io.TextIOWrapper(content, encoding="utf-8", newline="")
        if columns:
            writer = csv.DictWriter(text, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            text.flush()
        try:
            write_atomically(self.path, content.getvalue())
            file = open_appending(self.path)
        except OSError as error:
            raise self._unwritten(error) from error
        self._file = io.TextIOWrapper(file, encoding="utf-8", newline="")

    def _unwritten(self, error: OSError) -> OSError:
        reason = error.strerror or error
        return OSError(f"cannot write the metrics {str(self.path)!r}: {reason}")

    def close(self) -> None:
        """Close the file. What could not be written has been reported already."""
        with contextlib.suppress(OSError):
            self._file.close()


def _rows_until(path: Path, updates: int) -> Iterator[dict[str, str]]:
    """The rows up to that update."""
    for line, row in _rows(path):
        update = row.get("update", "")
        if not update.isdecimal():
            raise _damaged(path, line, f"expected the number of an update, got {update!r:.40}")
        if int(update) <= updates:
            yield row


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows as text, with the number of their line."""
    with open_regular(path) as file:
        reader = csv.reader(_lines(path, file))
        try:
            columns = next(reader, [])
            if len(set(columns)) < len(columns):
                raise _damaged(path, 1, "a column comes twice")
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(columns):
                    raise _damaged(
                        path, reader.line_num,
                        f"expected {len(columns)} values, as there are columns, got {len(cells)}",
                    )  # fmt: skip
                yield reader.line_num, dict(zip(columns, cells, strict=True))
        except csv.Error as error:
            raise _damaged(path, reader.line_num, str(error)) from None


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    """The lines of a file. A last one that was cut off is left out."""
    for number, line in enumerate(file, 1):
        if line.endswith(b"\n"):
            try:
                yield line.decode("utf-8-sig")
            except UnicodeDecodeError:
                raise _damaged(path, number, "it is not UTF-8 text") from None


def _damaged(path: Path, line: int, what: str) -> ValueError:
    return ValueError(
        f"the metrics {str(path)!r} are damaged, line {line:,}: {what:.200}; mend the file or "
        "remove it"
    )
