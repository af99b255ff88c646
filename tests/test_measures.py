"""data/measures.py and data/ngrams.py, on cases worked by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn import data

# Classes


def test_two_classes_by_hand() -> None:
    """Of 4 spam messages 3 are found, with 2 false alarms among 6: 3/5, 3/4, 6/9; 7/10 right."""
    expected = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    predicted = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]
    assert data.accuracy(expected, predicted) == 0.7
    score = data.class_score(expected, predicted)
    assert score == (3, 5, 4)
    assert (score.precision, score.recall, score.f1) == (3 / 5, 3 / 4, 6 / 9)
    # The other class: 4 of 5 that are said to be it, 4 of 6 that are.
    assert data.class_score(expected, predicted, of=0) == (4, 5, 6)
    assert data.class_score(predicted, expected) == (3, 4, 5)


def test_three_classes_by_hand() -> None:
    """Of any shape; class 7 is predicted and never occurs."""
    expected = np.array([[0, 0, 2], [2, 2, 2]])
    predicted = np.array([[0, 2, 2], [2, 7, 0]])
    assert data.accuracy(expected, predicted) == 0.5
    assert data.class_score(expected, predicted, of=2) == (2, 3, 4)
    never = data.class_score(expected, predicted, of=7)
    assert never == (0, 1, 0)
    assert (never.precision, never.recall, never.f1) == (0, 0, 0)


def test_nothing_predicted_and_nothing_there() -> None:
    """0 / 0 counts as 0, in each of the three places where it occurs."""
    for expected, predicted in (([1, 0, 1], [0, 0, 0]), ([0, 0], [0, 1]), ([0, 0], [0, 0])):
        score = data.class_score(expected, predicted)
        assert (score.precision, score.recall, score.f1) == (0.0, 0.0, 0.0)
    score = data.class_score([False, True], [False, True])
    assert (score.precision, score.recall, score.f1) == (1.0, 1.0, 1.0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_measures_agree_with_each_other(pairs: list[tuple[int, int]]) -> None:
    """F1 is the harmonic mean, and accuracy the mean of recalls weighted by occurrence."""
    expected, predicted = np.array(pairs).T
    recalled = 0.0
    for k in range(4):
        score = data.class_score(expected, predicted, of=k)
        if score.precision and score.recall:
            assert score.f1 == pytest.approx(2 / (1 / score.precision + 1 / score.recall))
        else:
            assert score.f1 == 0
        recalled += score.recall * np.mean(expected == k)
    assert data.accuracy(expected, predicted) == pytest.approx(recalled)


@pytest.mark.parametrize("measure", [data.accuracy, data.class_score])
def test_bad_classes(measure: Any) -> None:
    name = measure.__name__
    with pytest.raises(ValueError, match=rf"^{name}: expected at least one prediction, got none$"):
        measure([], [])
    with pytest.raises(ValueError, match=r"must have one shape, got \(2,\) and \(3,\)$"):
        measure([0, 1], [0, 1, 1])
    with pytest.raises(TypeError, match=f"^{name}: classes must be integers, got float64$"):
        measure([0, 1], [0.2, 0.9])


# Language models


def test_perplexity_by_hand() -> None:
    """Probabilities 1/2, 1/4, 1/8: 1 + 2 + 3 bits for three tokens, and 2^2 choices at each."""
    nats = -sum(math.log(p) for p in (1 / 2, 1 / 4, 1 / 8))
    assert data.perplexity(nats, 3) == pytest.approx(4, rel=1e-15)
    assert data.bits_per_character(nats, 3) == pytest.approx(2, rel=1e-15)
    assert data.perplexity(3 * math.log(40), 3) == pytest.approx(40)
    assert data.perplexity(0.0, 5) == 1.0
    assert data.bits_per_character(0.0, 5) == 0.0


@pytest.mark.parametrize("nats", [1e6, math.inf])
def test_a_hopeless_model(nats: float) -> None:
    assert data.perplexity(nats, 2) == math.inf


@pytest.mark.parametrize("measure", [data.perplexity, data.bits_per_character])
def test_bad_sums(measure: Any) -> None:
    name = measure.__name__
    with pytest.raises(ValueError, match=f"^{name}: count must be at least 1, got 0$"):
        measure(0.0, 0)
    for nats in (-0.5, math.nan):
        with pytest.raises(
            ValueError, match=rf"^{name}: nats, .*must be a number from 0, got {nats}"
        ):
            measure(nats, 3)


# Trigrams


def test_kneser_ney_by_hand() -> None:
    """The worked case of a b c a b d: every count is written out.

    Trigrams abc, bca, cab, abd; so before bc, ca, ab, bd stands one token each; so before c, d, a,
    b stands one each (b, b, c, a).
    """
    a, b, c, d, unseen = range(5)
    model = data.KneserNey([a, b, c, a, b, d], classes=5, order=3, discount=0.25)
    one = 0.75 / 4 + 0.25 * 4 / 4 / 5  # p(a) = p(b) = p(c) = p(d)
    none = 0.25 * 4 / 4 / 5
    two = 0.75 / 2 + 0.25 * 2 / 2 * one  # p(c | b)
    three = 0.75 / 2 + 0.25 * 2 / 2 * two  # p(c | a b)
    np.testing.assert_allclose(
        model.probabilities([a, b, c, unseen, c]),
        # p(b | a) = 0.75 / 1 + 0.25 p(b); p(unseen | b c) knows that a follows; the history of
        # the last one was never seen, and so it is p(c).
        [one, 0.75 + 0.25 * one, three, 0.25 * 0.25 * none, one],
        rtol=1e-14,
    )


def test_counts_of_contexts_and_not_of_occurrences() -> None:
    """The point of Kneser-Ney: "francisco" is frequent and follows "san" alone."""
    san, francisco, the, of, rare = range(5)
    text = [san, francisco] * 20 + [the, of, rare, of, the, rare, the, of, san, the]
    model = data.KneserNey(text, classes=6, order=2)
    alone = model.probabilities([5, francisco])[1], model.probabilities([5, the])[1]
    assert alone[0] < alone[1]
    assert model.probabilities([san, francisco])[1] > 0.9


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("discount", [None, 0.01, 0.99])
def test_probabilities_sum_to_one(order: int, discount: float | None) -> None:
    """After every history, seen or not; the last class does not occur in the text at all."""
    random = np.random.default_rng(order)
    text = random.integers(0, 4, 60)
    model = data.KneserNey(text, classes=5, order=order, discount=discount)
    for history in itertools.product(range(5), repeat=order - 1):
        p = [model.probabilities([*history, token])[-1] for token in range(5)]
        assert min(p) > 0
        assert sum(p) == pytest.approx(1, abs=1e-12)


def test_estimated_discounts() -> None:
    """n1 / (n1 + 2 n2): of the tokens 0 ... 5 three occur once, one twice, so D = 3 / 5."""
    text = [0, 1, 2, 3, 3, 4, 4, 4]
    model = data.KneserNey(text, classes=6, order=1)
    same = data.KneserNey(text, classes=6, order=1, discount=3 / 5)
    np.testing.assert_array_equal(model.probabilities(range(6)), same.probabilities(range(6)))
    share = 0.6 * 5 / 8 / 6  # of what is taken from the five, for each of six
    np.testing.assert_allclose(model.probabilities([4, 5]), [(3 - 0.6) / 8 + share, share])


def test_more_context_helps() -> None:
    """On the language reference, where perplexity falls from order to order."""
    text = data.python_reference()
    vocabulary = data.Vocabulary.of(text)
    numbers = vocabulary.encode(text)
    reading, rest = data.split_held_out(numbers)
    found: list[float] = []
    for order in (1, 2, 3):
        p = data.KneserNey(reading, len(vocabulary), order).probabilities(rest)
        found.append(data.bits_per_character(float(-np.log(p).sum()), len(p)))
    assert found[0] > found[1] + 0.5 > found[2] + 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"discount": 0.0}, ValueError, "discount must satisfy 0 < discount < 1, got 0.0"),
        ({"discount": 1.0}, ValueError, "discount must satisfy 0 < discount < 1, got 1.0"),
        ({"discount": math.nan}, ValueError, "discount must satisfy 0 < discount < 1, got nan"),
        ({"order": 0}, ValueError, "got order 0 and 5 classes"),
        ({"order": 40}, ValueError, r"below 2\*\*63, got order 40 and 5 classes"),
        ({"order": 8}, ValueError, "the text has fewer than 8 tokens"),
        ({"classes": 4}, IndexError, "token 4 is out of range for 4 classes"),
        ({"tokens": [0, -1, 2]}, IndexError, "token -1 is out of range for 5 classes"),
        ({"tokens": [0.5, 1.0, 2.0]}, TypeError, r"must be integers of shape \(N,\), got float64"),
        ({"tokens": [[0, 1], [2, 3]]}, TypeError, r"got int64 \(2, 2\)"),
    ],
)
def test_bad_counting(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^KneserNey: .*{message}"):
        data.KneserNey(**({"tokens": [0, 1, 2, 3, 4, 0], "classes": 5} | arguments))
