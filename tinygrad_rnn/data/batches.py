"""Batches of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.nn import check_size


class Batch(NamedTuple):
    """What a language model reads and what it should say: integers, both (T, B)."""

    inputs: np.ndarray
    targets: np.ndarray


class ContiguousBatches(Sequence[Batch]):
    """One epoch of a long text for a language model: ``batch_size`` streams read side by side.

    The text is cut into B pieces of equal length, which are the columns of every batch. Batch k
    holds the k-th window of T tokens of each piece, and as targets the tokens that come next; so
    the state of a recurrent network after batch k is the one that batch k + 1 begins with, and a
    new state is due where k is 0 again. Batches are looked up by number, hence the number of the
    next batch is all that has to be known to go on from the middle of an epoch.

    Parameters
    ----------
    tokens : (N,) integers. What does not fill the last piece or its last window is left out.
    batch_size : B, the number of streams.
    length : T, the number of tokens in a window.
    partial : also give the shorter window that may be left at the end of the pieces.

    >>> batches = ContiguousBatches(np.arange(14), batch_size=2, length=3)
    >>> len(batches)
    2
    >>> batches[1].inputs.T
    array([[ 3,  4,  5],
           [ 9, 10, 11]])
    >>> batches[1].targets.T
    array([[ 4,  5,  6],
           [10, 11, 12]])

    Raises
    ------
    ValueError
        where the text is too short for a single window.
    """

    def __init__(self, tokens: Any, batch_size: int, length: int, *, partial: bool = False) -> None:
        check_size("ContiguousBatches", batch_size=batch_size, length=length)
        tokens = np.asarray(tokens)
        if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
            raise TypeError(
                "ContiguousBatches: tokens must be integers of shape (N,), got "
                f"{tokens.dtype} {tokens.shape}"
            )
        # The last token of a piece is only ever a target, and the first one of the next piece
        # serves: so a text of N tokens has N - 1 inputs to share out.
        self.stream_length = max(len(tokens) - 1, 0) // batch_size
        needed = self.needed(batch_size, 1 if partial else length)
        if len(tokens) < needed:
            raise ValueError(
                f"ContiguousBatches: {len(tokens):,} tokens are too few for {batch_size} streams "
                f"with windows of {length}: at least {needed:,} are needed"
            )
        used = batch_size * self.stream_length
        self._inputs = tokens[:used].reshape(batch_size, -1).T
        self._targets = tokens[1 : used + 1].reshape(batch_size, -1).T
        self.batch_size, self.length = int(batch_size), int(length)
        whole, rest = divmod(self.stream_length, self.length)
        self._count = whole + (partial and rest > 0)

    @staticmethod
    def needed(batch_size: int, length: int) -> int:
        """The number of tokens that give one whole window to each stream."""
        return batch_size * length + 1

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return self._count

    def __getitem__(self, k: Any) -> Any:
        """The batch of a number, in int64, the dtype that indexing wants."""
        if isinstance(k, slice):
            return [self[number] for number in range(*k.indices(len(self)))]
        if not -len(self) <= k < len(self):
            raise IndexError(f"ContiguousBatches: batch {k} is out of range for {len(self)}")
        start = k % len(self) * self.length
        rows = slice(start, start + self.length)
        return Batch(
            self._inputs[rows].astype(np.int64, order="C"),
            self._targets[rows].astype(np.int64, order="C"),
        )

    def __repr__(self) -> str:
        return (
            f"ContiguousBatches({len(self)} batches of {self.length} steps in {self.batch_size} "
            "streams)"
        )
