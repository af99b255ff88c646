"""data/scores.py: slot F1 by the definition of CoNLL."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn import data


def scores(expected: str, predicted: str) -> data.SlotScores:
    """Of sentences parted by bars."""
    return data.slot_scores(
        *([sentence.split() for sentence in text.split("|")] for text in (expected, predicted))
    )


# (right, found, expected), counted by hand.
BY_HAND = [
    ("B-a I-a O", "B-a I-a O", (1, 1, 1)),
    ("B-a I-a O", "B-a O O", (0, 1, 1)),  # ends too soon
    ("B-a O O", "B-a I-a O", (0, 1, 1)),  # too late
    ("O B-a I-a", "B-a I-a I-a", (0, 1, 1)),  # begins too soon
    ("B-a I-a", "B-b I-b", (0, 1, 1)),  # another type
    ("B-a I-a", "O O", (0, 0, 1)),
    ("O O", "B-a I-a", (0, 1, 0)),
    ("O O", "O O", (0, 0, 0)),
    ("B-a I-a B-a", "B-a I-a I-a", (0, 1, 2)),  # two spans run together
    ("B-a B-a B-b", "B-a B-a O", (2, 2, 3)),
    # Predictions that are not well formed: I after O, and another type without a B.
    ("B-a I-a O", "I-a I-a O", (1, 1, 1)),
    ("O B-a", "O I-a", (1, 1, 1)),
    ("B-a B-b", "B-a I-b", (2, 2, 2)),
    ("B-a I-a I-a", "B-a I-b I-a", (0, 3, 1)),
    ("B-a B-a", "B-a I-a", (0, 1, 2)),
    # A sentence ends what is in it.
    ("B-a | I-a", "B-a | I-a", (2, 2, 2)),
    ("B-a | B-a", "B-a | I-a", (2, 2, 2)),
    ("O B-a | I-a O", "O B-a | O O", (1, 1, 2)),
]


@pytest.mark.parametrize(("expected", "predicted", "counts"), BY_HAND)
def test_by_hand(expected: str, predicted: str, counts: tuple[int, int, int]) -> None:
    overall = scores(expected, predicted).overall
    assert overall == counts
    right, found, wanted = counts
    assert overall.precision == (right / found if found else 0)
    assert overall.recall == (right / wanted if wanted else 0)


def test_shares() -> None:
    """2 of 3 found are right, 2 of 5 expected: F1 = 2 (2/3) (2/5) / (2/3 + 2/5) = 1/2."""
    found = scores("B-a B-a B-b O | B-b B-c", "B-a B-a B-c O | O O")
    assert found.overall == (2, 3, 5)
    assert found.overall.precision == pytest.approx(2 / 3)
    assert found.overall.recall == pytest.approx(2 / 5)
    assert found.overall.f1 == pytest.approx(1 / 2)
    assert found.by_type == {"a": (2, 2, 2), "b": (0, 0, 2), "c": (0, 1, 1)}
    assert list(found.by_type) == ["a", "b", "c"]
    assert [score.f1 for score in found.by_type.values()] == [1, 0, 0]


sentences = st.lists(
    st.lists(st.tuples(*[st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"])] * 2)), max_size=5
)


def conlleval(pairs: list[tuple[str, str]]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """The counts as the script of CoNLL-2000 takes them: word by word, with no list of spans.

    A word asks of the one before whether a span ends between the two, and whether one begins; a
    span is right where both sides began it at once, were of one type, and end it at once.
    """

    def ends(before: tuple[str, str], now: tuple[str, str]) -> bool:
        return before[0] != "O" and (now[0] != "I" or now[1] != before[1])

    def begins(before: tuple[str, str], now: tuple[str, str]) -> bool:
        return now[0] == "B" or (now[0] == "I" and (before[0] == "O" or before[1] != now[1]))

    right, found, wanted = Counter[str](), Counter[str](), Counter[str]()
    correct = False
    old_true, old_guess = ("O", ""), ("O", "")
    for pair in [*pairs, ("O", "O")]:
        true, guess = ((tag[0], tag[2:]) for tag in pair)
        over = ends(old_true, true), ends(old_guess, guess)
        new = begins(old_true, true), begins(old_guess, guess)
        if correct and all(over):
            right[old_true[1]] += 1
        if any(over):
            correct = False
        wanted[true[1]] += new[0]
        found[guess[1]] += new[1]
        if any(new):
            correct = all(new) and true[1] == guess[1]
        old_true, old_guess = true, guess
    return right, found, wanted


@given(sentences)
def test_any_tags_as_the_script_counts_them(pairs: list[list[tuple[str, str]]]) -> None:
    found = data.slot_scores([[a for a, _ in s] for s in pairs], [[b for _, b in s] for s in pairs])
    # The script reads an empty line between sentences as a word outside.
    right, guessed, wanted = conlleval([pair for s in pairs for pair in [*s, ("O", "O")]])
    for kind in "ab":
        score = found.by_type.get(kind, data.Score(0, 0, 0))
        assert score == (right[kind], guessed[kind], wanted[kind])
    assert found.overall == (right.total(), guessed.total(), wanted.total())
    p, r = found.overall.precision, found.overall.recall
    assert found.overall.f1 == pytest.approx(2 * p * r / (p + r) if p + r else 0)


@given(sentences)
def test_the_truth_is_right(pairs: list[list[tuple[str, str]]]) -> None:
    tags = [[a for a, _ in s] for s in pairs]
    overall = data.slot_scores(tags, tags).overall
    assert overall.right == overall.found == overall.expected
    assert overall.f1 == (1 if overall.expected else 0)


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"^slot_scores: 2 sentences expected and 1 predicted$"):
        scores("O | O", "O")
    with pytest.raises(ValueError, match="sentence 1 has 2 tags and 3 predicted ones"):
        scores("O | O O", "O | O O O")
    with pytest.raises(ValueError, match="a tag must be O, B-type or I-type, got 'city'"):
        scores("O", "city")
