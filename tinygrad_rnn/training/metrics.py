"""The file of metrics: a row per update, for any spreadsheet, whole at any moment."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tinygrad_rnn.nn.files import write_atomically


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, float]]:
    """The rows of a metrics file; each lacks what was not measured at its update."""
    return [
        {name: float(value) for name, value in row.items() if value} for row in _rows(Path(path))
    ]


class MetricsFile:
    """Rows appended to a CSV file, each written out at once.

    Parameters
    ----------
    path : the file.
    updates : where the run stands: of a file that is there already, the rows up to this update
        are kept, and those of a future that is to be computed again are dropped.
    """

    def __init__(self, path: Path, updates: int) -> None:
        self.path = path
        kept = _rows(path) if updates and path.exists() else []
        self._start([row for row in kept if int(row["update"]) <= updates])

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row. A column that is new makes the file be written anew, with that column."""
        if not row.keys() <= set(self._columns):
            self._file.close()
            self._start([*_rows(self.path), row])
            return
        try:
            self._file.write(_lines(self._columns, [row]))
            self._file.flush()
        except OSError as error:
            raise self._unwritten(error) from error

    def _start(self, rows: list[Mapping[str, Any]]) -> None:
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        header = _lines(self._columns, [dict(zip(self._columns, self._columns, strict=True))])
        content = header + _lines(self._columns, rows) if rows else ""
        try:
            write_atomically(self.path, content.encode())
            self._file = open(self.path, "a", newline="", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError) -> OSError:
        return OSError(f"cannot write the metrics {str(self.path)!r}: {error.strerror}")

    def close(self) -> None:
        """Close the file. What could not be written has been reported already."""
        with contextlib.suppress(OSError):
            self._file.close()


def shown(row: Mapping[str, float]) -> str:
    """A row in so few words that a progress bar of 80 columns has room for it."""
    hidden = ("update", "epoch", "learning_rate")
    words = {"gradient_norm": "norm", "tokens_per_second": "tokens/s"}
    return ", ".join(
        f"{words.get(name, name.replace('_', ' '))} "
        + (f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.3g}")
        for name, value in row.items()
        if name not in hidden
    )


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows as text. A last line that was cut off, by a full disk or a kill, is left out."""
    whole, newline, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return list(csv.DictReader(io.StringIO(whole + newline, newline="")))


def _lines(columns: list[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue()
