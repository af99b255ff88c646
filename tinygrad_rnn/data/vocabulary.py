"""Vocabulary: tokens as integers and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


class Vocabulary:
    """The tokens that a model knows, numbered from 1; number 0 stands for every other one.

    Tokens are strings: single characters, words, anything. To join decoded characters again, say
    ``"".join(vocabulary.decode(numbers))``.

    Parameters
    ----------
    tokens : the known tokens, each once, in the order of their numbers.
    other : what number 0 is decoded to; not one of the tokens.

    >>> vocabulary = Vocabulary.of("banana")
    >>> vocabulary
    Vocabulary(3 tokens and other '\ufffd')
    >>> vocabulary.encode("ban!")
    array([2, 1, 3, 0], dtype=uint8)
    >>> vocabulary.decode([3, 1, 2])
    ['n', 'a', 'b']
    """

    def __init__(self, tokens: Iterable[str], other: str = "\N{REPLACEMENT CHARACTER}") -> None:
        self.tokens = [other, *tokens]
        for token in self.tokens:
            if not isinstance(token, str):
                raise TypeError(f"Vocabulary: tokens must be strings, got {token!r}")
        self._numbers = {token: number for number, token in enumerate(self.tokens)}
        if len(self._numbers) < len(self.tokens):
            twice = next(t for k, t in enumerate(self.tokens) if self._numbers[t] != k)
            raise ValueError(f"Vocabulary: the token {twice!r} is given twice")
        if len(self.tokens) < 2:
            raise ValueError("Vocabulary: expected at least one token, got none")
        self.dtype = np.min_scalar_type(len(self.tokens) - 1)
        """The smallest unsigned integers that hold every number."""

    @classmethod
    def of(cls, text: Iterable[str], other: str = "\N{REPLACEMENT CHARACTER}") -> Vocabulary:
        """The vocabulary of the tokens in a text, in sorted order: a string gives characters."""
        return cls(sorted(set(text) - {other}), other)

    @property
    def other(self) -> str:
        """What stands for every token that is not known."""
        return self.tokens[0]

    def __len__(self) -> int:
        """The number of entries, the other one included: the number of classes of a model."""
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._numbers

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """The numbers of tokens, 0 for those that are not known."""
        known = self._numbers.get
        return np.fromiter((known(token, 0) for token in tokens), self.dtype)

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The tokens of numbers.

        Raises
        ------
        IndexError
            where a number is not that of an entry.
        """
        found = np.asarray(numbers if hasattr(numbers, "__len__") else list(numbers))
        if found.size and found.dtype.kind not in "iu":
            raise TypeError(f"Vocabulary.decode: expected integers, got {found.dtype}")
        wrong = found[(found < 0) | (found >= len(self))]
        if wrong.size:
            raise IndexError(
                f"Vocabulary.decode: number {wrong[0]} is out of range for {len(self)} entries"
            )
        return [self.tokens[number] for number in found.tolist()]

    def to_json(self) -> dict[str, Any]:
        """The vocabulary as strings, lists and dictionaries, for a checkpoint."""
        return {"other": self.other, "tokens": self.tokens[1:]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Vocabulary:
        """The vocabulary that :meth:`to_json` described."""
        return cls(document["tokens"], document["other"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.tokens == other.tokens

    def __hash__(self) -> int:
        return hash(tuple(self.tokens))

    def __repr__(self) -> str:
        return f"Vocabulary({len(self) - 1} tokens and other {self.other!r})"
