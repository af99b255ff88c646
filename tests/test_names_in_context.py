"""A name that only the words after it explain: examples/names_in_context.py."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

import tinygrad_rnn as tg


def test_sentences_come_in_balanced_pairs(program: ModuleType) -> None:
    """The same words up to the third, which is a name in one of the two."""
    sentences = program.make_sentences(200, np.random.default_rng(1))
    assert len(sentences) == 200
    for person, thing in zip(sentences[::2], sentences[1::2], strict=True):
        assert person.words[: program.ASKED + 1] == thing.words[: program.ASKED + 1]
        assert person.words[program.ASKED] in program.NAMES
        assert person.words[program.ASKED + 1] != thing.words[program.ASKED + 1]
        assert person.tags[program.ASKED :][:3] == ["B-person", "I-person", "O"]
        assert set(thing.tags) == {"O"}
        for sentence in (person, thing):
            assert len(sentence.words) == len(sentence.tags)
    assert len({tuple(words) for words, _ in sentences}) > 100


@pytest.mark.parametrize("network", ["Elman", "GRU", "LSTM", "bidirectional"])
def test_what_a_network_sees(program: ModuleType, network: str) -> None:
    """Scores of a word depend on the words after it in a bidirectional network alone."""
    tg.manual_seed(3)
    model = program.Tagger(network, 9, 5)
    words = np.random.default_rng(2).integers(0, 9, (6, 4))
    other = words.copy()
    other[3:] = (other[3:] + 1) % 9
    a, b = (model(tg.tensor(w), np.array([6, 4, 6, 6])).numpy()[:3] for w in (words, other))
    assert a.shape == (3, 4, 3)
    assert (np.abs(a - b).max() > 1e-3) == (network == "bidirectional")
    alone = model(tg.tensor(words[:4, 1:2]), np.array([4])).numpy()[:3, 0]
    np.testing.assert_allclose(a[:, 1], alone, atol=1e-6)


def test_forward_guesses_and_bidirectional_knows(program: ModuleType) -> None:
    """Exactly half of balanced pairs, whatever was learnt."""
    options = argparse.Namespace(sentences=200, epochs=8, size=16, device="cpu")
    third, others, names = program.train("Elman", options, seed=5)
    assert third == 50
    assert names[0] == pytest.approx(names[1], abs=1e-6)
    assert others > 95
    third, others, names = program.train("bidirectional", options, seed=5)
    assert third > 99
    assert names[0] > 0.9 > 0.1 > names[1]
    assert others > 95


def test_wrong_options(main: Callable[..., None]) -> None:
    for arguments, message in (
        (["--device", "tpu"], r"^names_in_context: device 'tpu' is unknown"),
        (["--seeds", "-1"], "^names_in_context: --seeds must be at least 1"),
    ):
        with pytest.raises(SystemExit, match=message):
            main("--quick", *arguments)
