"""Reading text: from a file, or from the language reference that every Python carries."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tinygrad_rnn.nn.disk import open_regular

Sliceable = TypeVar("Sliceable", str, list[Any], np.ndarray)

LONGEST_LINE = 1_000_000
"""Characters of a line that is split into cells, which take up to 20 times its memory."""


def read_text(path: str | os.PathLike[str], at_least: int = 1) -> str:
    """The text of a UTF-8 file, with every line end as a newline.

    Parameters
    ----------
    path : the file.
    at_least : the number of characters that it must hold.

    Raises
    ------
    OSError
        where there is no such file, or it cannot be read.
    ValueError
        where it is empty, shorter than ``at_least``, binary, or not UTF-8.
    """
    file = Path(path)
    if file.is_dir():
        raise IsADirectoryError(f"read_text: {str(file)!r} is a folder, expected a text file")
    try:
        with open_regular(file) as opened:
            content = opened.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"read_text: there is no file {str(file)!r}") from None
    except OSError as error:
        raise OSError(f"read_text: cannot read {str(file)!r}: {error.strerror}") from error
    if not content:
        raise ValueError(f"read_text: {str(file)!r} is empty")
    if b"\0" in content:
        raise ValueError(
            f"read_text: {str(file)!r} is binary or UTF-16, not UTF-8 text (byte "
            f"{content.index(0):,} is zero)"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"read_text: {str(file)!r} is not UTF-8 text (byte {error.start} is "
            f"0x{content[error.start]:02x}); convert it to UTF-8"
        ) from None
    del content
    text = text.replace("\r\n", "\n")
    text = text.replace("\r", "\n")
    if len(text) < at_least:
        raise ValueError(
            f"read_text: {str(file)!r} has {len(text):,} characters, at least {at_least:,} are "
            "needed"
        )
    return text


def read_lines(path: str | os.PathLike[str]) -> Iterator[str]:
    """The lines of a UTF-8 file one after the other, without their ends: none is kept.

    Raises
    ------
    OSError, ValueError
        as :func:`read_text` does, by the time that the fault is reached.
    """
    line = None
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig") as file:
            for line in file:
                if "\0" in line:
                    raise ValueError("binary")
                yield line.removesuffix("\n")
            if line is None:
                raise ValueError("empty")
    except (OSError, ValueError):
        read_text(path)  # which says what is wrong, and where
        raise


def check_line(who: str, number: int, line: str) -> None:
    """Refuse a line that is too long to be split."""
    if len(line) > LONGEST_LINE:
        raise ValueError(
            f"{who}, line {number:,}: a line of {len(line):,} characters, expected at most "
            f"{LONGEST_LINE:,}"
        )


class SameWords(dict[str, str]):
    """``words[word]`` is the word, and for equal words the same object: a text has few of them.

    Those that come after the first 65,536 different ones are given back as they are.
    """

    def __missing__(self, word: str) -> str:
        if len(self) < 1 << 16:
            self[word] = word
        return word


def python_reference() -> str:
    """The language reference of the running Python, about 465,000 characters of English prose.

    It is the text of ``pydoc_data.topics``, one topic after the other in the order of their names.
    It differs between versions of Python: :func:`fingerprint` tells which one it is.
    """
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def fingerprint(text: str) -> str:
    """The SHA-256 of a text in UTF-8, in hexadecimal: what a checkpoint knows a text by.

    >>> fingerprint("abc")[:16]
    'ba7816bf8f01cfea'
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def split_held_out(sequence: Sliceable, share: float = 0.1) -> tuple[Sliceable, Sliceable]:
    """The beginning of a text or an array, and the last ``share`` of it, to be held out.

    >>> split_held_out("abcdefghijklmnopqrstu")
    ('abcdefghijklmnopqrs', 'tu')
    """
    if not 0 < share < 1:
        raise ValueError(f"split_held_out: share must satisfy 0 < share < 1, got {share}")
    cut = len(sequence) - int(len(sequence) * share)
    return sequence[:cut], sequence[cut:]
