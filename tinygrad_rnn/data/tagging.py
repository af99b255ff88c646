"""Tagged sentences: words with a tag each, read from IOB files; tags as labels and as spans.

A tag is ``O`` (outside), ``B-type`` (a span of that type begins) or ``I-type`` (it goes on).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from tinygrad_rnn.data.text import SameWords, check_line, read_lines

_TAG = re.compile(r"O|[BI](-.+)?")
_SENTENCE_LINE = re.compile(r"BOS .*EOS *\t")


class Tagged(NamedTuple):
    """A sentence: its words, and as many tags."""

    words: list[str]
    tags: list[str]


class Span(NamedTuple):
    """The words ``start`` to ``stop - 1`` of a sentence, which fill a slot or form a chunk."""

    type: str
    start: int
    stop: int


def read_tagged(
    path: str | os.PathLike[str],
    word_column: int = 0,
    tag_column: int = -1,
    comment: str | None = None,
) -> list[Tagged]:
    r"""The sentences of an IOB file, in the column form or in the form of ATIS.

    **Columns** (CoNLL-2000, CoNLL-2003 and most others): a word per line, in columns parted by
    blanks or a tab, the same number on every line; an empty line ends a sentence. Lines whose word
    is ``-DOCSTART-`` are left out. **One sentence per line** (ATIS): ``BOS words EOS``, a tab, the
    tag of BOS, those of the words, and the intent, which stands for EOS. BOS, EOS and intent are
    left out. The first line that is not empty tells which of the two forms it is.

    Parameters
    ----------
    path : a UTF-8 file.
    word_column, tag_column : where the two stand in the column form; negative ones count from the
        end.
    comment : leave lines out that begin with this. There is no default, as ``#`` is a word of
        CoNLL-2000.

    Raises
    ------
    OSError
        where there is no such file, or it cannot be read.
    ValueError
        where the text is not UTF-8, or a line does not fit: file and line number are named.
    """
    where = f"read_tagged: {str(path)!r}"
    lines = (
        (number, line.strip(" \t"))
        for number, line in enumerate(read_lines(path), 1)
        if not (comment and line.startswith(comment))
    )
    first = next(((number, text) for number, text in lines if text), (0, ""))
    if _SENTENCE_LINE.match(first[1]):
        found = list(_sentence_lines(where, chain([first], lines)))
    else:
        found = list(_columns(where, chain([first], lines), word_column, tag_column))
    if not found:
        raise ValueError(f"{where} holds no sentence")
    return found


def _sentence_lines(where: str, lines: Iterable[tuple[int, str]]) -> Iterator[Tagged]:
    """The sentences of a file with one on each line."""
    same = SameWords()
    for number, text in lines:
        check_line(where, number, text)
        if text:
            words, tags = _one_line(f"{where}, line {number}", text)
            yield Tagged([same[word] for word in words], [same[tag] for tag in tags])


def _one_line(where: str, text: str) -> Tagged:
    """A sentence of ATIS: ``BOS words EOS``, a tab, ``O tags intent``."""
    before, tab, after = text.partition("\t")
    words, tags = before.split(), after.split()
    if not tab or words[:1] != ["BOS"] or words[-1:] != ["EOS"]:
        raise ValueError(f"{where}: expected BOS, words, EOS, a tab and tags, got {text[:40]!r}")
    if len(words) != len(tags):
        raise ValueError(
            f"{where}: {len(words)} words, BOS and EOS included, but {len(tags)} tags, the intent "
            "included"
        )
    if len(words) == 2:
        raise ValueError(f"{where}: a sentence without words")
    for tag in tags[:-1]:
        _check_tag(where, tag)
    return Tagged(words[1:-1], tags[1:-1])


def _columns(
    where: str, lines: Iterable[tuple[int, str]], word_column: int, tag_column: int
) -> Iterator[Tagged]:
    """The sentences of a file with a word per line."""
    sentence, count = Tagged([], []), 0
    same_words, same_tags = SameWords(), SameWords()
    for number, text in chain(lines, [(0, "")]):
        check_line(where, number, text)
        columns = re.split(r"[ \t]+", text)
        if text and columns[0] != "-DOCSTART-":
            if len(columns) != (count or len(columns)):
                raise ValueError(
                    f"{where}, line {number}: expected {count} columns as in the lines before, got "
                    f"{len(columns)}"
                )
            count = len(columns)
            if len({c % count for c in (word_column, tag_column) if -count <= c < count}) < 2:
                raise ValueError(
                    f"{where}, line {number}: expected a word in column {word_column} and its tag "
                    f"in column {tag_column}, got {count} columns"
                )
            tag = columns[tag_column]
            if tag not in same_tags:
                _check_tag(f"{where}, line {number}", tag)
            sentence.words.append(same_words[columns[word_column]])
            sentence.tags.append(same_tags[tag])
        elif sentence.words:
            yield sentence
            sentence = Tagged([], [])


def _check_tag(where: str, tag: str) -> None:
    if not _TAG.fullmatch(tag):
        raise ValueError(f"{where}: a tag must be O, B-type or I-type, got {tag!r:.80}")


def spans(tags: Sequence[str]) -> list[Span]:
    """The spans of a sentence's tags, by the rules of conlleval, the scorer of CoNLL-2000.

    A span begins at every B, and at an I that follows an O, another type, or nothing: so tags that
    are not well formed have spans too. It ends before the next tag that is O, a B, or of another
    type. ``B`` and ``I`` alone are of the type ``""``.

    >>> spans(["B-city", "I-city", "O", "I-day", "I-time", "B-time"])
    [Span(type='city', start=0, stop=2), Span(type='day', start=3, stop=4),
    Span(type='time', start=4, stop=5), Span(type='time', start=5, stop=6)]

    Raises
    ------
    ValueError
        where a tag is none of these.
    """
    found: list[Span] = []
    start, inside = 0, None
    for k, tag in enumerate([*tags, "O"]):
        _check_tag(f"spans: position {k}", tag)
        mark, _, kind = tag.partition("-")
        if inside is not None and (mark != "I" or kind != inside):
            found.append(Span(inside, start, k))
            inside = None
        if mark != "O" and inside is None:
            start, inside = k, kind
    return found


class Labels:
    """The labels that a model can give, numbered from 0, in sorted order.

    Unlike a :class:`Vocabulary` it has no entry for others: a label that is not known is an error.

    >>> labels = Labels.of(["O", "B-city", "O"])
    >>> labels.encode(["O", "B-city"])
    array([1, 0])
    >>> labels.decode([0])
    ['B-city']
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self.labels = list(labels)
        self._numbers = {label: number for number, label in enumerate(self.labels)}
        if len(self._numbers) < len(self.labels):
            twice = next(x for k, x in enumerate(self.labels) if self._numbers[x] != k)
            raise ValueError(f"Labels: the label {twice!r} is given twice")
        if not self.labels:
            raise ValueError("Labels: expected at least one label, got none")

    @classmethod
    def of(cls, labels: Iterable[str]) -> Labels:
        """The different labels among these."""
        return cls(sorted(set(labels)))

    def __len__(self) -> int:
        """The number of labels: the number of classes of a model."""
        return len(self.labels)

    def encode(self, labels: Iterable[str]) -> np.ndarray:
        """The numbers of labels, in int64.

        Raises
        ------
        ValueError
            where a label is not known.
        """
        try:
            return np.array([self._numbers[label] for label in labels], np.int64)
        except KeyError as error:
            known = ", ".join(map(repr, self.labels[:8]))
            more = f" and {len(self) - 8} more" if len(self) > 8 else ""
            raise ValueError(
                f"Labels.encode: the label {error.args[0]!r} is unknown; known are {known}{more}"
            ) from None

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The labels of numbers.

        Raises
        ------
        IndexError
            where a number is not that of a label.
        """
        found = [int(number) for number in numbers]
        for number in found:
            if not 0 <= number < len(self):
                raise IndexError(
                    f"Labels.decode: number {number} is out of range for {len(self)} labels"
                )
        return [self.labels[number] for number in found]

    def __repr__(self) -> str:
        return f"Labels({len(self)} labels)"
