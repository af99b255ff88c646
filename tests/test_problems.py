"""Problems of long memory: data/problems.py."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tinygrad_rnn import data


def test_adding_problem_marks_two_numbers_and_adds_them() -> None:
    inputs, targets = data.adding_problem(3, 11, 400)
    assert inputs.shape == (11, 400, 2)
    assert targets.shape == (400, 1)
    assert inputs.dtype == targets.dtype == np.float32
    numbers, marks = inputs[..., 0], inputs[..., 1]
    assert 0 <= numbers.min() < 0.01
    assert 0.99 < numbers.max() < 1
    assert set(np.unique(marks)) == {0, 1}
    np.testing.assert_array_equal(marks[:5].sum(axis=0), 1)  # T // 2 = 5 steps in the first half
    np.testing.assert_array_equal(marks[5:].sum(axis=0), 1)
    assert np.all(marks.sum(axis=1) > 0)  # every step is marked in some row
    for row in range(400):
        first, second = np.flatnonzero(marks[:, row])
        expected = numbers[first, row] + numbers[second, row]
        np.testing.assert_allclose(targets[row, 0], expected, rtol=1e-6)


def test_adding_problem_baseline() -> None:
    """Whoever says 1 is wrong by 1/6: the variance of two uniform numbers."""
    _, targets = data.adding_problem(0, 2, 200_000)
    assert np.mean((targets - 1) ** 2) == pytest.approx(1 / 6, rel=0.01)


def test_copy_problem_says_again_what_it_read() -> None:
    inputs, targets = data.copy_problem(5, 7, 300, length=3, symbols=4)
    assert inputs.shape == targets.shape == (10, 300)
    assert inputs.dtype.kind == targets.dtype.kind == "i"
    assert set(np.unique(inputs[:3])) == {0, 1, 2, 3}
    np.testing.assert_array_equal(inputs[3:7], 4)  # blanks
    np.testing.assert_array_equal(inputs[7:], 5)  # the mark
    np.testing.assert_array_equal(targets[:7], 4)
    np.testing.assert_array_equal(targets[7:], inputs[:3])  # D = 7 steps after each was read


def test_copy_problem_without_blanks() -> None:
    inputs, targets = data.copy_problem(0, 1, 5, length=1, symbols=2)
    np.testing.assert_array_equal(inputs[1], 3)
    np.testing.assert_array_equal(targets[1], inputs[0])


@pytest.mark.parametrize("problem", [data.adding_problem, data.copy_problem])
def test_a_seed_or_a_generator(problem: Any) -> None:
    """A seed gives the same sequences again, a generator goes on."""
    first, again, other = problem(1, 30, 8), problem(1, 30, 8), problem(2, 30, 8)
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])
    random = np.random.default_rng(1)
    np.testing.assert_array_equal(problem(random, 30, 8)[0], first[0])
    assert not np.array_equal(problem(random, 30, 8)[0], first[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.adding_problem(0, 1, 4),
         "adding_problem: steps must be an integer from 2, got 1"),
        (lambda: data.adding_problem(0, 5, 0),
         "adding_problem: batch_size must be an integer from 1, got 0"),
        (lambda: data.adding_problem(0, 5.0, 1),  # type: ignore[arg-type]
         "adding_problem: steps must be an integer from 2, got 5.0"),
        (lambda: data.copy_problem(0, 2, 4, length=3),
         "copy_problem: delay must be an integer from 3, got 2"),
        (lambda: data.copy_problem(0, 10, 4, symbols=1),
         "copy_problem: symbols must be an integer from 2, got 1"),
        (lambda: data.copy_problem(0, 5, 4, length=0),
         "copy_problem: length must be an integer from 1, got 0"),
        (lambda: data.copy_problem(0, 10, True),
         "copy_problem: batch_size must be an integer from 1, got True"),
    ],
)  # fmt: skip
def test_sizes_out_of_range(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
