"""Scores of tagged sentences: precision, recall and F1 of their spans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tinygrad_rnn.data.tagging import spans


class Score(NamedTuple):
    """How many are right, were found, and are there: spans, or members of a class."""

    right: int
    found: int
    expected: int

    @property
    def precision(self) -> float:
        """The share of right ones among those found; 0 where none was found."""
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """The share of the expected ones that was found; 0 where none was expected."""
        return self.right / self.expected if self.expected else 0.0

    @property
    def f1(self) -> float:
        """2 P R / (P + R), the harmonic mean of both; 0 where nothing is right."""
        both = self.found + self.expected
        return 2 * self.right / both if both else 0.0


class SlotScores(NamedTuple):
    """The score over all spans, and by type, in sorted order."""

    overall: Score
    by_type: dict[str, Score]


def slot_scores(
    expected: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> SlotScores:
    """Slot F1 by the definition of CoNLL-2000 and CoNLL-2003, as their script conlleval counts.

    A predicted span is right where its first word, its last word and its type all are. What is a
    span, also in tags that are not well formed, says :func:`spans`; none goes past a sentence's
    end. Source: Tjong Kim Sang and Buchholz 2000; Tjong Kim Sang and De Meulder 2003.

    Parameters
    ----------
    expected, predicted : the tags of each sentence.

    >>> scores = slot_scores([["B-city", "I-city", "O", "B-day"]], [["B-city", "O", "O", "B-day"]])
    >>> scores.overall
    Score(right=1, found=2, expected=2)
    >>> scores.overall.f1, scores.by_type["day"].f1
    (0.5, 1.0)

    Raises
    ------
    ValueError
        where the two are of unequal lengths, or a tag is none of O, B-type and I-type.
    """
    if len(expected) != len(predicted):
        raise ValueError(
            f"slot_scores: {len(expected)} sentences expected and {len(predicted)} predicted"
        )
    right, found, wanted = Counter[str](), Counter[str](), Counter[str]()
    for k, (true, guess) in enumerate(zip(expected, predicted, strict=True)):
        if len(true) != len(guess):
            raise ValueError(
                f"slot_scores: sentence {k} has {len(true)} tags and {len(guess)} predicted ones"
            )
        a, b = spans(true), spans(guess)
        wanted.update(span.type for span in a)
        found.update(span.type for span in b)
        right.update(span.type for span in {*a} & {*b})
    types = sorted({*wanted, *found})
    return SlotScores(
        Score(right.total(), found.total(), wanted.total()),
        {kind: Score(right[kind], found[kind], wanted[kind]) for kind in types},
    )
