"""How good predictions are: accuracy, precision, recall and F1 of classes, perplexity, bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_rnn.data.scores import Score


def accuracy(expected: Any, predicted: Any) -> float:
    """The share of predictions that are right, for classes of any shape.

    >>> accuracy([1, 0, 0, 1], [1, 1, 0, 1])
    0.75

    Raises
    ------
    ValueError
        where there is nothing to predict, or the two have different shapes.
    """
    expected, predicted = _classes("accuracy", expected, predicted)
    return float(np.mean(expected == predicted))


def class_score(expected: Any, predicted: Any, of: int = 1) -> Score:
    """How often a class is predicted rightly, predicted, and expected: precision, recall, F1.

    For two classes, 0 and 1, that of the positive one says it all beside the accuracy. For more
    take each class in turn; the mean of their F1 is called the macro average.

    Parameters
    ----------
    expected, predicted : integers of the same shape, the right classes and those that are judged.
    of : the class.

    >>> score = class_score(expected=[1, 1, 1, 0, 0], predicted=[1, 0, 0, 1, 0])
    >>> score
    Score(right=1, found=2, expected=3)
    >>> score.precision, round(score.recall, 3), score.f1
    (0.5, 0.333, 0.4)

    Raises
    ------
    ValueError
        where there is nothing to predict, or the two have different shapes.
    """
    expected, predicted = _classes("class_score", expected, predicted)
    right = (expected == of) & (predicted == of)
    return Score(int(right.sum()), int((predicted == of).sum()), int((expected == of).sum()))


def perplexity(nats: float, count: int) -> float:
    """exp(nats / count), for the sum of -ln p over ``count`` tokens.

    A model that finds k tokens equally likely at every step has perplexity k. It is inf where
    a float cannot hold it.

    >>> round(perplexity(nats=3 * math.log(40), count=3), 9)
    40.0

    Raises
    ------
    ValueError
        where there are no tokens, or ``nats`` is not a number from 0.
    """
    _check("perplexity", nats, count)
    try:
        return math.exp(nats / count)
    except OverflowError:
        return math.inf


def bits_per_character(nats: float, count: int) -> float:
    """The mean nats / (count ln 2), for the sum of -ln p over ``count`` characters or tokens.

    >>> bits_per_character(nats=10 * math.log(2), count=4)
    2.5

    Raises
    ------
    ValueError
        where there are no characters, or ``nats`` is not a number from 0.
    """
    _check("bits_per_character", nats, count)
    return nats / count / math.log(2)


def _check(who: str, nats: float, count: int) -> None:
    if not count >= 1:
        raise ValueError(f"{who}: count must be at least 1, got {count}")
    if not nats >= 0:
        raise ValueError(f"{who}: nats, the sum of -ln p, must be a number from 0, got {nats}")


def _classes(who: str, expected: Any, predicted: Any) -> tuple[np.ndarray, np.ndarray]:
    expected, predicted = np.asarray(expected), np.asarray(predicted)
    if expected.shape != predicted.shape:
        raise ValueError(
            f"{who}: expected and predicted must have one shape, got {expected.shape} and "
            f"{predicted.shape}"
        )
    if not expected.size:
        raise ValueError(f"{who}: expected at least one prediction, got none")
    for classes in (expected, predicted):
        if classes.dtype.kind not in "iub":
            raise TypeError(f"{who}: classes must be integers, got {classes.dtype}")
    return expected, predicted
