"""Files of the lab: whole or not there, and one sentence where they cannot be written."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tinygrad_rnn.nn.disk import write_atomically


def write_text(path: str | os.PathLike[str], text: str, who: str) -> Path:
    """Write a text to a file, and return its path; folders that are missing are made.

    OSError in one sentence where that fails.
    """
    place = Path(path)
    try:
        if not place.parent.exists():
            place.parent.mkdir(parents=True)
        write_atomically(place, text.encode())
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(f"{who}: cannot write {str(place)!r}: {reason}") from error
    return place


def write_csv(
    path: str | os.PathLike[str], head: Sequence[str], rows: Iterable[Sequence[object]], who: str
) -> Path:
    """Write a table as CSV, and return its path; OSError in one sentence where that fails."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return write_text(path, text.getvalue(), who)
