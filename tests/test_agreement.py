"""Agreement over a distance: the sentences and the networks of examples/agreement.py."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

import tinygrad_rnn as tg

DECIDING = {"was or were": 1, "her ___": 6}  # the place of the word that decides


@pytest.mark.parametrize("kind", DECIDING)
def test_the_last_word_follows_from_one_word_at_the_distance(
    program: ModuleType, kind: str
) -> None:
    rng = np.random.default_rng(0)
    plurals = {program.PLURALS.get(word, f"{word}s") for word in program.ANIMALS}
    lasts = []
    for distance in program.POSSIBLE[kind]:
        for _ in range(20):
            words = program.KINDS[kind](rng, distance)
            at = DECIDING[kind]
            assert len(words) == at + distance + 1
            expected = words[at]
            if kind == "was or were":
                assert (expected in plurals) != (expected in program.ANIMALS)
                expected = "were" if expected in plurals else "was"
            assert words[-1] == expected
            assert set(words) <= set(program.every_word())
            lasts.append(words[-1])
    answers, counts = np.unique(lasts, return_counts=True)
    assert len(answers) == (2 if kind == "was or were" else len(program.PAPERS))
    assert counts.max() < 1.3 * len(lasts) / len(answers)  # no answer is much more frequent


@pytest.mark.parametrize("kind", DECIDING)
def test_what_stands_between_does_not_help(program: ModuleType, kind: str) -> None:
    """Nouns of both numbers, and other papers, stand between as often before either answer."""
    rng = np.random.default_rng(1)
    found: dict[str, list[str]] = {}
    for _ in range(300):
        words = program.KINDS[kind](rng, 40)
        found.setdefault(words[-1], []).extend(words[DECIDING[kind] + 1 : -1])
    shares = {last: {word: between.count(word) / len(between) for word in set(between)}
              for last, between in found.items()}  # fmt: skip
    one, other = list(shares.values())[:2]
    assert set(one) == set(other)
    assert max(abs(one[word] - other[word]) for word in one) < 0.015


def test_training_draws_every_distance_that_is_judged(program: ModuleType) -> None:
    rng = np.random.default_rng(0)
    for kind, possible in program.POSSIBLE.items():
        drawn = {program.some_distance(rng, kind) for _ in range(2000)}
        assert drawn == set(possible) >= set(program.JUDGED[kind])


@pytest.mark.parametrize("name", ["Elman", "GRU", "LSTM"])
def test_one_seed_is_one_network(program: ModuleType, name: str) -> None:
    size = program.Size(units=5, batch=3, updates=3, judged=4)
    with tg.replay.using(jit=False):
        models = [program.trained(name, size, seed, "cpu") for seed in (1, 1, 2)]
        shares = program.right(models[0], "her ___", size, "cpu")
    states = [model.state_dict() for model in models]
    for key, value in states[0].items():
        assert np.array_equal(value, states[1][key])
    assert not np.array_equal(states[0]["head.weight"], states[2]["head.weight"])
    assert len(shares) == len(program.JUDGED["her ___"])
    assert np.all((4 * np.array(shares)) % 1 == 0)
