"""Problems of long memory, made by rule: what a network has to hold over many steps."""

from __future__ import annotations

from typing import Any

import numpy as np


def adding_problem(
    random: np.random.Generator | int, steps: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of numbers, two of which are marked, and the sums of the two.

    Every step has a number, uniform on [0, 1), and a mark, which is 1 at one step of the first half
    and at one of the second, and 0 elsewhere. Whoever always says 1 is wrong by 1/6 in the mean of
    squares.
    Source: Hochreiter, Schmidhuber 1997, with numbers and marks as in Le, Jaitly, Hinton 2015; the
    halves are those of Arjovsky, Shah, Bengio 2016, [0, T // 2) and [T // 2, T).

    Parameters
    ----------
    random : a generator to draw from, or the seed of one.
    steps, batch_size : T, at least 2, and B, at least 1.

    Returns
    -------
    (inputs, targets), float32: (T, B, 2) with the numbers first and the marks second, and (B, 1).

    >>> inputs, targets = adding_problem(0, steps=6, batch_size=1)
    >>> inputs[:, 0].T.round(2)
    array([[0.85, 0.64, 0.51, 0.27, 0.31, 0.04],
           [1.  , 0.  , 0.  , 1.  , 0.  , 0.  ]], dtype=float32)
    >>> targets.round(2)
    array([[1.12]], dtype=float32)

    Raises
    ------
    ValueError
        where T or B is out of its range.
    """
    _check("adding_problem", 2, steps=steps)
    _check("adding_problem", 1, batch_size=batch_size)
    random = np.random.default_rng(random)
    numbers = random.random((steps, batch_size), np.float32)
    marks = np.zeros_like(numbers)
    rows = np.arange(batch_size)
    marks[random.integers(0, steps // 2, batch_size), rows] = 1
    marks[random.integers(steps // 2, steps, batch_size), rows] = 1
    targets = np.sum(numbers * marks, axis=0)[:, None]
    return np.stack([numbers, marks], axis=-1), targets


def copy_problem(
    random: np.random.Generator | int,
    delay: int,
    batch_size: int,
    length: int = 10,
    symbols: int = 8,
) -> tuple[np.ndarray, np.ndarray]:
    """Symbols that have to be said again, in their order, after a delay.

    The inputs are K random symbols, then blanks, then K steps of a mark, during which the K symbols
    are the targets; before them the target is the blank. From the step at which a symbol is read to
    the one at which it is to be said are D steps. Whoever remembers nothing is wrong by
    K log(S) / (K + D) nats a step.
    Source: Hochreiter, Schmidhuber 1997; Arjovsky, Shah, Bengio 2016, who mark one step only, and
    have K = 10 and S = 8.

    Parameters
    ----------
    random : a generator to draw from, or the seed of one.
    delay, batch_size : D, at least K, and B, at least 1.
    length, symbols : K, at least 1, and S, at least 2.

    Returns
    -------
    (inputs, targets), integers (T, B), T = D + K: symbols are 0 to S - 1, the blank is S, the mark
    S + 1.

    >>> inputs, targets = copy_problem(0, delay=5, batch_size=1, length=3)
    >>> inputs.T
    array([[6, 5, 4, 8, 8, 9, 9, 9]])
    >>> targets.T
    array([[8, 8, 8, 8, 8, 6, 5, 4]])

    Raises
    ------
    ValueError
        where one of these sizes is out of its range.
    """
    _check("copy_problem", 1, batch_size=batch_size, length=length)
    _check("copy_problem", length, delay=delay)
    _check("copy_problem", 2, symbols=symbols)
    given = np.random.default_rng(random).integers(0, symbols, (length, batch_size))
    inputs = np.full((delay + length, batch_size), symbols)
    targets = inputs.copy()
    inputs[:length], inputs[delay:] = given, symbols + 1
    targets[delay:] = given
    return inputs, targets


def _check(who: str, lowest: int, **sizes: Any) -> None:
    for name, size in sizes.items():
        whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
        if isinstance(size, np.random.Generator):
            raise TypeError(f"{who}: the generator, or its seed, comes first, got it as {name}")
        if not whole or size < lowest:
            raise ValueError(f"{who}: {name} must be an integer from {lowest}, got {size!r}")
