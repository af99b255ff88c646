"""Series of numbers: reading a column of a CSV file, and cutting a series into windows."""

from __future__ import annotations

import csv
import math
import os
from array import array
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.data.text import check_line, read_lines
from tinygrad_rnn.nn import check_size


def read_series(path: str | os.PathLike[str], column: str | None = None) -> np.ndarray:
    """One column of a CSV file with commas, from above: (N,) in float64.

    The first line names the columns, unless it is numbers only; then they are called 1, 2, ...
    Lines without any content at the end of the file are left out.

    Parameters
    ----------
    path : the file, in UTF-8.
    column : the name of the column, by default the last one.

    Raises
    ------
    OSError
        where there is no such file, or it cannot be read.
    ValueError
        where it is no text, has no such column or no numbers in it; or where a value is missing or
        not a finite number, or a line has another number of values than the first one. Line and
        column are named.
    """
    who = f"read_series: {str(path)!r}"
    reader = csv.reader(_content(who, path), strict=True)
    values = array("d")
    try:
        first = [cell.strip() for cell in next(reader, [])]
        if not first:
            raise ValueError(
                f"{who}, line 1: expected the names of columns, or numbers, got nothing"
            )
        numbers_only = all(_number(cell) is not None for cell in first)
        names = [str(k) for k in range(1, len(first) + 1)] if numbers_only else first
        column = names[-1] if column is None else column
        if names.count(column) != 1:
            known = ", ".join(f"{name!r:.40}" for name in names[:20])
            more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
            raise ValueError(
                f"{who}: expected one column {column!r:.40}, the columns are {known}{more}"
            )
        place = names.index(column)
        for row in chain([first] * numbers_only, reader):
            if len(row) != len(names):
                raise ValueError(
                    f"{who}, line {reader.line_num:,}: expected {len(names)} values, as there are "
                    f"columns, got {len(row)}"
                )
            value = _number(row[place])
            if value is None:
                raise ValueError(
                    f"{who}, line {reader.line_num:,}, column {column!r:.40}: expected a number, "
                    f"got {row[place].strip()[:40]!r}"
                )
            values.append(value)
    except csv.Error as error:
        raise ValueError(f"{who}, line {reader.line_num:,}: {error}") from None
    if not values:
        raise ValueError(f"{who}: the column {column!r:.40} holds no numbers")
    return np.frombuffer(values)


def _content(who: str, path: str | os.PathLike[str]) -> Iterator[str]:
    """The lines of a file but the empty ones at its end."""
    empty = 0
    for number, line in enumerate(read_lines(path), 1):
        check_line(who, number, line)
        if not line.isspace() and line:
            yield from repeat("", empty)
            yield line.rstrip()
            empty = 0
        else:
            empty += 1


def _number(cell: str) -> float | None:
    """The finite number in a cell, None where there is another thing or nothing."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


class Windows(NamedTuple):
    """Pieces of a series side by side, with time as the first axis."""

    inputs: np.ndarray
    """(T, B, ...): what is known."""
    targets: np.ndarray
    """(K, B, ...): what comes next."""


def windows(series: Any, length: int, horizon: int = 1, stride: int = 1) -> Windows:
    """All windows of a series (N, ...): ``length`` values, and the ``horizon`` values after them.

    Parameters
    ----------
    series : N values, or N rows of values.
    length, horizon : T and K.
    stride : steps from the beginning of one window to that of the next.

    >>> inputs, targets = windows([0, 1, 2, 3, 4, 5], length=3, horizon=2)
    >>> inputs.T
    array([[0, 1, 2],
           [1, 2, 3]])
    >>> targets.T
    array([[3, 4],
           [4, 5]])

    Raises
    ------
    ValueError
        where a size is not positive, or the series is too short for a single window.
    """
    check_size("windows", length=length, horizon=horizon, stride=stride)
    values = np.asarray(series)
    needed = length + horizon
    if values.ndim == 0 or len(values) < needed:
        count = len(values) if values.ndim else 1
        raise ValueError(
            f"windows: {count:,} values are too few for windows of {length} and {horizon}: at "
            f"least {needed:,} are needed"
        )
    pieces = np.lib.stride_tricks.sliding_window_view(values, needed, axis=0)[::stride]
    pieces = np.moveaxis(pieces, -1, 0)
    return Windows(pieces[:length].copy(), pieces[length:].copy())
