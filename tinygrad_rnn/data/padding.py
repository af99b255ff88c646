"""Sequences of unequal lengths, side by side in one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.nn import check_size


class Padded(NamedTuple):
    """Sequences as the columns of one array, and how many of its rows count in each."""

    tokens: np.ndarray
    """(T, B), or (T, B, ...) where a token is an array itself; T is the longest length."""
    lengths: np.ndarray
    """(B,) integers: what ``lengths=`` of a recurrent layer takes."""

    @property
    def mask(self) -> np.ndarray:
        """(T, B) of bools, True within each length: what ``mask=`` of a loss takes."""
        return np.arange(len(self.tokens))[:, None] < self.lengths


def pad(sequences: Sequence[Any], value: float = 0) -> Padded:
    """Sequences (T_b, ...) in one array (T, B, ...), filled up with a value past their ends.

    Integers come as int64, the dtype that indexing wants; other numbers keep their dtype.

    Parameters
    ----------
    sequences : B sequences of numbers, or of arrays of one shape. They may be of length 0.
    value : what stands past the end of a sequence; 0 is "other" in a :class:`Vocabulary`, and
        -100 as a label is what :func:`tinygrad_rnn.nn.cross_entropy` leaves out.

    >>> tokens, lengths = pad([[5, 6, 7], [8]])
    >>> tokens
    array([[5, 8],
           [6, 0],
           [7, 0]])
    >>> lengths
    array([3, 1])

    Raises
    ------
    ValueError
        where there is no sequence, or two have elements of unequal shapes.
    TypeError
        where a sequence is not of numbers, or of integers that cannot hold the value.
    """
    arrays = [np.asarray(sequence) for sequence in sequences]
    if not arrays:
        raise ValueError("pad: expected at least one sequence, got none")
    for k, array in enumerate(arrays):
        if array.ndim == 0 or array.dtype.kind not in "iuf":
            raise TypeError(
                f"pad: sequence {k} must be numbers of shape (T, ...), got {array.dtype} "
                f"{array.shape}"
            )
    # An empty list says nothing about the shape and the dtype of its elements.
    telling = [array for array in arrays if array.size or array.ndim > 1] or [np.empty(0, int)]
    shape = telling[0].shape[1:]
    for k, array in enumerate(arrays):
        if array.shape[1:] != shape and (array.size or array.ndim > 1):
            raise ValueError(
                f"pad: all elements must have one shape, got {shape} and in sequence {k} "
                f"{array.shape[1:]}"
            )
    dtype = np.result_type(*(array.dtype for array in telling))
    if dtype.kind in "iu":
        dtype = np.dtype(np.int64)
        if not float(value).is_integer():
            raise TypeError(f"pad: sequences of integers cannot hold the value {value!r}")
    lengths = np.array([len(array) for array in arrays])
    tokens = np.full((int(lengths.max()), len(arrays), *shape), value, dtype)
    for k, array in enumerate(arrays):
        if len(array):
            tokens[: len(array), k] = array
    return Padded(tokens, lengths)


def bucketed(
    lengths: Any, batch_size: int, random: np.random.Generator | None = None
) -> list[np.ndarray]:
    """The numbers of the sequences in each batch, such that a batch holds about equal lengths.

    Sequences are put in the order of their lengths and cut into batches of ``batch_size``, of
    which one may be smaller: so the least is padded. With a generator, sequences of one length
    come in a random order, and so do the batches; without one, both are in order.

    >>> bucketed([3, 9, 4, 1, 8], batch_size=2)
    [array([3, 0]), array([2, 4]), array([1])]

    Raises
    ------
    ValueError
        where the batch size is not positive, or lengths are not integers (N,) from 0.
    """
    check_size("bucketed", batch_size=batch_size)
    values = np.asarray(lengths)
    if values.ndim != 1 or (values.size and (values.dtype.kind not in "iu" or values.min() < 0)):
        raise ValueError(
            "bucketed: lengths must be integers from 0 of shape (N,), got "
            f"{values.dtype} {values.shape}"
        )
    order = np.arange(len(values)) if random is None else random.permutation(len(values))
    order = order[np.argsort(values[order], kind="stable")]
    batches = [order[k : k + batch_size] for k in range(0, len(order), batch_size)]
    if random is not None:
        batches = [batches[k] for k in random.permutation(len(batches))]
    return batches
