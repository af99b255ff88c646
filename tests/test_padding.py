"""data/padding.py: sequences of unequal lengths side by side, batches of about equal lengths."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import data, nn, rnn

numbers = st.lists(st.integers(-(2**40), 2**40))


@given(st.lists(numbers, min_size=1), st.integers(-200, 200))
def test_every_sequence_comes_back(sequences: list[list[int]], value: int) -> None:
    tokens, lengths = padded = data.pad(sequences, value)
    assert tokens.dtype == np.int64
    assert tokens.shape == (max(map(len, sequences)), len(sequences))
    for k, sequence in enumerate(sequences):
        assert tokens[: lengths[k], k].tolist() == sequence
        assert (tokens[lengths[k] :, k] == value).all()
        assert padded.mask[:, k].tolist() == [t < len(sequence) for t in range(len(tokens))]


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_elements_that_are_arrays(dtype: str) -> None:
    """(T, F) becomes (T, B, F), in its dtype; a list without elements goes with any shape."""
    random = np.random.default_rng(0)
    sequences = [(9 * random.random((n, 3))).astype(dtype) for n in (2, 0, 5)]
    tokens, lengths = data.pad([*sequences, []])
    assert tokens.shape == (5, 4, 3)
    assert tokens.dtype == (np.int64 if dtype == "uint8" else dtype)
    assert lengths.tolist() == [2, 0, 5, 0]
    for k, sequence in enumerate(sequences):
        np.testing.assert_array_equal(tokens[: len(sequence), k], sequence)


def test_a_padded_batch_equals_each_sequence_alone() -> None:
    """What it is made for: lengths for a layer, and a mask or labels for a loss."""
    tg.manual_seed(0)
    random = np.random.default_rng(1)
    words = [random.integers(0, 9, n) for n in (4, 1, 6)]
    labels = [random.integers(0, 3, n) for n in (4, 1, 6)]
    embedding, layer, head = nn.Embedding(9, 5), rnn.GRU(5, 7), nn.Linear(7, 3)

    def scores(tokens: Any, lengths: Any = None) -> tg.Tensor:
        return head(layer(embedding(tokens), lengths=lengths)[0])

    batch = data.pad(words)
    both = scores(batch.tokens, batch.lengths)
    alone = sum(
        nn.cross_entropy(scores(w[:, None]), y[:, None], axis=-1, reduction="sum").item()
        for w, y in zip(words, labels, strict=True)
    )
    ignored = nn.cross_entropy(both, data.pad(labels, -100).tokens, axis=-1, reduction="sum")
    masked = nn.cross_entropy(
        both, data.pad(labels).tokens, mask=batch.mask, axis=-1, reduction="sum"
    )
    assert ignored.item() == pytest.approx(alone, rel=1e-5)
    assert masked.item() == pytest.approx(alone, rel=1e-5)
    counted = nn.cross_entropy(both, data.pad(labels).tokens, axis=-1, reduction="sum")
    assert counted.item() > 1.2 * alone


@pytest.mark.parametrize(
    ("sequences", "value", "error", "message"),
    [
        ([], 0, ValueError, "^pad: expected at least one sequence, got none$"),
        ([[1], 2], 0, TypeError, r"sequence 1 must be numbers of shape \(T, ...\), got int64 \(\)"),
        ([["a"]], 0, TypeError, r"sequence 0 must be numbers of shape \(T, ...\), got <U1 \(1,\)"),
        ([[1], [[1, 2]]], 0, ValueError, r"one shape, got \(\) and in sequence 1 \(2,\)$"),
        ([[1]], 0.5, TypeError, "sequences of integers cannot hold the value 0.5"),
        ([[1]], float("nan"), TypeError, "sequences of integers cannot hold the value nan"),
    ],
)
def test_what_cannot_be_padded(
    sequences: Any, value: float, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        data.pad(sequences, value)


# Buckets


@given(st.lists(st.integers(0, 20)), st.integers(1, 7), st.booleans())
def test_buckets_hold_each_sequence_once(lengths: list[int], size: int, shuffled: bool) -> None:
    """No two batches overlap in length, apart from the length at which one ends."""
    random = np.random.default_rng(3) if shuffled else None
    batches = data.bucketed(lengths, size, random)
    found = np.concatenate(batches).tolist() if batches else []
    assert sorted(found) == list(range(len(lengths)))
    assert sorted(map(len, batches), reverse=True)[:-1] == [size] * (len(batches) - 1)
    spans = sorted((min(lengths[k] for k in b), max(lengths[k] for k in b)) for b in batches)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_the_order_of_buckets() -> None:
    """In order without a generator; else the seed decides which go together and which is first."""
    lengths = np.random.default_rng(5).integers(1, 9, 200)
    plain = data.bucketed(lengths, 10)
    assert [lengths[b].min() for b in plain] == sorted(lengths[b].min() for b in plain)
    one, same, other = (data.bucketed(lengths, 10, np.random.default_rng(s)) for s in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(one, same, strict=True))
    assert {frozenset(b.tolist()) for b in one} != {frozenset(b.tolist()) for b in other}
    assert [lengths[b].min() for b in one] != sorted(lengths[b].min() for b in one)
    members = {frozenset(b.tolist()) for b in plain}
    assert {frozenset(b.tolist()) for b in one} != members


@pytest.mark.parametrize(
    ("lengths", "size", "message"),
    [
        ([1, 2], 0, "batch_size must be a positive integer, got 0"),
        ([1, 2], 2.0, "batch_size must be a positive integer, got 2.0"),
        ([1, -2], 2, r"lengths must be integers from 0 of shape \(N,\), got int64 \(2,\)"),
        ([1.5], 2, "lengths must be integers from 0"),
        ([[1]], 2, r"got int64 \(1, 1\)"),
    ],
)
def test_what_cannot_be_bucketed(lengths: Any, size: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.bucketed(lengths, size)
