"""Reading labelled messages: the tab-separated file of the SMS Spam Collection."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from tinygrad_rnn.data.text import read_lines


class Message(NamedTuple):
    """A text and what it was labelled as."""

    label: str
    text: str


def read_messages(
    path: str | os.PathLike[str], labels: Sequence[str] = ("ham", "spam")
) -> list[Message]:
    """The messages of a file that has on each line a label, a tab, and the text of a message.

    This is the form of the SMS Spam Collection (Almeida, Gomez Hidalgo, Yamakami 2011): 5,574
    messages, 747 of them ``spam``, the others ``ham``.

    Parameters
    ----------
    path : the file, in UTF-8.
    labels : the labels that may occur.

    Raises
    ------
    OSError
        where there is no such file, or it cannot be read.
    ValueError
        where it is no text, or where a line, which is named, has no tab, no text or an unknown
        label.
    """
    messages: list[Message] = []
    for number, line in enumerate(read_lines(path), 1):
        where = f"read_messages: {str(path)!r}, line {number:,}"
        label, tab, text = line.partition("\t")
        if not tab:
            raise ValueError(f"{where}: expected a label, a tab and a text, got {line[:40]!r}")
        if label not in labels:
            known = ", ".join(map(repr, labels))
            raise ValueError(
                f"{where}: the label {label[:40]!r} is unknown, expected one of {known}"
            )
        if not text.strip():
            raise ValueError(f"{where}: expected a text after the label {label!r} and a tab")
        messages.append(Message(labels[labels.index(label)], text))
    return messages
