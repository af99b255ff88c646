"""A language model that counts: what a network has to beat."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Counts(NamedTuple):
    """What is known of the n-grams of one order. An n-gram is one integer: its digits to base C."""

    grams: np.ndarray
    """The n-grams that occur, in order."""
    counts: np.ndarray
    """c of each."""
    histories: np.ndarray
    """Their first n - 1 tokens, in order."""
    totals: np.ndarray
    """For each history the sum of c over what follows it."""
    followers: np.ndarray
    """How many different tokens follow each history."""
    discount: float


class KneserNey:
    """An n-gram model with interpolated Kneser-Ney smoothing.

    The probability of a token w after its history h, the n - 1 tokens before it:

        p(w | h) = max(c(h w) - D, 0) / c(h) + D s(h) / c(h) p(w | h')

    c(h w) is how often w follows h in the training text, c(h) the sum of that over all w, s(h) how
    many different w follow h, and h' is h without its first token. After a history that was never
    seen it is p(w | h'). In p(w | h') and below, c counts the different tokens that come before
    h w, and not occurrences; below the single token there is 1 / C.

    Parameters
    ----------
    tokens : (N,) integers from 0, the training text.
    classes : C, the number of different tokens that there can be.
    order : n, 3 for trigrams.
    discount : D, 0 < D < 1. By default each order has its own, n1 / (n1 + 2 n2), where n1 and n2
        say how many c(h w) are 1 and 2; and 0.5 where n1 or n2 is 0.

    Source: Kneser, Ney 1995; in this interpolated form Chen, Goodman 1999, section 2.7.

    >>> model = KneserNey([0, 1, 2, 0, 1, 3, 0, 1, 2], classes=5, order=2, discount=0.5)
    >>> model.probabilities([0, 1, 4]).round(4).tolist()  # p(0), p(1 | 0), p(4 | 1)
    [0.38, 0.8633, 0.0267]

    Raises
    ------
    ValueError
        where the order or the discount is out of its range, or the text is shorter than the order.
    TypeError
        where tokens are not integers.
    IndexError
        where a token lies outside 0 ... C - 1.
    """

    def __init__(
        self, tokens: Any, classes: int, order: int = 3, discount: float | None = None
    ) -> None:
        if discount is not None and not 0 < discount < 1:
            raise ValueError(f"KneserNey: discount must satisfy 0 < discount < 1, got {discount}")
        if order < 1 or classes < 1 or classes**order >= 2**63:
            raise ValueError(
                "KneserNey: order and classes must be positive, and classes to the power of order "
                f"below 2**63, got order {order} and {classes:,} classes"
            )
        self.classes, self.order = classes, order
        grams = self._grams(tokens, order)
        if not len(grams):
            raise ValueError(f"KneserNey: the text has fewer than {order} tokens, the order")
        self._orders: list[Counts] = []
        for n in range(order, 0, -1):
            grams, counts = np.unique(grams, return_counts=True)
            histories, starts = np.unique(grams // classes, return_index=True)
            followers = np.diff(starts, append=len(grams))
            totals = np.add.reduceat(counts, starts)
            once, twice = (int(np.sum(counts == k)) for k in (1, 2))
            own = once / (once + 2 * twice) if once and twice else 0.5
            used = own if discount is None else discount
            self._orders.insert(0, Counts(grams, counts, histories, totals, followers, used))
            grams = grams % classes ** (n - 1)  # each once for every token before it

    def probabilities(self, tokens: Any) -> np.ndarray:
        """How likely each token of a text is after those before it: (N,) integers to (N,) numbers.

        The first n - 1 tokens have a shorter history: what there is of it.
        """
        p = np.full(len(tokens), 1 / self.classes)
        for n, known in enumerate(self._orders, 1):
            grams = self._grams(tokens, n)
            count = _found(known.grams, known.counts, grams)
            total = _found(known.histories, known.totals, grams // self.classes)
            followers = _found(known.histories, known.followers, grams // self.classes)
            shorter, D = p[n - 1 :], known.discount
            mixed = np.maximum(count - D, 0) + D * followers * shorter
            p[n - 1 :] = np.where(total > 0, mixed / np.maximum(total, 1), shorter)
        return p

    def _grams(self, tokens: Any, n: int) -> np.ndarray:
        """The n-grams of a text that end at its tokens n - 1 ... N - 1."""
        tokens = np.asarray(tokens)
        if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
            raise TypeError(
                f"KneserNey: tokens must be integers of shape (N,), got {tokens.dtype} "
                f"{tokens.shape}"
            )
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.classes:
            bad = tokens[(tokens < 0) | (tokens >= self.classes)][0]
            raise IndexError(f"KneserNey: token {bad} is out of range for {self.classes:,} classes")
        count = max(len(tokens) - n + 1, 0)
        grams = np.zeros(count, np.int64)
        for k in range(n):
            grams = grams * self.classes + tokens[k : k + count].astype(np.int64)
        return grams


def _found(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The values at the wanted keys, 0 where there is none; keys are in order."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
